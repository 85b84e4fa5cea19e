"""How long an experiment will take, said before it opens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from statistics import NormalDist
from typing import Final

from bindu.dspy.models import DIGITS
from bindu.dspy.policy import Policy
from bindu.dspy.units import Baseline

__all__ = [
    "GAIN",
    "MIXED_VARIANCE",
    "OVERHEAD",
    "Plan",
    "PlannedStep",
    "days_to_all",
    "effect_of",
    "expectation",
    "fitted",
    "plan",
    "required_feedback",
    "window_hours_for",
]

GAIN: Final = 0.05  # the difference that a plan is made for, unless it is told another
MIXED_VARIANCE: Final = 0.155  # of one vote: some .10 for ratings, .20 for thumbs
OVERHEAD: Final = 1.10  # feedback that a test valid at every look needs, over one that looks once; measured
LEAST_GAIN: Final = 0.001
LEAST_RATE: Final = 1 / 8766  # votes an hour: one a year, below which nothing can be foretold
MOST_A_DAY: Final = 1_000_000_000  # votes; more are a slip of the keyboard
LEAST_SHARE: Final = 10**-DIGITS  # and at most one less it
LEAST_WHOLE: Final = 1  # number of votes that is told without decimals
MOST_INFORMATIVE: Final = 0.25  # share * (1 - share) where votes say most


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A candidate's share and how long it is held before the verdict."""

    share: float
    days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to expect of an experiment whose candidate is better by ``gain``, in four of five cases at least."""

    gain: float  # in score points, (0, 1)
    feedback: int  # votes at an even split; more at any other
    feedback_per_day: float
    path: tuple[PlannedStep, ...] = ()  # until the verdict
    days: float | None = None  # until the verdict; None without feedback
    days_to_all: float | None = None  # until the winner answers every request

    @property
    def sentence(self) -> str:
        """The plan for people."""
        what = f"a difference of {100 * self.gain:.3g} points"
        if self.days is None or self.days_to_all is None:
            return (
                f"There is no feedback to decide by: {what} takes about {self.feedback:,} votes. Say with "
                "--feedback-per-day how many to expect."
            )
        return (
            f"At {_number(self.feedback_per_day)} votes a day {what} shows after about {_days(self.days)}, "
            f"and the winner answers every request after about {_days(self.days_to_all)}."
        )


def plan(
    policy: Policy,
    *,
    feedback_per_hour: float,
    gain: float | None = None,
    share: float = 0.1,
    variance: float = MIXED_VARIANCE,
) -> Plan:
    """Plan an experiment that opens with ``share`` of the traffic and has ``feedback_per_hour`` votes over both arms.

    ``gain`` is the difference to see, by default what ``effect_of`` says.
    Raises ValueError for a gain outside .001 to 1, a share nearer to 0 or 1 than LEAST_SHARE, and more than MOST_A_DAY.
    """
    effect = effect_of(policy) if gain is None else gain
    even = required_feedback(effect, variance=variance, alpha=policy.alpha_win)
    _check_share(share)
    _check_rate(feedback_per_hour)
    needed = OVERHEAD * even
    rate = feedback_per_hour if feedback_per_hour >= LEAST_RATE else 0.0
    unknown = Plan(gain=effect, feedback=ceil(needed), feedback_per_day=24 * rate)
    if not rate:
        return unknown
    path = tuple(_until_verdict(policy, rate, share, needed))
    days = sum(step.days for step in path)
    return replace(unknown, path=path, days=days, days_to_all=days + days_to_all(policy, path[-1].share))


def effect_of(policy: Policy) -> float:
    """What an experiment is planned to see: a gain, or, of an equal prompt under ``not_worse``, the tolerance."""
    return GAIN if policy.goal == "better" else policy.tolerance


def days_to_all(policy: Policy, share: float, *, rested: float = 0.0) -> float:
    """Days until a winner has all traffic: the rest, of which ``rested`` hours are over, then a step per window."""
    steps = ceil(round((1 - share) / policy.step, DIGITS))  # the first of them ends the rest
    return (_whole(policy.settle_hours - rested, policy) + (steps - 1) * policy.window_hours) / 24


def fitted(
    policy: Policy, baseline: Baseline, *, share: float, window_feedback: int = 30, max_window_hours: int = 24
) -> Policy:
    """The policy with all that the past week decides: windows, slowness, cost, and the days that are planned."""
    rate = baseline.feedback_per_hour
    windowed = replace(
        policy,
        window_hours=window_hours_for(rate, window_feedback=window_feedback, most=max_window_hours),
        slow_ms=baseline.slow_ms,
        cost_cap=baseline.cost_cap,
    )
    return replace(windowed, planned_days=plan(windowed, feedback_per_hour=rate, share=share).days)


def expectation(policy: Policy) -> str:
    """What to tell people when an experiment opens with this policy."""
    end = f"without a verdict it ends after {_days(policy.timeout_hours / 24)}"
    if policy.planned_days is None:
        return f"There is no feedback to decide by yet: {end}."
    points = 100 * effect_of(policy)
    return f"A difference of {points:.3g} points shows after about {_days(policy.planned_days)}; {end}."


def window_hours_for(feedback_per_hour: float, *, window_feedback: int = 30, most: int = 24) -> int:
    """The smallest number of whole hours expected to hold ``window_feedback`` votes, at most ``most``.

    Raises ValueError for a rate that cannot be.
    """
    _check_rate(feedback_per_hour)
    if feedback_per_hour * most <= window_feedback:
        return most
    return max(1, ceil(window_feedback / feedback_per_hour))


def required_feedback(
    gain: float, *, share: float = 0.5, variance: float = MIXED_VARIANCE, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Votes over both arms that a one-sided fixed-horizon z-test needs to see ``gain`` (in score points, (0, 1)).

    ``variance`` is that of one vote: about .10 for ratings, .20 for thumbs.
    """
    if not LEAST_GAIN <= gain <= 1:
        raise ValueError(f"A plan needs a gain between {LEAST_GAIN} and 1, not {gain}.")
    _check_share(share)
    normal = NormalDist()
    deviations = normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)
    return ceil(deviations**2 * variance * (1 / share + 1 / (1 - share)) / gain**2)


