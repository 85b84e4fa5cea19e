"""How long an experiment will take."""

from __future__ import annotations

from math import ceil
from statistics import NormalDist

__all__ = ["expected_days", "required_feedback"]


def required_feedback(
    gain: float, *, share: float = 0.5, variance: float = 0.15, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Votes over both arms that a one-sided fixed-horizon z-test needs to see ``gain`` (in score points, (0, 1)).

    ``variance`` is that of one vote: about .10 for ratings, .20 for thumbs.
    """
    if gain <= 0 or not 0 < share < 1:
        raise ValueError(f"A plan needs a gain above 0 and a share between 0 and 1, not {gain} and {share}.")
    normal = NormalDist()
    deviations = normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)
    return ceil(deviations**2 * variance * (1 / share + 1 / (1 - share)) / gain**2)


def expected_days(feedback: int, per_day: float) -> float | None:
    """Days until that much feedback is there at the present rate; None when there is none at all."""
    return feedback / per_day if per_day > 0 else None
