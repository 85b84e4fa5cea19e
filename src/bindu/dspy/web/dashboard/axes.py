"""Axes of a drawing: from times and values to places on it, and round numbers along its edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor, log10
from typing import Final

__all__ = ["SIZE", "Place", "Tick", "TimeAxis", "ValueAxis", "day_text"]

SIZE: Final = 1000  # units of a drawing, in both directions; a tenth of a percent is what can be seen

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_TIME_STEPS: Final = (
    *(_MINUTE * count for count in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * count for count in (1, 2, 3, 6, 12)),
    *(_DAY * count for count in (1, 2, 4, 7, 14, 28, 91, 182, 365)),
)
_MOST_TIMES: Final = 7
_VALUES: Final = 5  # about
_VALUE_STEPS: Final = (1, 2, 5, 10)

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tick:
    """A value on an axis: where it is, in percent of the drawing, and its text."""

    at: float
    text: str


class TimeAxis:
    """From the first of these times to the last, left to right, in UTC."""

    def __init__(self, times: Sequence[datetime]) -> None:
        seconds = [at.timestamp() for at in times] or [0.0]
        self._least = min(seconds)
        self._span = max(seconds) - self._least or 1.0

    def at(self, time: datetime) -> int:
        return round(self._part(time.timestamp()) * SIZE)

    def ticks(self) -> tuple[Tick, ...]:
        """At full minutes, hours or midnights, of which one at least has its day; where nothing is round, none."""
        step = next((one for one in _TIME_STEPS if self._span / one <= _MOST_TIMES), 0)
        step = step or _DAY * int(self._span / _DAY / _MOST_TIMES + 1)
        first = -int(-self._least // step)
        times = range(first * step, int(self._least + self._span) + 1, step)
        places = (round(100 * self._part(time), 1) for time in times)
        return tuple(Tick(place, text) for place, text in zip(places, _time_texts(times), strict=True))

    def _part(self, seconds: float) -> float:
        return (seconds - self._least) / self._span


class ValueAxis:
    """From least (below) to most (above); what is outside stays at the edge."""

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most

    def at(self, value: float) -> int:
        return round(self._part(value) * SIZE)

    def percent(self, value: float) -> float:
        return round(100 * self._part(value), 1)

    def values(self) -> list[float]:
        """Round numbers."""
        raw = (self._most - self._least) / _VALUES
        size = 10.0 ** floor(log10(raw))
        step = next(size * factor for factor in _VALUE_STEPS if size * factor >= raw * 0.999)
        first = -floor(-self._least / step)
        return [round(place * step, 9) for place in range(first, floor(self._most / step) + 1)]

    def _part(self, value: float) -> float:
        return (self._most - min(self._most, max(self._least, value))) / (self._most - self._least)


def day_text(at: datetime) -> str:
    """As people write it: 3 Nov."""
    day = at.astimezone(UTC)
    return f"{day.day} {day:%b}"


def _time_texts(times: range) -> list[str]:
    dates = [datetime.fromtimestamp(time, UTC) for time in times]
    if times.step > 28 * _DAY:
        return [f"{at:%b %Y}" for at in dates]
    midnights = [time % _DAY == 0 for time in times]
    texts = [day_text(at) if midnight else f"{at:%H:%M}" for at, midnight in zip(dates, midnights, strict=True)]
    if dates and not any(midnights):
        texts[0] = f"{day_text(dates[0])} {texts[0]}"
    return texts