def _check_share(share: float) -> None:
    if not LEAST_SHARE <= share <= 1 - LEAST_SHARE:
        raise ValueError(f"A plan needs a share between {LEAST_SHARE:g} and 1 - {LEAST_SHARE:g}, not {share}.")


def _check_rate(feedback_per_hour: float) -> None:
    if not 0 <= feedback_per_hour <= MOST_A_DAY / 24:
        raise ValueError(f"A plan needs between 0 and {MOST_A_DAY:,} votes a day, not {24 * feedback_per_hour:g}.")


def _until_verdict(policy: Policy, rate: float, share: float, needed: float) -> Iterator[PlannedStep]:
    """The safety ramp without setbacks, each step in whole windows, until enough is known and the least age reached."""
    missing, age = needed, 0.0
    while True:
        known_an_hour = rate * share * (1 - share) / MOST_INFORMATIVE
        decided = max(missing / known_an_hour, policy.min_age_hours - age)
        risen = max(policy.ramp_hours, policy.ramp_units / (rate * share))
        hours = _whole(decided if share >= policy.ramp_share else min(decided, risen), policy)
        yield PlannedStep(share, hours / 24)
        if hours >= decided:
            return
        missing, age = max(0.0, missing - hours * known_an_hour), age + hours
        share = round(min(policy.ramp_share, share + policy.step), DIGITS)


def _whole(hours: float, policy: Policy) -> int:
    """The same in whole windows, at least one."""
    return max(1, ceil(round(hours / policy.window_hours, DIGITS))) * policy.window_hours


def _days(days: float) -> str:
    return f"{24 * days:.0f} hours" if round(days) <= 1 else f"{days:,.0f} days"


def _number(number: float) -> str:
    return f"{number:,.0f}" if number >= LEAST_WHOLE else f"{number:.1g}"
