"""Do the others agree? A rule that few ask for is not learned against everybody else's ratings. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bindu.dspy.feedback import is_anonymous
from bindu.dspy.models import Interaction
from bindu.dspy.rubric import RubricRule

__all__ = ["Reading", "RuleSupport", "cap_raters", "fair_share", "most_wanted", "weigh_rules"]

Floats = NDArray[np.float64]
_Person = tuple[str, str]  # a rater, and the task or conversation of one whom nobody knows
_NOBODY: Final[frozenset[_Person]] = frozenset()

# How much a rule must be worth to the others, in spreads of their scores, for the errors that test_support.py allows
_NEEDED: Final = 0.135  # where as many ask for it as for the mean rule; in proportion to how many ask
_NEEDED_AT_MOST: Final = 0.3
_BENEFIT: Final = 1.28  # standard errors in its favour: the upper end of a two-sided 80 % interval
_MANY: Final = 0.2  # of all raters: these are not few, and too many to be left out
_INFORMATION: Final = 4.0  # raters * share that keep * share that break the rule, beside all else; less says nothing
_ALIKE: Final = 0.5  # correlation of two rules that say the same or the opposite, as an erring judge sees them
_PRIOR: Final = 10.0  # raters: how many it takes to believe that another rule matters (ridge)
_AMONG_FEW: Final = 2.0
_TINY: Final = 1e-9
_EPOCH: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Reading:
    """One logged answer, and which rules of the rubric a judge found broken in it, who saw no rating and no comment."""

    score: float  # of its raters, in [0, 1]
    kind: str  # of the feedback; stars and thumbs have different scales
    raters: frozenset[str]
    task_id: str
    length: int  # of the answer, in characters
    broken: frozenset[int]  # numbers of rules, from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSupport:
    """Who asks for a rule, what it is worth to the others, and whether it stays in the rubric."""

    rule: RubricRule
    raters: int  # who ask for it: distinct people behind its task ids
    others: int  # people whose ratings were weighed
    everybody: int  # people who rated or ask for a rule
    difference: float  # in the others' score: answers that keep it less those that break it, all else equal
    error: float  # standard error of the difference; 0 and 1 where there is nothing to tell it by
    overall: float  # the same difference to all who do not ask for it, those who ask for the opposite included
    overall_error: float  # its standard error, cautious where few answers keep or break the rule
    needed: float  # what the difference must reach, with the benefit of the doubt
    verdict: Literal["keep", "drop"]
    reason: str  # a sentence

    @property
    def of_many(self) -> bool:
        """Whether so many ask for it that it is no wish of few."""
        return self.raters > _MANY * self.everybody


def weigh_rules(
    rules: Sequence[RubricRule], readings: Sequence[Reading], raters_of: Mapping[str, frozenset[str]]
) -> list[RuleSupport]:
    """Drop a rule that few raters ask for when it is worth too little to all others; keep it when nobody can tell.

    ``raters_of`` gives the raters of each task that a rule may cite; give all rules of the rubric at once. Who asks
    for a rule, for its twin or for its opposite, has no say on what it is worth. The more ask for it, compared with
    the other rules, the more it must be worth: an honest wish of many shows in the ratings of all. A rule that cites no
    task was written by a person and stays. Raises ValueError for a score or a length that is no finite number.
    """
    answers = _Answers.of(readings, len(rules))
    askers = [_askers(rule, raters_of) for rule in rules]
    everybody = len(answers.everybody.union(*askers))
    usual = sum(map(len, askers)) / max(sum(map(bool, askers)), 1)
    found = []
    for i, rule in enumerate(rules):
        kin = answers.kin(i)
        others, weights = answers.heard(askers[i].union(*(askers[k] for k in kin)))
        effect, overall = _effect(answers, i, kin, weights), _effect(answers, i, kin, answers.heard(askers[i])[1])
        weighed = RuleSupport(
            rule=rule,
            raters=len(askers[i]),
            others=others,
            everybody=everybody,
            difference=effect.difference,
            error=effect.error,
            overall=overall.difference,
            overall_error=overall.cautious_error,
            needed=min(_NEEDED * len(askers[i]) / max(usual, 1.0), _NEEDED_AT_MOST) * effect.spread,
            verdict="keep",
            reason="",
        )
        found.append(_judge(weighed))
    return found


def most_wanted(weighed: Sequence[RuleSupport], most: int) -> list[RuleSupport]:
    """Keep at most so many of the rules that stay, those that most people ask for; in order."""
    staying = sorted((one for one in weighed if one.verdict == "keep"), key=lambda one: -one.raters)
    reason = f"{most} other rules have more raters behind them."
    return [replace(one, verdict="drop", reason=reason) if one in staying[most:] else one for one in weighed]


def cap_raters(rows: Sequence[Interaction], *, share: float) -> list[Interaction]:
    """Leave out the oldest rows of whoever stands behind more than ``share`` of those that remain, in (0, 1].

    Everybody may keep one row. An anonymous rater is a person of one conversation only. Order is kept. Raises
    ValueError for another share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"A share of the rows is above 0 and at most 1, not {share}.")
    people = [_people(row.raters, row.unit_id or row.context_id or str(row.id)) for row in rows]
    newest_first = sorted(range(len(rows)), key=lambda i: _age(rows[i]), reverse=True)
    while True:
        most = max(1, int(share * len(newest_first) + _TINY))
        counts: Counter[_Person] = Counter()
        kept = []
        for i in newest_first:
            if all(counts[person] < most for person in people[i]):
                counts.update(people[i])
                kept.append(i)
        if len(kept) == len(newest_first):
            return [rows[i] for i in sorted(kept)]
        newest_first = kept


