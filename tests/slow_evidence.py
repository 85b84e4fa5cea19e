"""The evidence of an experiment once more: slowly, in exact fractions, one formula after the other.

Written from the published rule and not from ``bindu.dspy.evidence``, to be wrong in other places than it. Values are
Fractions; only the logarithm of a finished factor is a float.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import exp, fsum, log

from bindu.dspy.evidence import Stratum, Window
from bindu.dspy.policy import Policy

EFFECTS = tuple(Fraction(text) for text in ("0.02", "0.04", "0.08", "0.16"))
GUARD_EFFECTS = tuple(Fraction(text) for text in ("0.005", "0.02", "0.08", "0.3"))
PRIOR = {"rating": Fraction(1, 10), "thumbs_up": Fraction(1, 5)}
GUARD_PRIOR = Fraction(1, 50)
CAP = Fraction(9, 10)
FAR = (*range(25, 50, 5), *range(50, 101, 10))
GRID = tuple(
    Fraction(hundredth, 100) for hundredth in (*(-far for far in reversed(FAR)), *range(-20, 21), *FAR)
)  # in hundredths: fine where it matters, coarse beyond
Block = tuple[Fraction, Fraction]  # the difference of two means, and its variance
Factors = dict[Fraction, list[float]]  # per effect the log of every factor


def exact(number: float) -> Fraction:
    """The decimal that was meant by a float."""
    return Fraction(str(number))


def groups(values: Sequence[Fraction], parts: int) -> list[Sequence[Fraction]]:
    """Nearly equal runs of neighbours, the longer ones first."""
    cut, start = [], 0
    for part in range(parts):
        size = len(values) // parts + (1 if part < len(values) % parts else 0)
        cut.append(values[start : start + size])
        start += size
    return cut


def blocks(stratum: Stratum, variance: Fraction) -> list[Block]:
    """The matched differences of a stratum; none if a side is empty."""
    parts = min(len(stratum.active), len(stratum.candidate))
    found = []
    for mine, other in zip(groups(stratum.candidate, parts), groups(stratum.active, parts), strict=True):
        difference = sum(mine, Fraction(0)) / len(mine) - sum(other, Fraction(0)) / len(other)
        found.append((difference, variance * (Fraction(1, len(mine)) + Fraction(1, len(other)))))
    return found


def variance_of(values: Sequence[Fraction], prior: Fraction) -> Fraction:
    """Shrunk towards the prior as if that were known from twenty values, and never below .005."""
    squares = Fraction(0)
    if values:
        mean = sum(values, Fraction(0)) / len(values)
        for value in values:
            squares += (value - mean) ** 2
    return max(Fraction(5, 1000), (20 * prior + squares) / (20 + len(values)))


def bet(found: Iterable[Block], sign: int, null: Fraction, cap: Fraction, wealth: Factors) -> None:
    """Bet on every block that the difference lies above the null (sign 1) or below it (-1)."""
    for difference, variance in found:
        for effect, logs in wealth.items():
            stake = min(effect / (variance + effect**2), cap)
            logs.append(log(1 + sign * stake * (difference - null)))


def logs_of(wealth: Factors) -> tuple[float, ...]:
    return tuple(fsum(logs) for logs in wealth.values())


def log_mean_exp(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + log(fsum(exp(value - top) for value in logs) / len(logs))


def rising(start: Fraction, steps: int) -> Fraction:
    product = Fraction(1)
    for step in range(steps):
        product *= start + step
    return product


def mismatch(share: Fraction, active: int, candidate: int) -> Fraction:
    """The Bayes factor of one epoch: Beta-Binomial over Binomial, for two equally likely concentrations."""
    total = Fraction(0)
    for kappa in (100, 1000):
        drawn = rising(kappa * share, candidate) * rising(kappa * (1 - share), active)
        drawn /= rising(Fraction(kappa), active + candidate)
        total += drawn / (share**candidate * (1 - share) ** active)
    return total / 2


VOTE_ODDS = tuple(map(Fraction, ("0.82", "0.905", "1.105", "1.22")))


def vote_mismatch(counts: Sequence[tuple[Fraction, int, int]]) -> Fraction:
    """The Bayes factor of one odds ratio for all epochs over none, for four equally likely odds."""
    total = Fraction(0)
    for odds in VOTE_ODDS:
        product = Fraction(1)
        for share, active, candidate in counts:
            candidates = share * odds / (1 - share + share * odds)
            product *= (candidates / share) ** candidate * ((1 - candidates) / (1 - share)) ** active
        total += product
    return total / len(VOTE_ODDS)


def no_bets(effects: Sequence[Fraction] = EFFECTS) -> Factors:
    return {effect: [] for effect in effects}


@dataclass
class SlowEvidence:
    """Everything there was so far; nothing is summed up before it is asked for."""

    policy: Policy
    grid: tuple[Fraction, ...] = GRID
    tests: dict[str, Factors] = field(default_factory=dict)
    above: dict[Fraction, Factors] = field(default_factory=dict)
    below: dict[Fraction, Factors] = field(default_factory=dict)
    rejected: set[Fraction] = field(default_factory=set)
    values: dict[str, list[Fraction]] = field(default_factory=dict)
    matched: list[Block] = field(default_factory=list)
    shares: dict[int, Fraction] = field(default_factory=dict)
    assigned: dict[int, list[int]] = field(default_factory=dict)  # per epoch: active, candidate
    rated: dict[int, list[int]] = field(default_factory=dict)
    best: float = 0.0
    feedback_alarm: bool = False

    def __post_init__(self) -> None:
        self.tests = {name: no_bets() for name in ("superiority", "harm", "futility", "non_inferiority")}
        self.tests |= {name: no_bets(GUARD_EFFECTS) for name in self.policy.guards}
        self.above = {shift: no_bets() for shift in self.grid}
        self.below = {shift: no_bets() for shift in self.grid}

    def take(self, window: Window) -> None:
        before = len(self.matched)
        for stratum in window.scores:
            self._test(blocks(stratum, variance_of(self.values.get(stratum.kind, []), PRIOR[stratum.kind])))
        margin = exact(self.policy.guard_margin)
        for stratum in window.firsts:
            if stratum.kind in self.policy.guards:
                variance = variance_of(self.values.get(stratum.kind, []), GUARD_PRIOR)
                bet(blocks(stratum, variance), 1, margin, CAP / (1 + margin), self.tests[stratum.kind])
        for stratum in (*window.scores, *window.firsts):
            self.values.setdefault(stratum.kind, []).extend((*stratum.active, *stratum.candidate))
        self._look(self.matched[before:])
        self._count(window)

    def _test(self, found: list[Block]) -> None:
        harm, gain, tolerance = (
            exact(number) for number in (self.policy.harm_margin, self.policy.gain, self.policy.tolerance)
        )
        bet(found, 1, Fraction(0), CAP, self.tests["superiority"])
        bet(found, -1, -harm, CAP / (1 + harm), self.tests["harm"])
        bet(found, -1, gain, min(CAP, CAP / max(1 - gain, Fraction(1, 10**9))), self.tests["futility"])
        bet(found, 1, -tolerance, min(CAP, CAP / (1 - tolerance)), self.tests["non_inferiority"])
        for shift in self.grid:
            bet(found, 1, shift, CAP / (1 + abs(shift)), self.above[shift])
            bet(found, -1, shift, CAP / (1 + abs(shift)), self.below[shift])
        self.matched.extend(found)

    def _look(self, latest: list[Block]) -> None:
        self.best = max(self.best, self.log_e("superiority"))
        rejected = set(self.rejected)
        for shift in self.grid:
            for side in (self.above, self.below):
                if log_mean_exp(logs_of(side[shift])) >= log(40):  # alpha .025 a side
                    rejected.add(shift)
        self.rejected = rejected
        if len(rejected) == len(self.grid):  # the difference has changed: begin anew
            self.rejected, self.matched = set(), latest
            self.above = {shift: no_bets() for shift in self.grid}
            self.below = {shift: no_bets() for shift in self.grid}

    def _count(self, window: Window) -> None:
        for share in window.assigned:
            self.shares[share.epoch] = exact(share.share)
            assigned = self.assigned.setdefault(share.epoch, [0, 0])
            assigned[0] += share.active
            assigned[1] += share.candidate
        for stratum in window.scores:
            rated = self.rated.setdefault(stratum.epoch, [0, 0])
            rated[0] += len(stratum.active)
            rated[1] += len(stratum.candidate)
        alpha = exact(self.policy.alpha_feedback_mismatch)
        self.feedback_alarm = self.feedback_alarm or self.against_votes() >= 1 / alpha

    def against(self, counts: dict[int, list[int]]) -> Fraction:
        """The Bayes factor, over all epochs, against such counts having come by the shares."""
        product = Fraction(1)
        for epoch, (active, candidate) in counts.items():
            product *= mismatch(self.shares[epoch], active, candidate)
        return product

    def against_votes(self) -> Fraction:
        """The Bayes factor against the counts of units with feedback."""
        return vote_mismatch([(self.shares[epoch], *counted) for epoch, counted in self.rated.items()])

    def logs(self, test: str) -> tuple[float, ...]:
        return logs_of(self.tests[test])

    def log_e(self, test: str) -> float:
        return log_mean_exp(self.logs(test))

    @property
    def estimate(self) -> Fraction | None:
        """The difference, blocks weighted by one over their variance."""
        if not self.matched:
            return None
        weight = sum((1 / variance for _, variance in self.matched), Fraction(0))
        return sum((difference / variance for difference, variance in self.matched), Fraction(0)) / weight

    @property
    def bounds(self) -> tuple[Fraction, Fraction]:
        """From the last shift rejected below to the first one above the shifts that are left."""
        left = [shift for shift in self.grid if shift not in self.rejected]
        low = max((shift for shift in self.grid if shift < min(left)), default=min(self.grid))
        high = min((shift for shift in self.grid if shift > max(left)), default=max(self.grid))
        return low, high
