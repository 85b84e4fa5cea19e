"""The specification's comparison of two dictionaries."""

import pytest

from bindu.dspy.canary import controller
from bindu.dspy.canary.controller import compare_metrics


def prompt(score: float | None, count: int = 20) -> dict[str, object]:
    return {"id": 1, "num_interactions": count, "average_feedback_score": score}


@pytest.mark.parametrize(
    ("active", "candidate", "winner"),
    [
        (prompt(0.5), prompt(0.6), "candidate"),
        (prompt(0.6), prompt(0.5), "active"),
        (prompt(0.5), prompt(0.5), None),
        (prompt(None), prompt(0.5), None),
        (prompt(0.5), prompt(None), None),
        (prompt(0.5), prompt(0.9, count=19), None),
        (prompt(0.5, count=0), prompt(0.9), "candidate"),  # only the candidate's side needs twenty
        ({}, {}, None),
    ],
)
def test_the_higher_mean_wins_when_the_candidate_has_enough(
    active: dict[str, object], candidate: dict[str, object], winner: str | None
) -> None:
    assert compare_metrics(active, candidate) == winner


def test_the_threshold_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "MIN_INTERACTIONS_THRESHOLD", 5)
    assert compare_metrics(prompt(0.5), prompt(0.6, count=5)) == "candidate"
