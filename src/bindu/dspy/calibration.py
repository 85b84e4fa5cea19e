"""Is a scorer of answers worth trusting? It must agree with the users, and not merely measure length. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from bindu.dspy.models import FAILED_BELOW

__all__ = ["Calibration", "KindFigures", "Rated", "calibrate"]

Floats = NDArray[np.float64]
_CONFIDENCE: Final = 0.95
_BENDS: Final = 2  # length explains along a parabola of its rank: a straight line lets "long enough" pass for judgement
_ALIKE: Final = 1e-9  # what is left of a ruler's scores beside length
_CERTAIN: Final = 1 - 1e-12  # Fisher's z of a perfect correlation is infinite


@dataclass(frozen=True, slots=True)
class Rated:
    """One logged answer, as users scored it and as the scorer did, which saw neither rating nor comment."""

    score: float  # of the users, in [0, 1]
    predicted: float  # of the scorer; only its order counts
    length: int  # of the answer, in characters
    kind: str  # of the feedback, "rating" or "thumbs_up": their scales differ


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFigures:
    """How well the scorer agrees with the users; what cannot be computed counts as knowing nothing."""

    answers: int
    smaller_class: int  # failures or the others, whichever are fewer within a kind
    correlation: float = 0.0  # Spearman's, at equal length
    lower: float = -1.0  # of its two-sided 95 % interval
    auroc: float = 0.5  # how often the better of two answers, one a failure, got the higher score


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration(KindFigures):
    """The same figures over all kinds, and whether they suffice."""

    by_kind: dict[str, KindFigures]
    enough: bool  # False when there are too few answers to tell
    passed: bool
    reason: str  # a sentence


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What one kind says, before it is put together with the others."""

    answers: int
    smaller_class: int
    z: float  # Fisher's, of the partial rank correlation
    weight: int  # degrees of freedom of z; 0 when there is nothing to compare
    won: float  # pairs of a failure and another answer that are in the right order
    pairs: int


def calibrate(
    rows: Sequence[Rated], *, fewest: int = 60, fewest_smaller: int = 15, least_auroc: float = 0.6
) -> Calibration:
    """Trust a scorer whose rank correlation with the users is above 0 at equal length and whose AUROC is high enough.

    Answers are compared within their kind of feedback only. Raises ValueError for a figure that is no finite number.
    """
    if not np.isfinite([(one.score, one.predicted, one.length) for one in rows]).all() or not np.isfinite(least_auroc):
        raise ValueError("The calibration was given a score, a length or a bar that is no finite number.")
    kinds: dict[str, list[Rated]] = defaultdict(list)
    for one in rows:
        kinds[one.kind].append(one)
    evidence = {kind: _weigh(kinds[kind]) for kind in sorted(kinds)}
    found = _put_together(list(evidence.values()))
    lack = _lack(found, fewest, fewest_smaller)
    doubt = lack or _doubt(found, least_auroc)
    said = (
        f"over {found.answers} answers, {found.smaller_class} in the smaller class, Spearman's correlation at equal "
        f"length is {found.correlation:.2f} (lower 95 % bound {found.lower:.2f}) and AUROC is {found.auroc:.2f}"
    )
    return Calibration(
        answers=found.answers,
        smaller_class=found.smaller_class,
        correlation=found.correlation,
        lower=found.lower,
        auroc=found.auroc,
        by_kind={kind: _put_together([one]) for kind, one in evidence.items()},
        enough=not lack,
        passed=not doubt,
        reason=f"{doubt or 'The scorer agrees with the users'}: {said}.",
    )


def _lack(found: KindFigures, fewest: int, fewest_smaller: int) -> str:
    lacks = []
    if found.answers < fewest:
        lacks.append(f"{found.answers} rated answers, need {fewest}")
    if found.smaller_class < fewest_smaller:
        lacks.append(f"{found.smaller_class} in the smaller class, need {fewest_smaller}")
    return f"Too little to tell whether the scorer agrees with the users: have {'; have '.join(lacks)}" if lacks else ""


def _doubt(found: KindFigures, least_auroc: float) -> str:
    doubts = []
    if not found.lower > 0:
        doubts.append("no proof that it sees more than length")
    if not found.auroc >= least_auroc:
        doubts.append(f"AUROC below {least_auroc:.2f}")
    return f"The scorer cannot be trusted, {' and '.join(doubts)}" if doubts else ""


def _put_together(evidence: Sequence[_Evidence]) -> KindFigures:
    """Mean of Fisher's z over kinds, weighted by degrees of freedom (Hedges and Olkin, 1985); all pairs for AUROC.

    The variance of one z is that of Bonett and Wright (Psychometrika 65, 2000) for Spearman's correlation,
    (1 + r^2/2) / (n - 3), less a degree of freedom for every covariate, as for any partial correlation.
    """
    found = KindFigures(
        answers=sum(one.answers for one in evidence), smaller_class=sum(one.smaller_class for one in evidence)
    )
    if pairs := sum(one.pairs for one in evidence):
        found = replace(found, auroc=sum(one.won for one in evidence) / pairs)
    weight = sum(one.weight for one in evidence)
    if not weight:
        return found
    z = sum(one.weight * one.z for one in evidence) / weight
    error = sum(one.weight * (1 + np.tanh(one.z) ** 2 / 2) for one in evidence) ** 0.5 / weight
    lower = np.tanh(z - error * special.ndtri((1 + _CONFIDENCE) / 2))
    return replace(found, correlation=float(np.tanh(z)), lower=float(lower))


def _weigh(rows: Sequence[Rated]) -> _Evidence:
    score, predicted, length = np.array([(one.score, one.predicted, one.length) for one in rows], float).T
    failed = score < FAILED_BELOW
    failures, others = int(failed.sum()), int((~failed).sum())
    ranks = stats.rankdata(predicted)  # of equal ones the mean: a tie counts half
    won = float(ranks[~failed].sum()) - others * (others + 1) / 2  # Mann and Whitney's U
    wanted, seen = _beside(length, score), _beside(length, predicted)
    z = float(np.arctanh(np.clip(wanted @ seen, -_CERTAIN, _CERTAIN)))
    weight = max(len(rows) - 3 - _BENDS, 0) if wanted.any() else 0
    return _Evidence(len(rows), min(failures, others), z, weight, won, failures * others)


def _beside(length: Floats, values: Floats) -> Floats:
    """What the rank of length (and so of its logarithm) leaves of the values' ranks, at length 1; zeros if nothing."""
    position, ranks = _ranked(length), _ranked(values)
    design = np.column_stack([position**power for power in range(_BENDS + 1)])
    left = ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]
    size = float(np.linalg.norm(left))
    return left / size if size > _ALIKE else np.zeros_like(left)


def _ranked(values: Floats) -> Floats:
    """Mid-ranks, from above -1/2 to below 1/2."""
    return (stats.rankdata(values) - 0.5) / len(values) - 0.5