def fair_share(rows: Sequence[Interaction], share: float) -> float:
    """Of the rows that one person may stand behind; among few people twice an equal part."""
    people = len({rater for row in rows for rater in row.raters}) or 1
    return min(1.0, max(share, _AMONG_FEW / people))


@dataclass(frozen=True, slots=True)
class _Answers:
    """Readings as arrays with one entry, or row, per answer."""

    score: Floats
    kinds: NDArray[np.str_]
    people: list[frozenset[_Person]]
    traits: Floats  # one column per rule, 1 where it is broken; last the logarithm of the length
    shares: Floats  # one column per person, the part of the answer that is theirs

    @classmethod
    def of(cls, readings: Sequence[Reading], rules: int) -> _Answers:
        traits = np.zeros((len(readings), rules + 1))
        for i, one in enumerate(readings):
            traits[i, [number - 1 for number in one.broken if 0 < number <= rules]] = 1.0
            traits[i, -1] = np.log(max(one.length, 1))
        people = [_people(one.raters or [""], one.task_id) for one in readings]
        score = np.array([one.score for one in readings], float)
        if not (np.isfinite(score).all() and np.isfinite(traits).all()):
            raise ValueError("The support of rules was given a score or a length that is no finite number.")
        return cls(score, np.array([one.kind for one in readings], str), people, traits, _shares(people))

    @property
    def everybody(self) -> frozenset[_Person]:
        return _NOBODY.union(*self.people)

    def kin(self, rule: int) -> list[int]:
        """Other rules that say nearly the same or the opposite: they are broken together, or one or the other is."""
        apart = self.traits[:, :-1] - self.traits[:, :-1].sum(axis=0) / max(len(self.traits), 1)
        lengths = np.maximum(np.linalg.norm(apart, axis=0), _TINY)
        alike = np.abs(apart.T @ apart[:, rule]) / (lengths * lengths[rule]) >= _ALIKE
        return [int(k) for k in np.flatnonzero(alike) if k != rule]

    def heard(self, unheard: Collection[_Person]) -> tuple[int, Floats]:
        """How many people rated without the unheard ones, and each answer's weight: everybody has one vote to share."""
        used = [people if people.isdisjoint(unheard) else _NOBODY for people in self.people]
        votes = Counter(person for people in used for person in people)
        return len(votes), np.array([sum(1 / votes[person] for person in people) for people in used], float)


class _Effect(NamedTuple):
    """What keeping a rule adds to the score, and how well that is known."""

    difference: float
    error: float  # standard error, all answers scattering alike
    cautious_error: float  # standard error by how those people scatter who saw the rule kept or broken
    spread: float  # standard deviation of scores within a kind


_UNKNOWN: Final = _Effect(0.0, 1.0, 1.0, 0.0)


