"""What is shown of a run: everything that it recorded, nothing that it did not, and no trouble over odd records."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bindu.dspy.cli.output import stack
from bindu.dspy.insights.run_figures import rule_rows, run_parts
from bindu.dspy.models import TrainingRun
from samples import a_run

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
RUN = UUID("0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f")
EARLIER = UUID("0197f3c2-7b1d-7cc3-98c4-dc0c0c07398f")
DETAILS: dict[str, Any] = {
    "progress": {"eta_seconds": 90.5, "calls_expected": 5000, "calls_done": 1200},
    "funnel": {"drops": {"without_feedback": 46}, "tasks": 646, "golden": 300, "failures": 40},
    "split": {"accept": 60, "select": 16, "train": 224},
    "calls": {"agent": 1000, "judge": 200},
    "tokens": {"input": 123456, "output": 789},
    "calibration": {"reason": "The scorer agrees with the users.", "auroc": 0.7},
    "rubric": {"instructions": "Be kind.", "rules": [{"rule": "Say when it arrives.", "task_ids": ["a", "b", "c"]}]},
    "rules_dropped": [{"rule": "Be long.", "reason": "It measures length."}],
    "candidates": [{"select_score": 0.81234}, {"select_score": None}, {"select_score": 0.5}],
    "gate": {"gain": 0.125, "lower": 0.05, "outcome": "improved", "later_figure": 7},
    "prompt_refusals": [{"candidate": 2, "rule": "copied", "offending": "[bold]my order", "reason": "It copies."}],
    "lineage": [{"line": "Tell the day of arrival.", "rule": "Say when it arrives.", "task_ids": ["a", "b", "c"]}],
    "diff": "--- active\n+++ candidate\n-Be kind.\n+Be kinder. [/nope]",
}


def shown(run: TrainingRun) -> str:
    out = io.StringIO()
    Console(file=out, width=150).print(stack(*run_parts(run)), markup=False)
    return out.getvalue()


def lines(run: TrainingRun) -> list[str]:
    """What the tables say, without their frames."""
    return [" ".join(line.replace("│", " ").split()) for line in shown(run).splitlines() if line[:1] not in "┏┡└"]


def test_everything_that_a_run_recorded_is_shown() -> None:
    told = {"step": "proving", "cost": 0.12345, "calls": 1200, "resumes": EARLIER, "cancel_reason": "Wrong data."}
    found = lines(a_run(id=RUN, seen_at=NOON, started_at=NOON, details=DETAILS, **told))
    expected = [
        f"id {RUN}",
        "how simba, last_turn, seed 7",
        f"continues {EARLIER}",
        "state running",
        "step proving",
        "to stop because Wrong data.",
        "last sign of life 2026-06-01 12:00:00 UTC",
        "progress calls done 1,200, calls expected 5,000, eta seconds 90.5",
        "calls 1,200",
        "calls by role agent 1,000, judge 200",
        "tokens input 123,456, output 789",
        "cost $0.1235",
        "dataset tasks 646, golden 300, failures 40",
        "dropped without feedback 46",
        "split train 224, select 16, accept 60",
        "calibration The scorer agrees with the users.",
        "best score on select 0.8123",
        "1 Say when it arrives. 3",
        "Be long. It measures length.",
        "outcome improved",
        "gain 0.125",
        "later figure 7",
        "2 copied [bold]my order It copies.",
        "Tell the day of arrival. Say when it arrives. 3",
        "+Be kinder. [/nope]",
    ]
    assert [line for line in expected if line not in found] == []
    assert found.index("outcome improved") < found.index("gain 0.125") < found.index("later figure 7")


@pytest.mark.parametrize("missing", DETAILS)
def test_whatever_was_not_recorded_is_left_out(missing: str) -> None:
    whole, less = (set(lines(a_run(id=RUN, details=details))) for details in (DETAILS, _without(missing)))
    assert less < whole


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in DETAILS.items() if key != name}


def test_the_score_of_the_choice_goes_before_those_of_the_candidates() -> None:
    assert "best score on select 0.9" in lines(a_run(details=DETAILS | {"best_select": 0.9, "rubric_edited": 3}))
    assert "rubric kept by hand 3" in lines(a_run(details=DETAILS | {"best_select": 0.9, "rubric_edited": 3}))


def test_a_run_that_recorded_nothing_shows_what_it_was_asked_for() -> None:
    found = [line for line in lines(a_run(id=RUN)) if line[:1].isalpha()]
    assert found == ["Run", f"id {RUN}", "how simba, last_turn, seed 7", "state running", "calls 0"]


def test_thirteen_rules_are_numbered_and_counted() -> None:
    rules = [{"rule": f"Rule {number}.", "task_ids": ["a"] * number} for number in range(1, 14)]
    rows = rule_rows(rules)
    assert rows[12] == ("13", "Rule 13.", "13")
    assert len(rows) == 13


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
parts = st.dictionaries(st.sampled_from(["rules", "rule", "task_ids", "gain", "reason", "drops"]), json_values)


@given(details=st.dictionaries(st.sampled_from(list(DETAILS)), json_values | parts | st.lists(parts, max_size=2)))
def test_no_record_however_odd_is_beyond_showing(details: dict[str, Any]) -> None:
    assert str(RUN) in shown(a_run(id=RUN, details=details))
