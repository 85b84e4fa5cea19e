"""What arrived becomes closed windows: every unit is taken in once, when the window of its first vote closes.

A unit that arrives late goes into the first window that is still open; so windows once closed never change, and
closing them one by one or all at once gives the same evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from math import ceil
from operator import itemgetter

from bindu.dspy.evidence import NOTHING_LEFT, Evidence, Share, Stratum, Window, fold
from bindu.dspy.guardrails import guard_values
from bindu.dspy.models import DIGITS, Arm, FeedbackKind
from bindu.dspy.policy import Policy
from bindu.dspy.units import Arrivals, CountedUnit, FirstRequest, RatedUnit, TimedVote

__all__ = [
    "Closed",
    "close",
    "end_of",
    "in_place_of",
    "is_edited",
    "last_closed",
    "score_of",
    "windows_of",
    "without_heaviest",
]

Shares = Mapping[int, float]  # epoch -> the candidate's share
_Values = dict[tuple[str, int], dict[Arm, list[tuple[bytes, float]]]]  # (kind, epoch) -> arm -> (order, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Windows to fold, in order, and which unit went into which."""

    windows: tuple[Window, ...]
    firsts: tuple[tuple[str, int], ...]
    counted: tuple[CountedUnit, ...]


def last_closed(policy: Policy, started_at: datetime, now: datetime) -> int:
    """The number of windows that have ended, 0 before the first end."""
    return max(0, (now - started_at) // timedelta(hours=policy.window_hours))


def end_of(policy: Policy, started_at: datetime, window: int) -> datetime:
    """When a window ends; it holds what came after the end of the one before, up to then."""
    return started_at + window * timedelta(hours=policy.window_hours)


def close(
    arrivals: Arrivals, shares: Shares, policy: Policy, *, started_at: datetime, after: int, through: int
) -> Closed:
    """Put what arrived into the windows ``after + 1`` to ``through``; what belongs later is left out.

    So is what claims a share epoch that has not begun: nobody can have been served in it.
    """

    def window_of(at: datetime) -> int:
        return max(after + 1, ceil((at - started_at) / timedelta(hours=policy.window_hours)))

    firsts = [replace(first, window=window_of(first.first_at)) for first in arrivals.firsts]
    firsts = [
        first for first in firsts if first.window is not None and first.window <= through and first.epoch in shares
    ]
    counted = []
    last_counted = dict(arrivals.last_counted)
    placed = [
        (window_of(max(unit.rated_at, unit.first_at)), unit.rated_at, unit.unit_id, unit) for unit in arrivals.rated
    ]
    for window, rated_at, _, unit in sorted(placed, key=itemgetter(0, 1, 2)):
        if window <= through and unit.epoch in shares:
            until = max(end_of(policy, started_at, window), rated_at)
            counted.append(_count(unit, window, until, last_counted, timedelta(hours=policy.rater_hours)))
    return Closed(
        windows=windows_of(firsts, counted, shares, policy),
        firsts=tuple((first.unit_id, first.window) for first in firsts if first.window is not None),
        counted=tuple(counted),
    )


def windows_of(
    firsts: Iterable[FirstRequest], counted: Iterable[CountedUnit], shares: Shares, policy: Policy
) -> tuple[Window, ...]:
    """The windows that hold these units, in order."""
    values: dict[int, tuple[_Values, _Values]] = {}
    assigned: dict[int, Counter[tuple[int, Arm]]] = {}
    for first in firsts:
        if first.window is not None:
            assigned.setdefault(first.window, Counter())[first.epoch, first.arm] += 1
            _, guards = values.setdefault(first.window, ({}, {}))
            for name, value in guard_values(first, policy):
                _put(guards, name, first, value)
    for unit in counted:
        if unit.score is not None:
            scores, _ = values.setdefault(unit.window, ({}, {}))
            _put(scores, unit.kind, unit, unit.score)
    return tuple(
        Window(number, _strata(scores), _strata(guards), _assigned(assigned.get(number, Counter()), scores, shares))
        for number, (scores, guards) in sorted(values.items())
    )


def without_heaviest(counted: Iterable[CountedUnit], shares: Shares, policy: Policy) -> float | None:
    """The estimated difference without the rater who counts most; None when nobody counts twice.

    NOTHING_LEFT when what could be compared hangs on that rater; None too when one arm has no units at all.
    """
    units = [unit for unit in counted if unit.score is not None]
    raters = Counter(unit.rater_id for unit in units if unit.rater_id)
    rater, most = min(raters.items(), key=lambda item: (-item[1], item[0]), default=("", 0))
    if most < 2:  # noqa: PLR2004 - twice
        return None
    evidence = Evidence()
    for window in windows_of((), (unit for unit in units if unit.rater_id != rater), shares, policy):
        evidence = fold(evidence, window, policy, with_band=False)
    compared = {unit.arm for unit in units} == {"active", "candidate"}
    return NOTHING_LEFT if compared and evidence.estimate is None else evidence.estimate


def score_of(vote: TimedVote) -> float:
    """The score of the test: ratings of 1 to 5 over the whole of [0, 1], thumbs as they are."""
    return vote.score if vote.kind == "thumbs_up" else min(1.0, max(0.0, (5 * vote.score - 1) / 4))


def is_edited(unit: CountedUnit, votes: Iterable[TimedVote]) -> bool:
    """Whether a unit's votes, oldest first, no longer give the score that was counted: edited, added or deleted."""
    if unit.score is None:
        return False
    now = _mean_of(votes, unit.rater_id, unit.kind)
    return now is None or round(now - unit.score, DIGITS) != 0


def _count(
    unit: RatedUnit, window: int, until: datetime, last_counted: dict[str, datetime], rest: timedelta
) -> CountedUnit:
    """The first rater who does not rest speaks for the unit, with the kind of their first vote.

    Were others' votes in the mean, one rater who votes second in many conversations could decide an experiment.
    """

    def rests(vote: TimedVote) -> bool:
        before = last_counted.get(vote.rater_id) if vote.rater_id else None
        return bool(rest) and before is not None and vote.at - before < rest  # also what is older, but arrived late

    votes = sorted((vote for vote in unit.votes if vote.at <= until), key=lambda vote: (vote.at, vote.kind != "rating"))
    speaker = next((vote for vote in votes if not rests(vote)), None)
    first = speaker or votes[0]
    score = None if speaker is None else _mean_of(votes, speaker.rater_id, speaker.kind)
    if speaker is not None and speaker.rater_id:
        last_counted[speaker.rater_id] = speaker.at
    return CountedUnit(
        unit_id=unit.unit_id,
        arm=unit.arm,
        epoch=unit.epoch,
        window=window,
        kind=first.kind,
        rater_id=first.rater_id,
        rated_at=first.at,
        score=score,
    )


def _mean_of(votes: Iterable[TimedVote], rater_id: str, kind: FeedbackKind) -> float | None:
    """The mean over the unit's tasks of what a rater said last, in that kind; None when they said nothing."""
    said = {vote.task_id: score_of(vote) for vote in votes if vote.rater_id == rater_id and vote.kind == kind}
    return sum(said.values()) / len(said) if said else None


def _put(values: _Values, kind: str, unit: FirstRequest | CountedUnit, value: float) -> None:
    arms = values.setdefault((kind, unit.epoch), {"active": [], "candidate": []})
    arms[unit.arm].append((_order(unit.unit_id), value))


def _order(unit_id: str) -> bytes:
    """A place that knows neither arm nor score: another hash than the one that assigns."""
    return blake2b(unit_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"order").digest()


def in_place_of(unit_id: str, beside: Iterable[str], names: Iterable[str]) -> str:
    """The first of the names that can be a unit's without changing its place among the others.

    As many are tried as there are others, on average.
    """
    place, others = _order(unit_id), [_order(other) for other in beside]
    before = max((other for other in others if other < place), default=b"")
    after = min((other for other in others if other > place), default=b"\xff" * 9)
    return next(name for name in names if before < _order(name) < after)


def _strata(values: _Values) -> tuple[Stratum, ...]:
    return tuple(
        Stratum(kind, epoch, *(tuple(value for _, value in sorted(arms[arm])) for arm in ("active", "candidate")))
        for (kind, epoch), arms in sorted(values.items())
    )


def _assigned(counts: Mapping[tuple[int, Arm], int], scores: _Values, shares: Shares) -> tuple[Share, ...]:
    epochs = {epoch for epoch, _ in counts} | {epoch for _, epoch in scores}
    return tuple(
        Share(epoch, shares[epoch], counts.get((epoch, "active"), 0), counts.get((epoch, "candidate"), 0))
        for epoch in sorted(epochs)
    )
