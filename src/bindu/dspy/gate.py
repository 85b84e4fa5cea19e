"""Is the candidate better on conversations it never saw? A paired test, pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["GateVerdict", "Paired", "accept_candidate"]

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


def accept_candidate(
    pairs: Sequence[Paired], *, margin: float = 0.01, max_growth: float = _MAX_GROWTH, seed: int = 0
) -> GateVerdict:
    """Accept only a gain that is above ``margin``, unlikely by luck, and not bought with longer answers.

    Raises ValueError below two conversations: there is no spread to judge by.
    """
    if len(pairs) < _FEWEST:
        raise ValueError(f"The gate needs at least {_FEWEST} conversations, not {len(pairs)}.")
    active = np.array([pair.active for pair in pairs])
    candidate = np.array([pair.candidate for pair in pairs])
    gains = candidate - active
    lower, upper = _interval(gains)
    lengths = np.array([(max(pair.active_length, 1.0), max(pair.candidate_length, 1.0)) for pair in pairs])
    figures = {
        "conversations": len(pairs),
        "active_score": float(active.mean()),
        "candidate_score": float(candidate.mean()),
        "gain": float(gains.mean()),
        "lower": lower,
        "upper": upper,
        "p_value": _sign_flip(gains, seed),
        "growth": float(lengths[:, 1].mean() / lengths[:, 0].mean()),
        "adjusted_gain": _at_equal_length(gains, np.log(lengths[:, 1] / lengths[:, 0])),
        "margin": margin,
    }
    outcome, reason = _judge(figures, max_growth)
    return GateVerdict(outcome=outcome, reason=reason, **figures)  # type: ignore[arg-type]


def _judge(figures: dict[str, float], max_growth: float) -> tuple[Literal["improved", "unchanged", "worse"], str]:
    gain, lower, upper, p_value = (figures[name] for name in ("gain", "lower", "upper", "p_value"))
    said = f"{gain:+.3f} [{lower:+.3f}, {upper:+.3f}] over {figures['conversations']:.0f} unseen conversations"
    if upper < 0:
        return "worse", f"The candidate is worse: {said}. Nothing was deployed."
    if lower <= figures["margin"]:
        return "unchanged", f"No proof of a gain above {figures['margin']:.3f}: {said}. Nothing was deployed."
    if p_value > _ALPHA:
        return "unchanged", f"The gain could be luck (sign-flip p = {p_value:.3f}): {said}. Nothing was deployed."
    if figures["growth"] > max_growth:
        grew = f"{figures['growth']:.2f} times as long, at most {max_growth:.2f} is allowed"
        return "unchanged", f"The candidate's answers are {grew}: {said}. Nothing was deployed."
    if figures["adjusted_gain"] <= 0:
        return "unchanged", f"The gain vanishes at equal answer length: {said}. Nothing was deployed."
    return "improved", f"The candidate is better: {said}, sign-flip p = {p_value:.4f}."


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
