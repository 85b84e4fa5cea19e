"""What every drawing of an experiment's confidence band shares: which points, how high, and what its marks mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import isfinite
from typing import Final

from bindu.dspy.models import BandPoint, Verdict

__all__ = ["LEGEND", "MARKS", "band_limits", "days_since", "is_known", "marked"]

LEGEND: Final = "difference, within its 95 % band"
MARKS: Final[dict[Verdict, tuple[str, str]]] = {
    "step_up": ("▲", "share rises"),
    "step_down": ("▼", "share falls"),
    "won": ("★", "won"),
    "ask": ("?", "needs a person"),
    "pause": ("‖", "paused"),
    "resume": ("▷", "resumed"),
    "promote": ("●", "promoted"),
    "roll_back": ("✗", "ended without promotion"),
}


def is_known(point: BandPoint) -> bool:
    """Whether anything could be compared then."""
    return all(value is not None and isfinite(value) for value in (point.low, point.high))


def days_since(start: datetime, point: BandPoint) -> float:
    """Days since the start, of 24 hours."""
    return (point.at - start) / timedelta(days=1)


def marked(band: Sequence[BandPoint]) -> list[tuple[BandPoint, float]]:
    """The points that have a mark, each with where to put it: at the estimate of the time."""
    height, found = 0.0, []
    for point in band:
        if point.estimate is not None and isfinite(point.estimate):
            height = point.estimate
        if point.verdict in MARKS:
            found.append((point, height))
    return found


def band_limits(known: Sequence[BandPoint]) -> tuple[float, float]:
    """What most of the band needs, and zero: its first windows know nothing and would flatten the rest."""
    later = known[len(known) // 4 :]
    least = min(0.0, *(point.low for point in later if point.low is not None))
    most = max(0.0, *(point.high for point in later if point.high is not None))
    return least, most
