"""The documentation's commands and code run as printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BIN = str(Path(sys.executable).parent)
SAMPLE = (
    '{"id": "a1", "conversation_id": "c1", "messages": [{"role": "user", "content": "Where is my parcel?"},'
    ' {"role": "assistant", "content": "It arrives on Friday."}], "feedback": {"rating": 4}}\n'
)


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def files(document: str) -> list[tuple[str, str]]:
    """What the reader is told to save, by name."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(r"Save this as `(\S+)`:\n\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(command: list[str], *, cwd: Path, url: str) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "STORAGE__POSTGRES_URL": url, "HOME": str(cwd), "NO_COLOR": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_the_readmes_python_and_commands_run_as_printed(tmp_path: Path, postgres_url: str) -> None:
    [code] = blocks("README.md", "python")
    done = run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, url=postgres_url)
    assert (done.returncode, done.stderr) == (0, "")
    for block in blocks("README.md", "bash"):
        done = run(["bash", "-euc", block], cwd=tmp_path, url=postgres_url)
        assert done.returncode == 0, done.stderr
        assert "friendly support agent" in done.stdout


@pytest.mark.parametrize("document", sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs/how-to").glob("*.md")))
def test_a_how_tos_commands_run_as_printed(document: str, tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "conversations.jsonl").write_text(SAMPLE, encoding="utf-8")
    for name, code in files(document):
        (tmp_path / name).write_text(code, encoding="utf-8")
    for number, example in enumerate(blocks(document, "json")):
        (tmp_path / f"example-{number}.jsonl").write_text(example, encoding="utf-8")
        done = run(
            ["bindu", "feedback", "import", f"example-{number}.jsonl", "--system-prompt", "You help.", "--json"],
            cwd=tmp_path,
            url=postgres_url,
        )
        assert done.returncode == 0, done.stderr
    for block in blocks(document, "bash"):
        done = run(["bash", "-euc", block], cwd=tmp_path, url=postgres_url)
        assert done.returncode == 0, done.stderr


def anchors(document: Path) -> set[str]:
    """What links may name after a hash: the headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"\[(.+?)\]\(.*?\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in plain}


def test_every_relative_link_of_the_documentation_leads_somewhere() -> None:
    broken = []
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]:
        for path, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text(encoding="utf-8")):
            target = document.parent / path if path else document
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{document.name}: {path}#{anchor}")
    assert broken == []
