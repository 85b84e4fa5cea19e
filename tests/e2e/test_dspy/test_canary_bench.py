"""The canary's bench runs, repeats itself, and says when a bar is missed."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("canary_rows")


def bench(told: Path) -> tuple[str, list[dict[str, Any]]]:
    options = ["--quick", "--runs", "0.05", "--only", "worse_10", "better_10", "--rules", "evidence", "--seed", "3"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/canary.py"), *options, "--json", str(told)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout, json.loads(told.read_text(encoding="utf-8"))["figures"]


def test_a_quick_bench_holds_its_bars_and_repeats_itself(tmp_path: Path) -> None:
    printed, figures = bench(tmp_path / "a.json")
    assert "all bars met" in printed
    found = {(figure["row"], figure["what"]): figure["value"] for figure in figures}
    assert found["worse_10", "10 points worse: promoted"] == 0
    assert found["better_10", "10 points better: promoted"] > 0.8
    assert bench(tmp_path / "b.json")[1] == figures


@pytest.mark.parametrize(
    ("hits", "runs", "bar", "at_most", "missed", "surely"),
    [
        (30, 1_000, 0.03, True, False, False),
        (31, 1_000, 0.03, True, True, False),
        (60, 1_000, 0.03, True, True, True),
        (979, 1_000, 0.98, False, True, False),
        (900, 1_000, 0.98, False, True, True),
        (1, 8_000, 0.0, True, True, True),
        (0, 8_000, 0.0, True, False, False),
    ],
)
def test_a_bar_is_missed_by_the_figure_and_beyond_doubt_by_its_interval(
    rows: ModuleType, hits: int, runs: int, bar: float, *, at_most: bool, missed: bool, surely: bool
) -> None:
    figure = rows.rate(hits, runs, bar, at_most)
    assert (figure.missed, figure.surely_missed) == (missed, surely)


def test_every_bar_of_the_design_has_a_row(rows: ModuleType) -> None:
    barred = {row.scenario for row in rows.ROWS if row.bar is not None}
    shown = {"silenced", *(f"aware_unchecked_{part}" for part in (1, 2, 5))}
    assert barred == set(rows.SCENARIOS) - {"better_5_no_floor"} - shown
