"""The planner: how long an experiment takes, said at its start."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.planning import (
    OVERHEAD,
    Plan,
    expectation,
    fitted,
    plan,
    required_feedback,
    window_hours_for,
)
from bindu.dspy.policy import Policy
from bindu.dspy.units import Baseline

DEFAULT = Policy()
rates = st.floats(0.01, 10_000)
shares = st.floats(0.01, 0.99)
gains = st.floats(0.01, 0.3)


def hours(planned: Plan) -> list[float]:
    return [24 * step.days for step in planned.path]


def known(planned: Plan) -> float:
    """Feedback along the path, each as informative as its share makes it."""
    an_hour = planned.feedback_per_day / 24
    return sum(an_hour * 24 * step.days * step.share * (1 - step.share) / 0.25 for step in planned.path)


def test_at_120_votes_a_day_a_gain_of_five_points_takes_about_17_days() -> None:
    planned = plan(DEFAULT, feedback_per_hour=5)
    assert planned.days is not None
    assert planned.days_to_all is not None
    assert round(planned.days) == 16  # the verdict
    assert round(planned.days_to_all) == 17  # the winner answers every request
    assert planned.sentence == (
        "At 120 votes a day a difference of 5 points shows after about 16 days, "
        "and the winner answers every request after about 17 days."
    )


def test_the_ramp_waits_for_twenty_rated_units_of_the_candidate_at_each_share() -> None:
    planned = plan(DEFAULT, feedback_per_hour=5)
    assert [step.share for step in planned.path] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert hours(planned)[:4] == pytest.approx([40, 20, 14, 10])  # 20 / (5 * share), in whole hours


def test_with_much_feedback_the_ramp_waits_two_hours_a_step_and_the_verdict_for_a_day() -> None:
    planned = plan(DEFAULT, feedback_per_hour=5_000)
    assert hours(planned) == pytest.approx([2, 2, 2, 2, 16])
    assert planned.days == 1
    assert planned.days_to_all == pytest.approx(2 + 4 / 24)  # 24 hours of rest, then 60, 70, 80, 90, 100 %
    assert planned.sentence.startswith("At 120,000 votes a day a difference of 5 points shows after about 24 hours,")


def test_a_share_above_the_ramp_is_kept() -> None:
    assert [step.share for step in plan(DEFAULT, feedback_per_hour=5, share=0.7).path] == [0.7]


def test_without_feedback_there_is_no_day_and_the_sentence_says_how_many_votes_it_takes() -> None:
    planned = plan(DEFAULT, feedback_per_hour=0)
    assert (planned.days, planned.days_to_all, planned.path) == (None, None, ())
    assert planned.sentence == (
        "There is no feedback to decide by: a difference of 5 points takes about 1,688 votes. Say with "
        "--feedback-per-day how many to expect."
    )


def test_a_prompt_that_may_not_lose_is_planned_for_its_tolerance() -> None:
    lax = Policy(goal="not_worse", tolerance=0.02, stated_gain="half the cost")
    assert plan(lax, feedback_per_hour=5).feedback == plan(DEFAULT, feedback_per_hour=5, gain=0.02).feedback


@given(rates, shares, gains, st.integers(1, 24))
def test_a_plan_collects_what_it_needs_and_not_a_step_more(rate: float, share: float, gain: float, window: int) -> None:
    policy = replace(DEFAULT, window_hours=window)
    planned = plan(policy, feedback_per_hour=rate, share=share, gain=gain)
    assert planned.days is not None
    assert planned.days_to_all is not None
    needed = OVERHEAD * required_feedback(gain)
    assert known(planned) >= needed * (1 - 1e-6)
    assert 24 * planned.days >= policy.min_age_hours * (1 - 1e-6)
    assert planned.days_to_all >= planned.days + policy.settle_hours / 24
    assert all(value / window == pytest.approx(round(value / window)) for value in hours(planned))
    shorter = replace(planned, path=planned.path[:-1])
    assert known(shorter) < needed or sum(hours(shorter)) < policy.min_age_hours
    climbed = [step.share for step in planned.path]
    assert climbed == sorted(climbed)
    assert climbed[0] == share
    assert all(step <= max(share, policy.ramp_share) for step in climbed)


@given(rates, rates, shares, gains)
def test_more_feedback_never_takes_longer_by_more_than_its_whole_hours(
    one: float, other: float, share: float, gain: float
) -> None:
    few, many = sorted((one, other))
    slow = plan(DEFAULT, feedback_per_hour=few, share=share, gain=gain)
    fast = plan(DEFAULT, feedback_per_hour=many, share=share, gain=gain)
    assert slow.days is not None
    assert fast.days is not None
    assert fast.days <= slow.days + len(fast.path) / 24


@given(st.floats(0, 1e6), st.integers(1, 200), st.integers(1, 168))
def test_a_window_is_the_smallest_number_of_hours_that_holds_enough(rate: float, enough: int, most: int) -> None:
    chosen = window_hours_for(rate, window_feedback=enough, most=most)
    assert 1 <= chosen <= most
    assert chosen == most or rate * chosen >= enough * (1 - 1e-9)
    assert chosen == 1 or rate * (chosen - 1) < enough * (1 + 1e-9)


@pytest.mark.parametrize(
    ("rate", "chosen"), [(0, 24), (1, 24), (1.25, 24), (1.26, 24), (5, 6), (29, 2), (30, 1), (500, 1)]
)
def test_windows_of_thirty_votes(rate: float, chosen: int) -> None:
    assert window_hours_for(rate) == chosen


def test_the_policy_takes_what_the_past_week_says() -> None:
    found = fitted(DEFAULT, Baseline(feedback_per_hour=5, slow_ms=900.0, cost_cap=0.2), share=0.1)
    assert (found.window_hours, found.slow_ms, found.cost_cap) == (6, 900.0, 0.2)
    assert found.planned_days == plan(found, feedback_per_hour=5, share=0.1).days == 15.75
    assert found.timeout_hours == pytest.approx(1.5 * 24 * 15.75)


def test_who_opens_an_experiment_hears_how_long_it_takes_and_when_it_ends_at_the_latest() -> None:
    quick = fitted(DEFAULT, Baseline(feedback_per_hour=50), share=0.1)
    silent = fitted(DEFAULT, Baseline(feedback_per_hour=0), share=0.1)
    assert expectation(quick) == (
        "A difference of 5 points shows after about 2 days; without a verdict it ends after 14 days."
    )
    assert expectation(silent) == "There is no feedback to decide by yet: without a verdict it ends after 14 days."
    assert silent.window_hours == 24


@pytest.mark.parametrize(("gain", "share"), [(0, 0.1), (float("nan"), 0.1), (1.5, 0.1), (0.05, 0), (0.05, 1)])
def test_a_plan_that_cannot_be_made_is_refused(gain: float, share: float) -> None:
    with pytest.raises(ValueError, match="A plan needs"):
        plan(DEFAULT, feedback_per_hour=5, gain=gain, share=share)


@pytest.mark.parametrize("rate", [math.inf, math.nan, -1.0, 1e308, 5e7])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    for planned in (lambda: plan(DEFAULT, feedback_per_hour=rate), lambda: window_hours_for(rate)):
        with pytest.raises(ValueError, match="between 0 and 1,000,000,000 votes a day"):
            planned()


@pytest.mark.parametrize("share", [0.0, 1e-12, 1 - 1e-12, 1.0, math.nan])
def test_a_share_that_no_setting_takes_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="a share between 1e-09"):
        plan(DEFAULT, feedback_per_hour=5, share=share)


@given(st.floats(0, 1e9), st.floats(1e-9, 1 - 1e-9), st.floats(0.001, 1))
def test_whatever_can_be_asked_is_answered_in_finite_numbers(per_day: float, share: float, gain: float) -> None:
    planned = plan(DEFAULT, feedback_per_hour=per_day / 24, share=share, gain=gain)
    assert all(math.isfinite(step.days) and 0 < step.share < 1 for step in planned.path)
    assert (planned.days is None) == (not planned.path)
    assert planned.sentence.endswith(".")
