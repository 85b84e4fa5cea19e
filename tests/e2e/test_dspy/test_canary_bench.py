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
AT_MOST, AT_LEAST = True, False
BARS = {
    ("same", "A/A: promoted"): (0.03, AT_MOST),
    ("same", "A/A: rolled back by harm"): (0.03, AT_MOST),
    ("worse_2", "2 points worse: promoted"): (0.003, AT_MOST),
    ("worse_5", "5 points worse: promoted"): (0.001, AT_MOST),
    ("worse_10", "10 points worse: promoted"): (0.0, AT_MOST),
    ("worse_10", "10 points worse: stopped by 1,000 feedbacks"): (0.95, AT_LEAST),
    ("better_3", "3 points better: promoted"): (0.90, AT_LEAST),
    ("better_5", "5 points better: promoted"): (0.98, AT_LEAST),
    ("better_10", "10 points better: promoted"): (0.995, AT_LEAST),
    ("drift", "A/A, daily drift: promoted"): (0.05, AT_MOST),
    ("drift", "A/A, daily drift: rolled back by harm"): (0.10, AT_MOST),
    ("good_news_late", "A/A, late good news: promoted"): (0.05, AT_MOST),
    ("good_news_late", "A/A, late good news: rolled back by harm"): (0.10, AT_MOST),
    ("clustered", "A/A, clustered users: promoted"): (0.05, AT_MOST),
    ("clustered", "A/A, clustered users: rolled back by harm"): (0.10, AT_MOST),
    ("turns_40_worse", "40 points worse from the win: promoted of those that won"): (0.02, AT_MOST),
    ("turns_5_worse", "5 points worse from the win: promoted of those that won"): (0.50, AT_MOST),
    ("late_same", "A/A, delay 72 h: promoted"): (0.05, AT_MOST),
    ("late_better_5", "+5, delay 72 h: promoted"): (0.75, AT_LEAST),
    ("bots_same", "A/A, 50 % bots: promoted"): (0.05, AT_MOST),
    ("bots_better_5", "+5, 50 % bots: promoted"): (0.75, AT_LEAST),
    ("outage_same", "A/A, outage with 5x votes: promoted"): (0.05, AT_MOST),
    ("outage_better_5", "+5, outage with 5x votes: promoted"): (0.75, AT_LEAST),
    ("aware", "A/A, 5 % arm-aware votes of 5 accounts, rater rule: promoted"): (0.06, AT_MOST),
}


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
    barred = [row for row in rows.ROWS if row.bar is not None]
    assert {(row.scenario, row.what): (row.bar, row.at_most) for row in barred} == BARS
    assert (len(barred), {row.rule for row in barred}) == (len(BARS), {"evidence"})
    shown = {"silenced", *(f"aware_unchecked_{part}" for part in (1, 2, 5))}
    assert {row.scenario for row in barred} == set(rows.SCENARIOS) - {"better_5_no_floor"} - shown
    assert min(rows.SCENARIOS[name].runs for name in ("worse_2", "worse_5", "worse_10")) >= 8_000


def test_the_bars_of_the_grid_and_of_a_window_are_the_designs(rows: ModuleType) -> None:
    bench = importlib.import_module("canary")
    assert bench.GRID_BARS == {"promoted": 0.05, "rolled back by harm": 0.10}
    assert bench.WINDOW_BAR == 5
    assert set(rows.GRID) == {
        f"grid {per_hour}/h {mean} {kind}"
        for per_hour in (5, 20, 50, 200)
        for mean in ("0.50", "0.70", "0.90", "0.97")
        for kind in ("thumbs", "ratings", "mixed")
    }


def verdict_after(feedback: int) -> Any:
    return importlib.import_module("canary_runs").Result("promoted", "", True, 48.0, feedback, 0.05)


def test_the_median_to_a_verdict_is_at_most_a_quarter_above_one_look_at_a_fixed_horizon(rows: ModuleType) -> None:
    just, above = (rows.overhead([verdict_after(feedback)] * 999) for feedback in (1_917, 1_918))
    assert (just.bar, just.at_most, "(1,534)" in just.what) == (1.25, True, True)
    assert [(figure.missed, figure.surely_missed) for figure in (just, above)] == [(False, False), (True, True)]
