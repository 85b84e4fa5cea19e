"""What the units of an experiment did: what arrives, what a closed window has counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from bindu.dspy.models import Arm, ExperimentOutcome, FeedbackKind, JsonObject

__all__ = [
    "Arrivals",
    "BarredText",
    "Baseline",
    "Closing",
    "CountedUnit",
    "FirstRequest",
    "RatedUnit",
    "ShareChange",
    "TimedVote",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """How an agent did in the week before an experiment: what its policy is fitted to."""

    feedback_per_hour: float  # rated tasks, over the hours since the earliest of them
    slow_ms: float | None = None  # p95 of the active prompt's latency; None without any
    cost_cap: float | None = None  # twice the p95 of the active prompt's cost; None without any


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRequest:
    """A unit as its first request in an experiment left it: what guardrails and assignment counts read."""

    unit_id: str
    arm: Arm
    epoch: int
    first_at: datetime
    failed: bool = False
    refused: bool = False
    latency_ms: float | None = None
    cost: float | None = None  # of the request: the caller's cost, else its tokens
    judged: float | None = None  # a model's score in [0, 1]
    window: int | None = None  # in which it was taken into account


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedVote:
    """One vote on a unit's task, with the time it was given; also one that a later vote superseded."""

    task_id: UUID
    rater_id: str
    kind: FeedbackKind
    score: float  # as stored: rating / 5, thumbs 0 or 1
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedUnit:
    """A unit that has feedback and was not counted yet."""

    unit_id: str
    arm: Arm
    epoch: int
    first_at: datetime
    rated_at: datetime  # of its first vote
    votes: tuple[TimedVote, ...]  # all of them, oldest first


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedUnit:
    """A unit that a closed window has counted, once."""

    unit_id: str
    arm: Arm
    epoch: int
    window: int
    kind: FeedbackKind
    rater_id: str  # who spoke for it; else the first who voted
    rated_at: datetime  # of that rater's first vote
    score: float | None  # of the test, in [0, 1]; None when all its raters had counted within a day


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """What came in since the last closed window."""

    firsts: tuple[FirstRequest, ...] = ()
    rated: tuple[RatedUnit, ...] = ()
    last_counted: dict[str, datetime] = field(
        default_factory=dict
    )  # rater -> when the latest unit that counted was rated


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareChange:
    """A share epoch of an experiment: what the candidate's share became, and when."""

    epoch: int
    share: float
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BarredText:
    """A text that was on trial without a win and is not to be tried again without a person's word."""

    prompt_id: int
    text: str
    experiment_id: int
    outcome: ExperimentOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The windows that a decision closes: written with it, or not at all."""

    window: int  # the last one
    evidence: JsonObject  # the state after it
    firsts: tuple[tuple[str, int], ...] = ()  # unit id and window
    judged: Mapping[str, float] = field(default_factory=dict)  # the scores of theirs that the evidence holds
    counted: tuple[CountedUnit, ...] = ()