def _judge(found: RuleSupport) -> RuleSupport:
    asked = f"{found.raters} of {found.everybody} raters ask for it"
    worth = f"to {found.others} others it is worth {found.difference:+.3f} ± {found.error:.3f} of the score"
    if found.error >= _UNKNOWN.error:
        worth = f"the ratings of {found.others} others tell too little to speak against it"
    if not found.rule.task_ids:
        return replace(found, reason=f"A person wrote it; {worth}.")
    if found.of_many:
        return replace(found, reason=f"{asked}, which is not few; {worth}.")
    if found.difference + _BENEFIT * found.error < found.needed:
        reason = f"{asked}, but {worth}, and a wish of so many should be worth {found.needed:.3f}."
        return replace(found, verdict="drop", reason=reason)
    return replace(found, reason=f"{asked}, and {worth}.")


def _effect(answers: _Answers, rule: int, kin: Sequence[int], weights: Floats) -> _Effect:
    """What keeping a rule adds to the score at equal length and equal other rules.

    Weighted ridge regression (Hoerl and Kennard, 1970) within kinds, in units of each kind's spread, that shrinks only
    the other rules and passes over ``kin``. ``_UNKNOWN`` where the answers tell too little. The cautious error is HC3
    (MacKinnon and White, 1985), clustered by person.
    """
    target, spread, weights = _within(answers, weights)
    traits = answers.traits - _means(answers, answers.traits, weights)
    traits[:, kin] = 0.0
    penalty = np.full(traits.shape[1], _PRIOR)
    penalty[[rule, -1]] = _TINY
    weighted = traits * weights[:, None]
    inverse = np.linalg.inv(traits.T @ weighted + np.diag(penalty))
    if not 1 / inverse[rule, rule] >= _INFORMATION:
        return _UNKNOWN
    slopes = inverse @ (weighted.T @ target)
    residuals = target - traits @ slopes
    leverage = ((weighted @ inverse) * traits).sum(axis=1)
    size = weights.sum() ** 2 / (weights**2).sum()
    left = size - leverage.sum() - len(set(answers.kinds))
    variance = (weights @ residuals**2) / weights.sum() * size / max(left, 1.0)
    pull = weighted @ inverse[rule]
    error = float(np.sqrt(variance * (pull**2).sum()))
    pulled = answers.shares.T @ (pull * residuals / np.maximum(1 - leverage, _TINY))
    cautious = float(np.sqrt((pulled**2).sum()))
    return _Effect(-float(slopes[rule]) * spread, error * spread, cautious * spread, spread)


def _shares(people: Sequence[frozenset[_Person]]) -> Floats:
    """Each person's part of each answer, which has at least one person."""
    places = {person: place for place, person in enumerate(_NOBODY.union(*people))}
    shares = np.zeros((len(people), len(places)))
    for i, its in enumerate(people):
        shares[i, [places[person] for person in its]] = 1 / len(its)
    return shares


def _within(answers: _Answers, weights: Floats) -> tuple[Floats, float, Floats]:
    """Scores less their kind's mean over its spread, the mean spread, and weights without kinds that have none."""
    target = answers.score - _means(answers, answers.score[:, None], weights)[:, 0]
    spread = np.sqrt(_means(answers, target[:, None] ** 2, weights)[:, 0])
    weights = np.where(spread > _TINY, weights, 0.0)
    total = weights.sum()
    mean = float(weights @ spread / total) if total else 0.0
    return target / np.where(spread > _TINY, spread, 1.0), mean, weights


def _means(answers: _Answers, values: Floats, weights: Floats) -> Floats:
    """Each column's weighted mean over the answers of the same kind; 0 for a kind without weight."""
    means = np.zeros_like(values)
    for kind in set(answers.kinds):
        alike = answers.kinds == kind
        if total := weights[alike].sum():
            means[alike] = weights[alike] @ values[alike] / total
    return means


def _askers(rule: RubricRule, raters_of: Mapping[str, frozenset[str]]) -> frozenset[_Person]:
    return frozenset(
        person for task_id in rule.task_ids for person in _people(raters_of.get(task_id, frozenset()), task_id)
    )


def _people(raters: Collection[str], where: str) -> frozenset[_Person]:
    return frozenset((rater, where if is_anonymous(rater) else "") for rater in raters)


def _age(row: Interaction) -> tuple[datetime, str, int]:
    return row.created_at or _EPOCH, str(row.id), row.window or 0
