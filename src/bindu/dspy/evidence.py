"""What the scores of two prompts say about their difference, at every look.

Bets are laid against null hypotheses; what they won, the e-value, stays valid however often anybody looks
(Waudby-Smith and Ramdas, JRSS-B 2024; Karampatziakis, Mineiro and Ramdas, ICML 2021). A null hypothesis is rejected at
level alpha when its e-value reaches 1 / alpha. Everything is kept as a state that a closed window is folded into.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import exp, fsum, lgamma, log, log1p
from typing import Final

from bindu.dspy.policy import Policy

__all__ = [
    "EFFECTS",
    "GUARD_EFFECTS",
    "NOTHING_LEFT",
    "Band",
    "Evidence",
    "Share",
    "Spread",
    "Standing",
    "Stratum",
    "Window",
    "e_value",
    "fold",
    "log_e",
    "log_mismatch",
    "log_vote_mismatch",
    "standing",
    "start_after_win",
    "threshold",
]

EFFECTS: Final = (0.02, 0.04, 0.08, 0.16)  # differences that the bets are sized for, with equal weights
GUARD_EFFECTS: Final = (0.005, 0.02, 0.08, 0.3)
BAND_ALPHA: Final = 0.05
CAP: Final = 0.9  # of the wealth, at most, is staked on a block
PRIOR_VARIANCE: Final[Mapping[str, float]] = {"rating": 0.10, "thumbs_up": 0.20}
GUARD_VARIANCE: Final = 0.02
PRIOR_UNITS, LEAST_VARIANCE = 20, 0.005
MISMATCH_PRIORS: Final = (100.0, 1000.0)
_MOST_LOG: Final = 700.0
NOTHING_LEFT: Final = -2.0  # below every difference: what there was to compare hangs on one rater
VOTE_ODDS: Final = (0.82, 0.905, 1.105, 1.22)  # how much likelier, or less, a candidate's unit is to vote

Logs = tuple[float, ...]  # the log wealth of one bet per effect
Blocks = dict[float, dict[float, int]]  # variance -> difference -> how many blocks have it
NO_BETS: Final[Logs] = (0.0,) * len(EFFECTS)
FINE = tuple(place / 100 for place in range(-20, 21))
COARSE = tuple(place / 100 for place in (25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100))
GRID: Final = (*(-place for place in reversed(COARSE)), *FINE, *COARSE)


@dataclass(frozen=True, slots=True)
class Stratum:
    """Values in [0, 1] that may be compared: of one kind, from units of one share epoch, in one window.

    Each side is ordered by something that knows neither arm nor value (a hash of the unit id).
    """

    kind: str
    epoch: int
    active: tuple[float, ...]
    candidate: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """How many units a share epoch gave to each arm, and how many of them were scored."""

    epoch: int
    share: float
    active: int = 0
    candidate: int = 0
    rated_active: int = 0
    rated_candidate: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """What arrived between two looks: scores, guardrail values of new units, and how these were assigned."""

    number: int  # from 1
    scores: tuple[Stratum, ...] = ()
    firsts: tuple[Stratum, ...] = ()  # by unit's first request; the kind is the guardrail's name
    assigned: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True)
class Spread:
    """What the variance of earlier windows' values is estimated from."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: Iterable[float]) -> Spread:
        """Take more values in."""
        seen = list(values)
        return Spread(
            self.count + len(seen), self.total + fsum(seen), self.squares + fsum(value * value for value in seen)
        )

    def variance(self, prior: float) -> float:
        """Shrunk towards ``prior``, which weighs 20 units."""
        around_mean = 0.0 if self.count == 0 else max(0.0, self.squares - self.total**2 / self.count)
        return max(LEAST_VARIANCE, (PRIOR_UNITS * prior + around_mean) / (PRIOR_UNITS + self.count))


