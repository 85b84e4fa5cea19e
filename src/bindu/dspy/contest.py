"""Where users disagree, or give orders: which rules stay. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import log
from typing import Final

import numpy as np

from bindu.dspy.feedback import is_anonymous
from bindu.dspy.support import Reading, RuleSupport

__all__ = ["gives_orders", "settle"]

_OPPOSITE: Final = -0.5  # correlation between what breaks one and what breaks the other; misreadings blur it
_FEWEST: Final = 20  # answers, to tell by
_CLEARLY: Final = 1.64  # standard errors
_ORDERS: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"(?:^|[.!?,:;]\s*)(?:please\s+)?(?:always|never)\s+\w+",
        r"\b(?:you|answers?|repl(?:y|ies)|responses?|bot|assistant|model)\s+(?:must|should|shall|ha(?:s|ve) to)\b",
        r"\b(?:from now on|in (?:every|each|all) (?:answer|reply|response)s?)\b",
    )
)


def gives_orders(comment: str) -> bool:
    """Whether a comment says what answers shall be like, rather than what this one was like.

    Honest people do so too; but what orders alone ask for has to be confirmed by the ratings of others.
    """
    return any(sign.search(comment) for sign in _ORDERS)


def settle(
    weighed: Sequence[RuleSupport],
    readings: Sequence[Reading],
    raters_of: Mapping[str, frozenset[str]],
    orders: Collection[str] = (),
) -> list[RuleSupport]:
    """Keep of each pair of opposites the rule that ratings and witnesses favour, and drop the other; in order.

    Opposites are told by what breaks them: an answer that breaks one of them keeps the other. What counts for a rule is
    what it is worth to those who did not ask for it, in standard errors, plus the logarithm of how many times more
    witnesses it has than its opposite. Witnesses are the raters of its tasks but those in ``orders``, whose comments
    say what answers shall be like and not what this one was like. A rule without a witness has to be worth something to
    the others.
    """
    witnesses = [_witnesses(one, raters_of, orders) for one in weighed]
    found = [_confirmed(one, heard) for one, heard in zip(weighed, witnesses, strict=True)]
    for one, other in _opposites(len(weighed), readings):
        worth = (_errors(found[one]) - _errors(found[other])) / 2
        voices = log((witnesses[one] + 0.5) / (witnesses[other] + 0.5))
        winner, loser = (one, other) if worth + voices >= 0 else (other, one)
        kept, lost = found[winner], found[loser]
        reason = (
            f"Users disagree: {witnesses[winner]} witnesses for '{kept.rule.text}', {witnesses[loser]} for "
            f"'{lost.rule.text}'; to the others the first is worth {kept.difference:+.3f} ± {kept.error:.3f}, the "
            f"second {lost.difference:+.3f} ± {lost.error:.3f} of the score."
        )
        found[winner] = replace(kept, verdict="keep", reason=reason)
        found[loser] = replace(lost, verdict="drop", reason=reason)
    return found


def _witnesses(one: RuleSupport, raters_of: Mapping[str, frozenset[str]], orders: Collection[str]) -> int:
    """Distinct people; an anonymous one is another person in each task."""
    tasks = [task_id for task_id in one.rule.task_ids if task_id not in orders]
    return len(
        {(rater, task_id if is_anonymous(rater) else "") for task_id in tasks for rater in raters_of.get(task_id, ())}
    )


def _confirmed(one: RuleSupport, witnesses: int) -> RuleSupport:
    """Believe witnesses unless ratings clearly speak against them, and orders only if ratings confirm them."""
    if not one.rule.task_ids:
        return one
    if not witnesses and _errors(one) < 1:
        reason = f"Nobody says so but in orders; to the others it is worth {one.difference:+.3f} ± {one.error:.3f}."
        return replace(one, verdict="drop", reason=reason)
    if one.verdict == "drop" and 2 * witnesses > one.raters and _errors(one) > -_CLEARLY:
        return replace(one, verdict="keep", reason=f"{one.reason} But {witnesses} describe what they saw.")
    return one


def _errors(one: RuleSupport) -> float:
    return one.difference / one.error if one.error > 0 else 0.0


def _opposites(rules: int, readings: Sequence[Reading]) -> Iterator[tuple[int, int]]:
    """Pairs, each rule in one of them at most, the clearest first."""
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
    taken: set[int] = set()
    for _, one, other in sorted(pairs):
        if not {one, other} & taken:
            taken |= {one, other}
            yield one, other
