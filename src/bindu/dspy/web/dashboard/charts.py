"""An experiment's confidence band and its traffic over time: pictures that need no script, and numbers for one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import pairwise
from math import isfinite
from typing import Final

import msgspec
from markupsafe import Markup

from bindu.dspy.bands import LEGEND, MARKS, band_limits, is_known, marked
from bindu.dspy.models import BandPoint, Verdict
from bindu.dspy.web.dashboard.axes import SIZE, Place, Tick, TimeAxis, ValueAxis, day_text
from bindu.dspy.web.dashboard.rendering import environment

__all__ = ["SHAPES", "Chart", "Mark", "band_chart", "chart_data", "charts", "share_chart", "summary", "thinned"]

MOST: Final = 400  # points
SHAPES: Final[dict[Verdict, str]] = {  # told apart by form, whatever colours somebody sees; 12 units wide
    "step_up": "M0-6 6 5H-6z",
    "step_down": "M0 6 6-5H-6z",
    "won": "M0-8 2-3 8-3 3 1 5 7 0 3-5 7-3 1-8-3-2-3z",
    "ask": "M0-7 7 0 0 7-7 0z",
    "pause": "M-5-6h4V6h-4zM1-6h4V6H1z",
    "resume": "M-4-6 6 0-4 6z",
    "promote": "M-6 0a6 6 0 1 0 12 0 6 6 0 1 0-12 0z",
    "roll_back": "M-6-4-4-6 0-2 4-6 6-4 2 0 6 4 4 6 0 2-4 6-6 4-2 0z",
}

_DIGITS: Final = 3  # of differences and shares: what is seen of them
_WIDEST: Final = 2.0  # differences of scores lie within [-1, 1]; "nothing is known" may be -2
_NEAR: Final = 25  # units between the middles of marks that would cover each other
_APART: Final = 9.0  # percent of the height that such marks are moved by
_TOLD: Final = 12  # marks in the summary


@dataclass(frozen=True, slots=True)
class Mark:
    """A decision that moved something; x and y in percent of the drawing."""

    x: float
    y: float
    verdict: Verdict
    shape: str
    words: str
    told: str  # when, and what it left


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What a template draws; paths are in units of SIZE."""

    name: str
    title: str
    text: str  # the latest numbers
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float | None = None  # percent of the height
    area: str = ""
    line: str = ""
    area_class: str
    line_class: str
    marks: tuple[Mark, ...] = ()


def charts(band: Sequence[BandPoint]) -> Markup | None:
    """Both pictures, what they say in words, and their numbers, as HTML; None before two windows are known."""
    if sum(map(is_known, band)) < 2:  # noqa: PLR2004 - a line needs two ends
        return None
    few = thinned(band)
    template = environment().get_template("parts/charts.html")
    html = template.render(
        charts=(band_chart(few), share_chart(few)),
        size=SIZE,
        legend=LEGEND,
        summary=summary(band),
        data=Markup(chart_data(few)),  # noqa: S704 - numbers and our own words, with no '<'
    )
    return Markup(html)  # noqa: S704 - escaped by the template


def thinned(band: Sequence[BandPoint], most: int = MOST) -> list[BandPoint]:
    """At most so many of them, two or more: the first and the last, those that moved something, then evenly others."""
    if len(band) <= most:
        return list(band)
    inner = range(1, len(band) - 1)
    telling = _evenly([place for place in inner if band[place].verdict != "hold"], most - 2)
    silent = _evenly([place for place in inner if band[place].verdict == "hold"], most - 2 - len(telling))
    return [band[place] for place in sorted({0, *telling, *silent, len(band) - 1})]


def band_chart(band: Sequence[BandPoint]) -> Chart:
    """The difference (candidate minus active) within its 95 % confidence sequence."""
    known = [point for point in band if is_known(point)]
    times, values = TimeAxis([point.at for point in band]), ValueAxis(*_room(known))
    upper = [(times.at(point.at), values.at(point.high or 0.0)) for point in known]
    lower = [(times.at(point.at), values.at(point.low or 0.0)) for point in known]
    return Chart(
        name="band",
        area_class="band",
        line_class="estimate",
        title="Difference of candidate and active",
        text=_latest(band),
        x_ticks=times.ticks(),
        y_ticks=tuple(Tick(values.percent(value), f"{value:+g}" if value else "0") for value in values.values()),
        zero=values.percent(0.0),
        area=f"{_path([*upper, *reversed(lower)])}z" if known else "",
        line=_path((times.at(point.at), values.at(value)) for point, value in _estimates(band)),
        marks=tuple(_marks(band, times, values)),
    )