@dataclass(frozen=True, slots=True)
class Band:
    """Differences not yet rejected: per shift the wealth of the bets that the truth is above it, and below it."""

    shifts: tuple[float, ...] = GRID
    above: tuple[Logs, ...] = (NO_BETS,) * len(GRID)
    below: tuple[Logs, ...] = (NO_BETS,) * len(GRID)

    @property
    def bounds(self) -> tuple[float, float]:
        """The 95 % confidence sequence, rounded outwards to the grid."""
        before = [shift for shift in GRID if shift < self.shifts[0]]
        after = [shift for shift in GRID if shift > self.shifts[-1]]
        return (before[-1] if before else -1.0), (after[0] if after else 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The state of all tests after a window: enough to go on without reading earlier ones."""

    window: int = 0
    superiority: Logs = NO_BETS
    harm: Logs = NO_BETS
    futility: Logs = NO_BETS
    non_inferiority: Logs = NO_BETS
    best: float = 0.0  # the largest log e-value of superiority so far
    won_window: int | None = None
    won_log_e: float | None = None
    after_win: Logs | None = None  # harm since the win
    feedback_alarm: bool = False  # latched: the candidate changes who votes
    weight: float = 0.0  # of the blocks that the band describes, the sum of 1 / variance
    weighted: float = 0.0  # the sum of difference / variance
    spreads: dict[str, Spread] = field(default_factory=dict)
    band: Band = field(default_factory=Band)
    shares: tuple[Share, ...] = ()
    guards: dict[str, Logs] = field(default_factory=dict)

    @property
    def estimate(self) -> float | None:
        """The difference, candidate minus active, blocks weighted by precision; None before the first block."""
        return None if self.weight == 0 else self.weighted / self.weight

    def rated_at(self, epoch: int) -> int:
        """Candidate units of an epoch with feedback."""
        return sum(share.rated_candidate for share in self.shares if share.epoch == epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the tests say at the end of a window; e-values and Bayes factors as natural logarithms."""

    superiority: float
    harm: float
    futility: float
    non_inferiority: float
    after_win: float | None  # harm since the win
    mismatch: float  # of assignments
    feedback_mismatch: float
    guards: dict[str, float]
    estimate: float | None  # candidate minus active
    low: float  # of the 95 % confidence sequence
    high: float
    p_value: float  # anytime-valid, of "the candidate is not better"


def standing(evidence: Evidence) -> Standing:
    """Sum a state up."""
    low, high = evidence.band.bounds
    return Standing(
        superiority=log_e(evidence.superiority),
        harm=log_e(evidence.harm),
        futility=log_e(evidence.futility),
        non_inferiority=log_e(evidence.non_inferiority),
        after_win=None if evidence.after_win is None else log_e(evidence.after_win),
        mismatch=log_mismatch((share.share, share.active, share.candidate) for share in evidence.shares),
        feedback_mismatch=_votes_mismatch(evidence.shares),
        guards={name: log_e(logs) for name, logs in evidence.guards.items()},
        estimate=evidence.estimate,
        low=low,
        high=high,
        p_value=exp(-evidence.best),
    )


def fold(before: Evidence, window: Window, policy: Policy, *, with_band: bool = True) -> Evidence:
    """Take a closed window in; windows come in order, and one without values only moves the number."""
    if window.number <= before.window:
        raise ValueError(f"Window {window.number} cannot be folded after window {before.window}.")
    scored = _blocks(window.scores, before.spreads)
    superiority = _grow(before.superiority, scored, sign=1)
    shares = _shares(before.shares, window)
    return replace(
        _described(before, scored, with_band=with_band),
        window=window.number,
        superiority=superiority,
        harm=_grow(before.harm, scored, sign=-1, shift=-policy.harm_margin),
        futility=_grow(before.futility, scored, sign=-1, shift=policy.gain),
        non_inferiority=_grow(before.non_inferiority, scored, sign=1, shift=-policy.tolerance),
        best=max(before.best, log_e(superiority)),
        after_win=None
        if before.after_win is None
        else _grow(before.after_win, scored, sign=-1, shift=-policy.harm_margin),
        feedback_alarm=before.feedback_alarm or _votes_mismatch(shares) >= threshold(policy.alpha_feedback_mismatch),
        spreads=_spreads(before.spreads, (*window.scores, *window.firsts)),
        shares=shares,
        guards=_guards(before, window, policy),
    )


def start_after_win(evidence: Evidence, log_e_value: float) -> Evidence:
    """Latch a win at the present window and begin to watch for harm anew: the old process is deep in credit by now."""
    if evidence.won_window is not None:
        raise ValueError(f"The win of window {evidence.won_window} is latched; window {evidence.window} is no other.")
    return replace(evidence, won_window=evidence.window, won_log_e=log_e_value, after_win=NO_BETS)


def log_e(logs: Logs) -> float:
    """The log e-value of a mixture of bets: log-mean-exp."""
    most = max(logs)
    return most + log(fsum(exp(value - most) for value in logs) / len(logs))


def threshold(alpha: float) -> float:
    """The log e-value at which a test of level ``alpha`` rejects, at whatever look (Ville's inequality)."""
    return -log(alpha)


def e_value(log_value: float) -> float:
    """Of its logarithm; at most the largest that there is a number for."""
    return exp(min(log_value, _MOST_LOG))


def log_mismatch(counts: Iterable[tuple[float, int, int]]) -> float:
    """The log Bayes factor against (share, active, candidate) counts having come by those shares.

    Beta-Binomial against Binomial, a factor per epoch (Lindon and Malek, NeurIPS 2022).
    """
    factors = (
        log_e(tuple(_log_bayes(prior, share, active, candidate) for prior in MISMATCH_PRIORS))
        for share, active, candidate in counts
        if 0 < share < 1
    )
    return fsum(factors)


def _log_bayes(prior: float, share: float, active: int, candidate: int) -> float:
    a, b = prior * share, prior * (1 - share)
    marginal = _log_beta(candidate + a, active + b) - _log_beta(a, b)
    return marginal - candidate * log(share) - active * log1p(-share)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def log_vote_mismatch(counts: Iterable[tuple[float, int, int]]) -> float:
    """The log Bayes factor against (share, active, candidate) units with feedback having come by those shares.

    The alternatives are odds that hold over all epochs: a prompt that changes who votes does so at every share.
    """
    known = [(share, active, candidate) for share, active, candidate in counts if 0 < share < 1]
    return log_e(tuple(_log_odds(odds, known) for odds in VOTE_ODDS))


def _log_odds(odds: float, counts: Iterable[tuple[float, int, int]]) -> float:
    return fsum(
        candidate * log(odds) - (active + candidate) * log1p(share * (odds - 1)) for share, active, candidate in counts
    )


def _votes_mismatch(shares: Sequence[Share]) -> float:
    return log_vote_mismatch((share.share, share.rated_active, share.rated_candidate) for share in shares)


def _blocks(strata: Sequence[Stratum], spreads: Mapping[str, Spread]) -> Blocks:
    """Match each unit of a stratum's smaller side with a group of the larger side."""
    blocks: Blocks = {}
    for stratum in strata:
        prior = PRIOR_VARIANCE.get(stratum.kind, GUARD_VARIANCE)
        variance = spreads.get(stratum.kind, Spread()).variance(prior)
        for difference, spread in _matched(stratum.active, stratum.candidate):
            equal = blocks.setdefault(variance * spread, {})
            equal[difference] = equal.get(difference, 0) + 1
    return blocks


def _matched(active: Sequence[float], candidate: Sequence[float]) -> Iterable[tuple[float, float]]:
    """Per block the difference of the means (candidate minus active) and the sum of 1 / size."""
    few, many, sign = (candidate, active, 1) if len(candidate) <= len(active) else (active, candidate, -1)
    if not few:
        return
    size, larger = divmod(len(many), len(few))
    start = 0
    for place, value in enumerate(few):
        end = start + size + (place < larger)
        yield sign * (value - fsum(many[start:end]) / (end - start)), 1 + 1 / (end - start)
        start = end


def _grow(
    logs: Logs,
    blocks: Blocks,
    *,
    sign: int,
    shift: float = 0.0,
    cap: float | None = None,
    effects: Sequence[float] = EFFECTS,
) -> Logs:
    """Bet that ``sign * (difference - shift)`` is above 0; a stake never loses more than CAP of the wealth."""
    most = CAP / max(1.0, 1 + sign * shift) if cap is None else cap
    totals = list(logs)
    for variance, differences in blocks.items():
        for place, effect in enumerate(effects):
            stake = sign * min(effect / (variance + effect * effect), most)
            totals[place] += fsum([n * log1p(stake * (value - shift)) for value, n in differences.items()])
    return tuple(totals)


def _described(before: Evidence, blocks: Blocks, *, with_band: bool) -> Evidence:
    """Bring the estimate and its band up to date; both begin anew when no one difference fits all that was seen."""
    band = _narrow(before.band, blocks) if with_band and blocks else before.band
    weight, weighted = (0.0, 0.0) if band is None else (before.weight, before.weighted)
    counted = [(difference, n / variance) for variance, those in blocks.items() for difference, n in those.items()]
    return replace(
        before,
        band=band or Band(),
        weight=weight + fsum(heavy for _, heavy in counted),
        weighted=weighted + fsum(difference * heavy for difference, heavy in counted),
    )


def _narrow(band: Band, blocks: Blocks) -> Band | None:
    """Test every shift that is left; what is rejected stays rejected. None when nothing is left.

    From either end inwards, the likelier rejection first, so that most of a wide band costs one side of the bets.
    """
    limit, places = threshold(BAND_ALPHA / 2), range(len(band.shifts))

    @cache
    def above(place: int) -> Logs:
        return _shifted(band.above[place], blocks, sign=1, shift=band.shifts[place])

    @cache
    def below(place: int) -> Logs:
        return _shifted(band.below[place], blocks, sign=-1, shift=band.shifts[place])

    low = next((place for place in places if log_e(above(place)) < limit and log_e(below(place)) < limit), None)
    if low is None:
        return None
    high = next(place for place in reversed(places) if log_e(below(place)) < limit and log_e(above(place)) < limit)
    kept = places[low : high + 1]
    return Band(band.shifts[low : high + 1], tuple(map(above, kept)), tuple(map(below, kept)))


def _shifted(logs: Logs, blocks: Blocks, *, sign: int, shift: float) -> Logs:
    return _grow(logs, blocks, sign=sign, shift=shift, cap=CAP / (1 + abs(shift)))


def _spreads(before: Mapping[str, Spread], strata: Iterable[Stratum]) -> dict[str, Spread]:
    after = dict(before)
    for stratum in strata:
        after[stratum.kind] = after.get(stratum.kind, Spread()).add((*stratum.active, *stratum.candidate))
    return after


def _shares(before: Sequence[Share], window: Window) -> tuple[Share, ...]:
    after = {share.epoch: share for share in before}
    for new in window.assigned:
        known = after.get(new.epoch, Share(new.epoch, new.share))
        after[new.epoch] = replace(known, active=known.active + new.active, candidate=known.candidate + new.candidate)
    for stratum in window.scores:
        known = after[stratum.epoch]
        after[stratum.epoch] = replace(
            known,
            rated_active=known.rated_active + len(stratum.active),
            rated_candidate=known.rated_candidate + len(stratum.candidate),
        )
    return tuple(after[epoch] for epoch in sorted(after))


def _guards(before: Evidence, window: Window, policy: Policy) -> dict[str, Logs]:
    after = {name: before.guards.get(name, (0.0,) * len(GUARD_EFFECTS)) for name in policy.guards}
    for name, logs in after.items():
        blocks = _blocks([stratum for stratum in window.firsts if stratum.kind == name], before.spreads)
        after[name] = _grow(logs, blocks, sign=1, shift=policy.guard_margin, effects=GUARD_EFFECTS)
    return after
