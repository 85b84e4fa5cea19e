"""What teams do instead, on the same streams: plain means, a z-test and a Bayesian rule, each looked at every hour."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt
from statistics import NormalDist

import numpy as np
from canary_runs import POLICY, Result, Vote, Votes, evidence_rule
from canary_world import Stream, World

from bindu.dspy.models import DIGITS
from bindu.dspy.rules.means import better_mean

__all__ = ["RULES", "Year", "year"]

DAYS = 14
LEAST = POLICY.min_interactions
PHI = NormalDist().cdf
LEAST_VARIANCE = 1e-4


@dataclass(slots=True)
class Sums:
    """Of the scores of one kind in one arm."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, score: float) -> None:
        self.count += 1
        self.total += score
        self.squares += score * score


@dataclass(slots=True)
class Totals:
    """Lifetime sums, by kind and arm, and for the means rule what it sees of them."""

    sums: defaultdict[tuple[str, bool], Sums] = field(default_factory=lambda: defaultdict(Sums))
    interactions: int = 0  # of the candidate

    def add(self, votes: list[Vote]) -> None:
        for vote in votes:
            self.sums[vote.kind, vote.candidate].add(vote.score)

    def arm(self, candidate: bool) -> Sums:
        """Both kinds together."""
        thumbs, rating = self.sums["thumbs_up", candidate], self.sums["rating", candidate]
        return Sums(thumbs.count + rating.count, thumbs.total + rating.total, thumbs.squares + rating.squares)

    def mean_as_shown(self, candidate: bool) -> float | None:
        """The specification's average: rating / 5 beside thumbs."""
        thumbs, rating = self.sums["thumbs_up", candidate], self.sums["rating", candidate]
        count = thumbs.count + rating.count
        return None if count == 0 else (thumbs.total + (4 * rating.total + rating.count) / 5) / count

    @property
    def rated(self) -> int:
        return sum(sums.count for sums in self.sums.values())


Verdict = Callable[[Totals], tuple[float, float]]  # P(better) as the rule believes it, and the difference it claims


def means_rule(world: World, seeds: tuple[int, ...]) -> Result:
    """The specification's rule: after 20 interactions, a step of 10 % towards the better lifetime mean."""
    stream, votes, seen = Stream(world, seeds), Votes(world.window_hours), Totals()
    share, epoch, difference, windows = 0.1, 1, 0.0, 24 * DAYS // world.window_hours
    for window in range(1, windows + 1):
        batch = stream.window()
        votes.add(batch, share, epoch)
        seen.add(votes.of(window))
        seen.interactions += int((batch.place < share).sum() + (batch.other_places < share).sum())
        active, candidate = seen.mean_as_shown(False), seen.mean_as_shown(True)
        better = better_mean(active, candidate, seen.interactions, LEAST)
        if active is not None and candidate is not None:
            difference = candidate - active
        if better is not None:
            share = round(share + (POLICY.step if better == "candidate" else -POLICY.step), DIGITS)
        if not 0 < share < 1:
            outcome = "promoted" if share >= 1 else "rolled_back"
            return Result(outcome, "means", share >= 1, window * world.window_hours, seen.rated, difference)
    return Result("open", "means", False, windows * world.window_hours, seen.rated, difference)


def z_test(seen: Totals) -> tuple[float, float]:
    """Of the difference of two means, two-sided at .05."""
    a, c = seen.arm(False), seen.arm(True)
    spread = sqrt(sum(_variance(arm) / arm.count for arm in (a, c)))
    difference = c.total / c.count - a.total / a.count
    return PHI(difference / spread), difference


def bayes(seen: Totals) -> tuple[float, float]:
    """Posteriors of thumbs (Beta, flat prior) and ratings (normal, a prior of one vote), weighted by their counts."""
    mean, spread = 0.0, 0.0
    for kind in ("thumbs_up", "rating"):
        arms = seen.sums[kind, False], seen.sums[kind, True]
        part = (arms[0].count + arms[1].count) / seen.rated
        for sign, arm in zip((-1, 1), arms, strict=True):
            prior = 2 if kind == "thumbs_up" else 1
            centre = (prior / 2 + arm.total) / (prior + arm.count)
            unit = centre * (1 - centre) if kind == "thumbs_up" else _variance(arm)
            mean += sign * part * centre
            spread += part**2 * unit / (prior + arm.count + (kind == "thumbs_up"))
    return PHI(mean / sqrt(spread)), mean


def peeked(believe: Verdict, sure: float) -> Callable[[World, tuple[int, ...]], Result]:
    """Half of the traffic each; at every look, promote or roll back when ``sure``."""

    def run(world: World, seeds: tuple[int, ...]) -> Result:
        stream, votes, seen = Stream(world, seeds), Votes(world.window_hours), Totals()
        windows, difference = 24 * DAYS // world.window_hours, 0.0
        for window in range(1, windows + 1):
            votes.add(stream.window(), 0.5, 1)
            seen.add(votes.of(window))
            if min(seen.arm(False).count, seen.arm(True).count) < LEAST:
                continue
            chance, difference = believe(seen)
            if not 1 - sure < chance < sure:
                outcome = "promoted" if chance >= sure else "rolled_back"
                hours = window * world.window_hours
                return Result(outcome, "peek", outcome == "promoted", hours, seen.rated, difference)
        return Result("open", "peek", False, windows * world.window_hours, seen.rated, difference)

    return run


RULES: dict[str, Callable[[World, tuple[int, ...]], Result]] = {
    "evidence": evidence_rule,
    "means": means_rule,
    "z-test": peeked(z_test, 0.975),
    "bayes": peeked(bayes, 0.95),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """A year of candidates; gains in score points."""

    experiments: int
    promoted: int
    worse: int  # of the promoted, in truth
    gained: float
    claimed: float


def year(rule: str, seeds: tuple[int, ...], spread: float = 0.03) -> Year:
    """A new candidate each day on which none is on trial, its true effect drawn from N(0, ``spread``).

    The level is put back after a promotion: a year's gains do not fit on a scale from 0 to 1.
    """
    day, effects, estimates, number = 0, [], [], 0
    while day < 365:
        number += 1
        effect = float(np.random.default_rng((*seeds, number, 1)).normal(0, spread))
        result = RULES[rule](World(effect=effect), (*seeds, number, 2))
        day += max(1, -int(-result.hours // 24))
        if result.outcome == "promoted" and day <= 365:
            effects.append(effect)
            estimates.append(result.estimate)
    return Year(
        experiments=number,
        promoted=len(effects),
        worse=sum(effect < 0 for effect in effects),
        gained=100 * sum(effects),
        claimed=100 * sum(estimates),
    )


def _variance(arm: Sums) -> float:
    return max(LEAST_VARIANCE, arm.squares / arm.count - (arm.total / arm.count) ** 2) if arm.count else 0.25
