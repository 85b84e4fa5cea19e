"""Is the candidate better on conversations it never saw? A paired test, pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bindu.dspy.models import JsonObject, PredictedEffect

__all__ = ["GateVerdict", "Paired", "TrackRecord", "accept_candidate", "track_record"]

Floats = NDArray[np.float64]
_CONFIDENCE = 0.95
_ALPHA = 0.05
_FLIPS = 9_999
_MAX_GROWTH = 1.25
_FEWEST = 2  # a spread needs two
_ALIKE = 1e-9  # all answers grew by the same factor: nothing to adjust by


@dataclass(frozen=True, slots=True)
class Paired:
    """One conversation answered under both prompts: means over fresh samples."""

    active: float  # score in [0, 1]
    candidate: float
    active_length: float = 1.0  # of the answers, in characters
    candidate_length: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """Whether to open an experiment, with every figure that decided it."""

    outcome: Literal["improved", "unchanged", "worse"]
    reason: str  # a sentence
    conversations: int
    active_score: float
    candidate_score: float
    gain: float  # mean difference per conversation
    lower: float  # of the two-sided 95 % t interval of the gain
    upper: float
    p_value: float  # of the two-sided sign-flip test
    growth: float  # mean answer length, candidate over active
    adjusted_gain: float  # the gain at equal answer length
    margin: float

    @property
    def improved(self) -> bool:
        return self.outcome == "improved"

    def as_json(self) -> JsonObject:
        """For the run's record."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """How often users found better what the gate had expected to be."""

    NEEDED: ClassVar[int] = 5  # experiments, before it says anything

    known: int  # experiments whose effect was seen
    agreed: int  # of them, those in which it had the predicted sign

    @property
    def agreement(self) -> float:
        """In [0, 1]; 1 before the first experiment."""
        return self.agreed / self.known if self.known else 1.0

    def as_json(self) -> JsonObject:
        """For the run's record."""
        return {"known": self.known, "agreed": self.agreed}


def track_record(effects: Sequence[PredictedEffect]) -> TrackRecord:
    """Compare what was predicted with what was seen, in sign; a difference of nothing agrees with nothing."""
    seen = [one for one in effects if one.observed is not None]
    return TrackRecord(len(seen), sum(one.predicted * (one.observed or 0.0) > 0 for one in seen))


def accept_candidate(
    pairs: Sequence[Paired], *, margin: float = 0.01, max_growth: float = _MAX_GROWTH, seed: int = 0
) -> GateVerdict:
    """Accept only a gain that is above ``margin``, unlikely by luck, and not bought with longer answers.

    Raises ValueError below two conversations, where there is no spread to judge by, and for a figure that is not
    a finite number.
    """
    if len(pairs) < _FEWEST:
        raise ValueError(f"The gate needs at least {_FEWEST} conversations, not {len(pairs)}.")
    figures = np.array([(one.active, one.candidate, one.active_length, one.candidate_length) for one in pairs], float)
    if not np.isfinite([*figures.flat, margin, max_growth]).all():
        raise ValueError("The gate was given a score, a length or a bar that is no finite number. Nothing is proven.")
    active, candidate = figures[:, 0], figures[:, 1]
    gains = candidate - active
    lower, upper = _interval(gains)
    lengths = np.maximum(figures[:, 2:], 1.0)
    verdict = GateVerdict(
        outcome="unchanged",
        reason="",
        conversations=len(pairs),
        active_score=float(active.mean()),
        candidate_score=float(candidate.mean()),
        gain=float(gains.mean()),
        lower=lower,
        upper=upper,
        p_value=_sign_flip(gains, seed),
        growth=float(lengths[:, 1].mean() / lengths[:, 0].mean()),
        adjusted_gain=_at_equal_length(gains, np.log(lengths[:, 1] / lengths[:, 0])),
        margin=margin,
    )
    return _judge(verdict, max_growth)


def _judge(found: GateVerdict, max_growth: float) -> GateVerdict:
    """Every bar must be seen to be cleared: a comparison that cannot be made, clears nothing."""
    said = f"{found.gain:+.3f} [{found.lower:+.3f}, {found.upper:+.3f}] over {found.conversations} unseen conversations"
    doubt = ""
    if found.upper < 0:
        return replace(found, outcome="worse", reason=f"The candidate is worse: {said}. Nothing was deployed.")
    if not found.lower > found.margin:
        doubt = f"No proof of a gain above {found.margin:.3f}"
    elif not found.p_value <= _ALPHA:
        doubt = f"The gain could be luck (sign-flip p = {found.p_value:.3f})"
    elif not found.growth <= max_growth:
        grew = f"{found.growth:.2f} times as long, at most {max_growth:.2f} is allowed"
        doubt = f"The candidate's answers are {grew}"
    elif not found.adjusted_gain > 0:
        doubt = "The gain vanishes at equal answer length"
    if doubt:
        return replace(found, reason=f"{doubt}: {said}. Nothing was deployed.")
    reason = f"The candidate is better: {said}, sign-flip p = {found.p_value:.4f}."
    return replace(found, outcome="improved", reason=reason)


def _interval(gains: Floats) -> tuple[float, float]:
    mean = float(gains.mean())
    error = float(gains.std(ddof=1)) / len(gains) ** 0.5
    reach = error * float(special.stdtrit(len(gains) - 1, (1 + _CONFIDENCE) / 2))
    return mean - reach, mean + reach


def _sign_flip(gains: Floats, seed: int) -> float:
    """Share of random sign flips whose mean is at least as far from zero; the observed one counts."""
    signs = np.random.default_rng(seed).integers(0, 2, size=(_FLIPS, len(gains))) * 2 - 1
    flipped = np.abs(signs @ gains)
    tolerance = 1e-12 * len(gains)
    return float((1 + (flipped >= abs(gains.sum()) - tolerance).sum()) / (1 + _FLIPS))


def _at_equal_length(gains: Floats, log_growth: Floats) -> float:
    """The gain that a straight line over the log growth of the answers predicts at no growth."""
    if float(np.ptp(log_growth)) < _ALIKE:
        return float(gains.mean())
    design = np.column_stack([np.ones_like(log_growth), log_growth])
    return float(np.linalg.lstsq(design, gains, rcond=None)[0][0])
