"""Each example is its framework's hello world, which stands in ``tests/data/hello_worlds``, with few changed lines."""

from __future__ import annotations

import ast
from difflib import SequenceMatcher
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*_hello.py"))
MARK = "  # bindu"
MORE = {"asgi_hello": 5}  # changed lines; all others have three


def code_of(path: Path) -> list[str]:
    """Its lines without the module's docstring and blank ones."""
    text = path.read_text(encoding="utf-8")
    first = ast.parse(text).body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return [line for line in text.splitlines()[first.end_lineno if is_docstring else 0 :] if line.strip()]


def test_every_framework_that_is_tested_has_an_example_and_a_place_in_the_guide() -> None:
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "frameworks").glob("test_*.py")}
    assert tested == {path.stem.removesuffix("_hello") for path in EXAMPLES}
    guide = (ROOT / "docs" / "how-to" / "connect-your-agent.md").read_text()
    assert all(f"examples/{path.name}" in guide for path in EXAMPLES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_differs_from_the_hello_world_by_its_marked_lines_alone(path: Path) -> None:
    plain, ours = code_of(ROOT / "tests/data/hello_worlds" / path.name), code_of(path)
    assert "bindu" not in "".join(plain)
    compile("\n".join(plain), path.name, "exec")
    compile("\n".join(ours), path.name, "exec")
    changed: list[str] = []
    for tag, begin, end, ours_begin, ours_end in SequenceMatcher(None, plain, ours, autojunk=False).get_opcodes():
        if tag != "equal":
            assert end - begin <= ours_end - ours_begin, plain[begin:end]  # no line is only left out
            changed += ours[ours_begin:ours_end]
    assert changed == [line for line in ours if line.endswith(MARK)]
    assert len(changed) == MORE.get(path.stem, 3)


def test_the_readers_are_told_how_many_lines_change() -> None:
    for place in ("examples/README.md", "docs/how-to/connect-your-agent.md", "CHANGELOG.md"):
        text = (ROOT / place).read_text(encoding="utf-8")
        assert "three changed lines, five in an ASGI application" in text, place
