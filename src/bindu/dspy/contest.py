"""Where users disagree: which rules stay. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from math import log
from typing import Final

import numpy as np

from bindu.dspy.feedback import is_anonymous
from bindu.dspy.support import Reading, RuleSupport

__all__ = ["settle"]

_NONE: Final[frozenset[str]] = frozenset()
_OPPOSITE: Final = -0.5  # correlation between what breaks one and what breaks the other; misreadings blur it
_FEWEST: Final = 20  # answers, to tell by
_CLEARLY: Final = 2.58  # standard errors: who complains rated low, and without them the others look too content


def settle(
    weighed: Sequence[RuleSupport],
    readings: Sequence[Reading],
    witnesses_of: Mapping[str, frozenset[str]],
    orders: Set[str] = _NONE,
) -> list[RuleSupport]:
    """Keep of each pair of opposites the rule that ratings and witnesses favour, and drop the other; in order.

    Opposites are told by what breaks them: an answer that breaks one of them keeps the other. What counts for a rule is
    what it is worth to those who did not ask for it, in standard errors, plus the logarithm of how many times more
    witnesses it has than its opposite. ``witnesses_of`` gives the raters of each task in which somebody said what an
    answer was like. A rule most of whose raters are witnesses stays unless ratings clearly speak against it. Another
    one that cites a task in ``orders``, where somebody only said what answers shall be like, must clearly be worth
    something to everybody else, its opponents included, unless many ask for it; else it goes, and stands against none.
    """
    witnesses = [_witnesses(one, witnesses_of) for one in weighed]
    found = list(weighed)
    unfounded = set()
    for place, one in enumerate(weighed):
        if 2 * witnesses[place] > one.raters:
            found[place] = _believed(one, witnesses[place])
        elif not orders.isdisjoint(one.rule.task_ids) and not _confirmed(one):
            found[place] = _unconfirmed(one)
            unfounded.add(place)
    for this, other in _opposites(len(weighed), readings, unfounded):
        votes = (_to_others(found[this]) - _to_others(found[other])) / 2
        voices = log((witnesses[this] + 0.5) / (witnesses[other] + 0.5))
        winner, loser = (this, other) if votes + voices >= 0 else (other, this)
        kept, lost = found[winner], found[loser]
        reason = (
            f"Users disagree: {witnesses[winner]} witnesses for '{kept.rule.text}', {witnesses[loser]} for "
            f"'{lost.rule.text}'; to the others the first is worth {kept.difference:+.3f} ± {kept.error:.3f}, the "
            f"second {lost.difference:+.3f} ± {lost.error:.3f} of the score."
        )
        found[winner] = replace(kept, verdict="keep", reason=reason)
        found[loser] = replace(lost, verdict="drop", reason=reason)
    return found


def _witnesses(one: RuleSupport, witnesses_of: Mapping[str, frozenset[str]]) -> int:
    """Distinct people; an anonymous one is another person in each task."""
    return len(
        {
            (rater, task_id if is_anonymous(rater) else "")
            for task_id in one.rule.task_ids
            for rater in witnesses_of.get(task_id, ())
        }
    )


def _believed(one: RuleSupport, witnesses: int) -> RuleSupport:
    """Most who ask for it are witnesses: they are believed unless ratings clearly speak against them."""
    if one.verdict == "drop" and _to_others(one) > -_CLEARLY:
        return replace(one, verdict="keep", reason=f"{one.reason} But {witnesses} describe what they saw.")
    return one


def _confirmed(one: RuleSupport) -> bool:
    """Whether ratings clearly confirm it, or many ask for it."""
    return one.of_many or (one.overall_error > 0 and one.overall / one.overall_error >= _CLEARLY)


def _unconfirmed(one: RuleSupport) -> RuleSupport:
    reason = (
        f"{one.raters} ask for it and hardly anybody says so but in orders; to all others it is worth "
        f"{one.overall:+.3f} ± {one.overall_error:.3f} of the score."
    )
    return replace(one, verdict="drop", reason=reason)


def _to_others(one: RuleSupport) -> float:
    """What it is worth to those who did not ask for it, in standard errors."""
    return one.difference / one.error if one.error > 0 else 0.0


def _opposites(rules: int, readings: Sequence[Reading], without: Set[int]) -> Iterator[tuple[int, int]]:
    """Pairs, each rule in one of them at most and some in none, the clearest first."""
    if len(readings) < _FEWEST:
        return
    broken = np.array([[number in one.broken for number in range(1, rules + 1)] for one in readings], float)
    spread = broken.std(axis=0)
    pairs = []
    for one in range(rules):
        for other in range(one + 1, rules):
            if spread[one] and spread[other]:
                alike = float(np.corrcoef(broken[:, one], broken[:, other])[0, 1])
                if alike <= _OPPOSITE:
                    pairs.append((alike, one, other))
    taken = set(without)
    for _, one, other in sorted(pairs):
        if not {one, other} & taken:
            taken |= {one, other}
            yield one, other
