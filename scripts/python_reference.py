"""Write docs/reference/python.md from signatures and docstrings; a test compares the file with ``reference()``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import bindu.dspy
from bindu.dspy import errors

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/python.md"
WIDE = 110  # characters of a signature on one line

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

HEAD = """# Python

What programs may rely on, from its signatures and docstrings (`make docs` writes this page). \
Names marked with a star are also in `bindu.dspy`, where they load on first use: `from bindu.dspy import record_task`.

Times (`now`) have a time zone; None is the database's. `agent_id=None` is `DSPY__AGENT_ID`. Functions declared \
`async` belong to the running event loop, which ends with `stop_prompt_refresh()` and `close_storage()`.
"""

SECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "Serve and record": {
        "prompt_selector": ("select_prompt_with_canary", "refresh_prompts", "stop_prompt_refresh"),
        "collector": ("record_task", "record_feedback"),
        "storage": ("close_storage",),
    },
    "In a framework": {
        "integrations": ("prompt_handle", "PromptHandle", "turn", "recorded", "recorded_async", "flush")
    },
    "Prompts": {
        "prompts": (
            "bootstrap_prompt",
            "get_active_prompt",
            "get_candidate_prompt",
            "insert_prompt",
            "update_prompt_traffic",
            "update_prompt_status",
            "zero_out_all_except",
        ),
    },
    "Train": {
        "guard": ("ensure_system_stable",),
        "train": ("train_async", "train", "run_training"),
        "training.job": ("Limits",),
    },
    "The golden dataset": {
        "dataset": ("build_golden_dataset", "build_dataset", "convert_to_dspy_examples"),
        "extractor": ("InteractionExtractor",),
        "models": ("Interaction", "PromptCandidate"),
    },
    "Strategies": {
        "strategies.registry": ("get_strategy", "parse_strategy"),
        "strategies.base": ("BaseExtractionStrategy", "CutStrategy", "TurnStrategy", "Cut", "parse_turns"),
        "strategies.last_turn": ("LastTurnStrategy",),
        "strategies.full_history": ("FullHistoryStrategy",),
        "strategies.last_n_turns": ("LastNTurnsStrategy",),
        "strategies.first_n_turns": ("FirstNTurnsStrategy",),
        "strategies.context_window": ("ContextWindowStrategy",),
        "strategies.sliding_window": ("SlidingWindowStrategy",),
        "strategies.summary_context": ("SummaryContextStrategy",),
        "strategies.key_turns": ("KeyTurnsStrategy",),
        "strategies.similarity": ("SimilarityStrategy",),
    },
    "The canary": {
        "canary.controller": ("run_canary_controller", "run_step", "compare_metrics", "promote_step", "rollback_step"),
    },
    "How it stands": {"insights.status": ("agent_status",), "reports": ("AgentStatus", "PromptReport", "TrialReport")},
}


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, modules in SECTIONS.items():
        parts.append(f"\n## {title}\n")
        for module, names in modules.items():
            parts += (described(module, name) for name in names)
    tree = (errors.__doc__ or "").partition("\n\n")[2]
    parts.append(f"\n## Errors\n\n{errors.BinduError.__doc__} Each is also the built-in error beside it.\n")
    parts.append(f"\n```\n{tree.strip()}\n```\n")
    return "".join(parts)


def described(module: str, name: str) -> str:
    """One function or class: where it is, how it is called, what it says of itself."""
    node = definitions(module)[name]
    star = " ★" if name in bindu.dspy.__all__ else ""
    text = f"\n### {name}{star}\n\n`{imported_from(module)}`\n\n```python\n{declared(node, module)}\n```\n"
    if said := prose(node):
        text += f"\n{said}\n"
    if isinstance(node, ast.ClassDef):
        text += "".join(method(one, module) for one in public_methods(node))
    return text


def imported_from(module: str) -> str:
    """The package, for what packages hand on."""
    package = module.partition(".")[0]
    handed_on = {"training": "train", "strategies": "strategies", "insights": "insights"}
    return f"bindu.dspy.{handed_on.get(package, module)}"


def method(node: ast.FunctionDef | ast.AsyncFunctionDef, module: str) -> str:
    return f"\n```python\n{declared(node, module)}\n```\n\n{prose(node)}\n"


def public_methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Those that say something of themselves; the others do what the base class says."""
    for one in node.body:
        if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) or not prose(one):
            continue
        if not one.name.startswith("_") or one.name == "__call__":
            yield one


@cache
def source(module: str) -> list[str]:
    return file_of(module).read_text(encoding="utf-8").splitlines()


def file_of(module: str) -> Path:
    path = ROOT / "src/bindu/dspy" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def definitions(module: str) -> dict[str, Definition]:
    """What a module defines, and what it hands on."""
    found: dict[str, Definition] = {}
    for node in ast.parse("\n".join(source(module))).body:
        if isinstance(node, Definition):
            found[node.name] = node
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"bindu.dspy.{module}."):
            inner = definitions((node.module or "").removeprefix("bindu.dspy."))
            found |= {alias.asname or alias.name: inner[alias.name] for alias in node.names if alias.name in inner}
    return found


def declared(node: Definition, module: str) -> str:
    if isinstance(node, ast.ClassDef):
        return "\n".join([class_line(node), *fields(node, module)])
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    gives = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    given = parameters(node.args)
    line = f"{kind} {node.name}({', '.join(given)}){gives}"
    if len(line) <= WIDE:
        return line
    return "\n".join([f"{kind} {node.name}(", *(f"    {one}," for one in given), f"){gives}"])


def class_line(node: ast.ClassDef) -> str:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    line = f"class {node.name}" + (f"({bases})" if bases else "")
    return f"{line}\n    def __init__({', '.join(parameters(made.args))})" if made else line


def fields(node: ast.ClassDef, module: str) -> Iterator[str]:
    """Attributes with a type, and the comments beside them."""
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and not one.target.id.startswith("_"):
            _, mark, why = source_line(module, node.name, one.lineno).partition("  # ")
            yield f"    {ast.unparse(one)}{f'  # {why}' if mark else ''}"


def source_line(module: str, name: str, number: int) -> str:
    """A line of the file in which the class stands, which may be one that the module hands on."""
    return source(home_of(module, name))[number - 1]


def home_of(module: str, name: str) -> str:
    for node in ast.parse("\n".join(source(module))).body:
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            return home_of((node.module or "").removeprefix("bindu.dspy."), name)
    return module


def parameters(given: ast.arguments) -> list[str]:
    """Each as people write it."""
    marked = ast.unparse(given)
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(marked):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(marked[start:place])
            start = place + 1
    spaced = (re.sub(r"^(\w+: [^=]+)=", r"\1 = ", part.strip()) for part in [*parts, marked[start:]])
    return [part for part in spaced if part]


def prose(node: Definition) -> str:
    said = ast.get_docstring(node) or ""
    return re.sub(r"``(.+?)``", r"`\1`", said, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
