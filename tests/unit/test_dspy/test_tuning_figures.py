"""The figures of "Tune the canary" are those of the plan."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from bindu.dspy.planning import fitted, plan
from bindu.dspy.policy import Policy
from bindu.dspy.units import Baseline

PAGE = (Path(__file__).parents[3] / "docs/how-to/tune-the-canary.md").read_text(encoding="utf-8")
GAINS = (0.03, 0.05, 0.10)


def days(votes_a_day: float, gain: float, policy: Policy | None = None, share: float = 0.1) -> float:
    rate = votes_a_day / 24
    baseline = Baseline(feedback_per_hour=rate)
    frozen = fitted(policy or Policy(), baseline, share=share, window_feedback=30, max_window_hours=24)
    found = plan(frozen, feedback_per_hour=rate, gain=gain, share=share).days
    assert found is not None
    return found


def test_the_days_until_a_gain_shows() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for votes, *printed in rows:
        assert [round(days(int(votes.replace(",", "")), gain)) for gain in GAINS] == [int(one) for one in printed]


def test_what_each_change_of_a_number_does() -> None:
    usual = round(days(120, 0.05))
    by_alpha = round(days(120, 0.05, replace(Policy(), alpha_win=0.1)))
    assert f"wins earlier ({by_alpha} days instead of {usual} at 120 votes)" in PAGE
    assert f"spares the way up ({round(days(120, 0.05, share=0.5))} instead of {usual})" in PAGE
    by_ramp = round(days(120, 0.05, replace(Policy(), ramp_share=0.1)))
    assert f"({by_ramp} days instead of {usual} at 120 votes)" in PAGE