def share_chart(band: Sequence[BandPoint]) -> Chart:
    """The candidate's share of traffic: a stair, as it moves at decisions alone."""
    times, values = TimeAxis([point.at for point in band]), ValueAxis(0.0, 1.0)
    stair = list(_stair([(times.at(point.at), values.at(point.share)) for point in band]))
    ends = [(stair[-1][0], SIZE), (stair[0][0], SIZE)] if stair else []
    return Chart(
        name="share",
        area_class="share",
        line_class="shareline",
        title="Candidate's share of traffic",
        text=f"{_share(band[-1].share)} after the last decision" if band else "nothing was decided yet",
        x_ticks=times.ticks(),
        y_ticks=tuple(Tick(values.percent(value), f"{value:.0%}") for value in (0.0, 0.5, 1.0)),
        area=f"{_path([*stair, *ends])}z" if stair else "",
        line=_path(stair),
    )


def chart_data(band: Sequence[BandPoint]) -> str:
    """JSON of columns as uPlot takes them, with marks as [place, verdict]; it cannot end a script element."""
    columns = {
        "t": [int(point.at.timestamp()) for point in band],
        "low": [_number(point.low) for point in band],
        "mid": [_number(point.estimate) for point in band],
        "high": [_number(point.high) for point in band],
        "share": [_number(point.share) for point in band],
        "marks": [(place, point.verdict) for place, point in enumerate(band) if point.verdict in MARKS],
    }
    return msgspec.json.encode(columns).decode().replace("<", "\\u003c")


def summary(band: Sequence[BandPoint]) -> str:
    """What the pictures show, in words."""
    days = f"from {_when(band[0])} to {_when(band[-1])} UTC"
    said = f"{len(band)} decisions {days}. Difference: {_latest(band)}. "
    said += f"Candidate's share: {_share(band[-1].share)}, at most {_share(max(point.share for point in band))}."
    told = [_told(point) for point in band if point.verdict in MARKS]
    left_out = f"{len(told) - _TOLD} earlier ones; " if len(told) > _TOLD else ""
    return said + (f" Marks: {left_out}{'; '.join(told[-_TOLD:])}." if told else "")


def _room(known: Sequence[BandPoint]) -> tuple[float, float]:
    """A little air around what is drawn, and some height for a band that has none."""
    least, most = band_limits(known) if known else (0.0, 0.0)
    low, high = max(-_WIDEST, least), min(_WIDEST, most)
    air = max(0.01, (high - low) * 0.08)
    return low - air, high + air


def _marks(band: Sequence[BandPoint], times: TimeAxis, values: ValueAxis) -> Iterator[Mark]:
    """Those that would cover the one before go above or below it, towards the middle."""
    x = y = float("-inf")
    for point, height in marked(band):
        near = abs(times.at(point.at) - x) < _NEAR
        x, wanted = times.at(point.at), values.percent(height)
        if near and abs(wanted - y) < _APART:
            wanted = y + (_APART if wanted < 50 else -_APART)  # noqa: PLR2004 - the middle
        y = wanted
        words = MARKS[point.verdict][1]
        yield Mark(round(x * 100 / SIZE, 1), round(y, 1), point.verdict, SHAPES[point.verdict], words, _told(point))


def _estimates(band: Sequence[BandPoint]) -> Iterator[tuple[BandPoint, float]]:
    for point in band:
        if point.estimate is not None and isfinite(point.estimate):
            yield point, point.estimate


def _evenly(places: Sequence[int], most: int) -> list[int]:
    if len(places) <= most:
        return list(places)
    return [places[round(one * (len(places) - 1) / max(1, most - 1))] for one in range(most)]


def _stair(points: Sequence[Place]) -> Iterator[Place]:
    """Each value until the next one."""
    yield from points[:1]
    for (_, before), (x, y) in pairwise(points):
        if y != before:
            yield x, before
            yield x, y
    yield from points[1:][-1:]


def _path(points: Iterable[Place]) -> str:
    """A line through them: from each to the next, which repeats itself more than places do and packs well."""
    text, before = "", (0, 0)
    for x, y in points:
        text += f"{'l' if text else 'M'}{x - before[0]} {y - before[1]}"
        before = (x, y)
    return text


def _latest(band: Sequence[BandPoint]) -> str:
    last = next((point for point in reversed(band) if is_known(point)), None)
    if last is None:
        return "nothing could be compared yet"
    within = f"95 % {last.low:+.3f} to {last.high:+.3f}"
    middle = _number(last.estimate)
    return f"no estimate yet, {within}" if middle is None else f"{middle:+.3f}, {within}"


def _told(point: BandPoint) -> str:
    return f"{_when(point)} {MARKS[point.verdict][1]}, {_share(point.share)} of traffic"


def _when(point: BandPoint) -> str:
    at = point.at.astimezone(UTC)
    return f"{day_text(at)} {at:%H:%M}"


def _share(value: float) -> str:
    return f"{value:.0%}"


def _number(value: float | None) -> float | None:
    """None where it is none."""
    return round(value, _DIGITS) if value is not None and isfinite(value) else None
