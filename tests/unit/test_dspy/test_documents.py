"""Documents hold together: all are in the index, figures agree, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

from bindu.dspy.web.dashboard import views

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def read(document: str) -> str:
    return (DOCS / document).read_text(encoding="utf-8")


def test_the_index_leads_to_every_document() -> None:
    written = {str(path.relative_to(DOCS)) for path in DOCS.glob("*/*.md") if path.parent.name != "adr"}
    assert set(re.findall(r"\]\(([\w/-]+\.md)\)", read("README.md"))) == written


def test_the_readme_leads_to_the_index_and_the_tutorial() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(docs/README.md)" in readme
    assert "(docs/tutorial/first-promotion.md)" in readme


def test_the_figures_of_why_evidence_are_those_that_were_measured() -> None:
    page, measured = (percentages(read(f"explanation/{name}.md")) for name in ("why-evidence", "canary-evidence"))
    assert len(page) >= 7
    assert page <= measured
    for total in ("352.8", "151.8", "101.2", "1.05"):
        assert total in read("explanation/why-evidence.md")
        assert total in read("explanation/canary-evidence.md")


def percentages(text: str) -> set[str]:
    return {f"{float(number):g}%" for number in re.findall(r"(\d*\.?\d+) ?%", text)}


def test_the_dashboards_health_lines_are_explained() -> None:
    code = Path(views.__file__).read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z][\w ]+) \|", read("how-to/use-the-dashboard.md"), re.MULTILINE)
    assert rows == re.findall(r'^    name = "(.+)"$', code, re.MULTILINE)
