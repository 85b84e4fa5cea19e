"""Write docs/reference/commands.md from the commands' own help, and the table of settings.md; tests compare both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from bindu.dspy.cli.app import app
from bindu.dspy.cli.config import setting_kinds
from bindu.setting_texts import MEANINGS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/commands.md"
SETTINGS = ROOT / "docs/reference/settings.md"
COMMON = ("--json", "--dry-run", "--agent")

HEAD = """# Commands

What `bindu` can do, from its own help (`make docs` writes this page). `bindu COMMAND --help` says the same.

| exit code | meaning |
|---|---|
| 0 | done, or nothing to do |
| 1 | unexpected; a check found something (`audit verify`, `canary check`, `doctor`); a job failed (`worker --once`) |
| 2 | usage: an unknown option, a value or a file that cannot be |
| 3 | refused by a guard: an experiment runs or none does, too little data, a text that lost before |
| 4 | the configuration, the database or the model: misspelt, missing, unreachable |
| 5 | a limit of calls, money or minutes was hit; a checkpoint is kept |
| 130 | interrupted |

Errors are one sentence on standard error, `error: ...`. Without a terminal nothing is ever asked and no progress is \
drawn; `NO_COLOR` is honoured. Where a command has them:

| option | meaning |
|---|---|
| `--json` | one JSON object on standard output; logs go to standard error |
| `--dry-run` | say what would be done and change nothing |
| `--agent NAME` | whose prompt; default `DSPY__AGENT_ID` |
"""


def reference() -> str:
    """The page of all commands, in the order of the help."""
    sections = [_section(f"bindu {path}", command) for path, command in commands()]
    return "\n".join([HEAD, *sections])


def settings_table() -> str:
    """The rows of the reference of settings."""
    shown = {key: "" if default is None else str(default) for key, (_, default) in setting_kinds().items()}
    rows = [f"| `{key}` |{f' {default}' if default else ''} | {MEANINGS[key]} |" for key, default in shown.items()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def settings_page(text: str) -> str:
    """The page with its table as the code says now."""
    return re.sub(
        r"^\| variable \|.*?(?:\n(?!\|)|\Z)", lambda _: settings_table(), text, flags=re.DOTALL | re.MULTILINE
    )


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words after ``bindu``."""
    yield from _walk(typer.main.get_command(app), "")


def _walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None or getattr(command, "invoke_without_command", False):
        yield path, command
    for name, child in (children or {}).items():
        yield from _walk(child, f"{path} {name}".strip())


def _section(path: str, command: Any) -> str:
    told, _, example = (command.help or "").partition("Example:")
    shown = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    options = [one for one in shown if one.param_type_name == "option" and one.opts[0] not in COMMON]
    common = [f"`{name}`" for one in shown for name in COMMON if name in one.opts and one.opts[0] in COMMON]
    usage = " ".join([path, *map(_argument, arguments), *(["[OPTIONS]"] if len(shown) > len(arguments) else [])])
    parts = [f"## {path}", _prose(told), f"```text\n{usage}\n```", f"Example: `{_line(example)}`"]
    rows = [_row(one) for one in (*arguments, *options)]
    if rows:
        parts.append("\n".join(["| option | default | meaning |", "|---|---|---|", *rows]))
    if common:
        parts.append(f"Also {', '.join(common)}.")
    return "\n\n".join(parts) + "\n"


def _argument(one: Any) -> str:
    name = one.metavar or (one.name or "").upper()
    return name if one.required else f"[{name}]"


def _row(one: Any) -> str:
    if one.param_type_name == "argument":
        name = _argument(one)
    else:
        name = " / ".join([*one.opts, *one.secondary_opts])
        name = name if one.is_flag else f"{name} {one.metavar or _kind(one)}"
    default = one.default
    if isinstance(default, list | tuple):
        default = " ".join(default)
    shown = "" if default is None or isinstance(default, bool) or callable(default) else f" {default}"
    return f"| `{name}` |{shown} | {_line(one.help or '')} |".replace("'*'", "`'*'`")


def _kind(one: Any) -> str:
    kinds = {int: "N", float: "X", Path: "PATH"}
    kind = kinds.get(one.type_descriptor.annotation, "TEXT")
    most = None if one.max == 2**31 - 1 else one.max
    if one.min is not None and most is not None:
        return f"{kind} ({one.min} to {most})"
    return kind if one.min is None else f"{kind} (at least {one.min})"


def _prose(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n") if part.strip())


def _line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    SETTINGS.write_text(settings_page(SETTINGS.read_text(encoding="utf-8")), encoding="utf-8")
