"""The numbers that an experiment is decided by, frozen when it opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Goal", "Policy", "RuleName"]

RuleName = Literal["evidence", "means"]
Goal = Literal["better", "not_worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rule of an experiment and its numbers; shares and score differences are in [0, 1], alphas in (0, 1)."""

    rule: RuleName = "evidence"
    step: float = 0.1  # of all traffic, per decision
    min_interactions: int = 20  # means rule: of the candidate, before its mean is looked at

    # the test of the difference (candidate minus active)
    goal: Goal = "better"
    gain: float = 0.03  # futile is what is not better by this much
    tolerance: float = 0.02  # not_worse: a loss that is accepted for stated_gain
    stated_gain: str = ""
    harm_margin: float = 0.0  # a loss that is not yet harm
    alpha_win: float = 0.05
    alpha_harm: float = 0.10
    alpha_futility: float = 0.10
    alpha_after_win: float = 0.05

    # windows and age
    window_hours: int = 1  # chosen when the experiment opens
    min_age_hours: float = 24.0  # before a win
    max_age_days: float = 14.0
    planned_days: float | None = None  # of the plan made at the start; one and a half times it is waited for
    longest_days: float = 90.0  # but not longer: an agent has one experiment at a time
    rater_hours: float = 24.0  # a rater's units within it count once

    # the safety ramp, and the way up after a win
    ramp_share: float = 0.5
    floor_share: float = 0.1
    ramp_hours: float = 2.0
    ramp_units: int = 20  # of the candidate, with feedback, at the present share
    hold_at: float = 2.0  # harm e-values
    back_at: float = 4.0
    settle_hours: float = 24.0
    settle_hold_at: float = 4.0

    # alarms
    alpha_mismatch: float = 0.001
    alpha_feedback_mismatch: float = 0.005
    alpha_guard: float = 0.01  # shared by the guardrails
    guard_margin: float = 0.01
    slow_ms: float | None = None  # the active prompt's p95 at the start; None: latency is not watched
    cost_cap: float | None = None  # what counts as cost 1; None: cost is not watched
    judged: bool = False  # a model scores a sample of the answers

    def __post_init__(self) -> None:
        if self.min_interactions < 1 or not 0 < self.step <= 1:
            raise ValueError(
                f"A policy needs min_interactions >= 1 and 0 < step <= 1, not {self.min_interactions} and {self.step}."
            )

    @property
    def guards(self) -> tuple[str, ...]:
        """The guardrails that are watched."""
        watched = {"error": True, "refusal": True, "slow": self.slow_ms, "cost": self.cost_cap, "judge": self.judged}
        return tuple(name for name, value in watched.items() if value)

    @property
    def timeout_hours(self) -> float:
        """The age at which an experiment without a verdict ends."""
        return 24 * max(self.max_age_days, min(self.longest_days, 1.5 * (self.planned_days or 0.0)))
