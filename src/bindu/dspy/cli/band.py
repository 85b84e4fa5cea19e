"""The confidence band of an experiment, drawn in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from rich.text import Text

from bindu.dspy.models import BandPoint, Verdict

__all__ = ["band_plot"]

HEIGHT: Final = 18
LEAST_WIDTH: Final = 20
BLUE, GREEN = 4, 2  # the terminal's own
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


def band_plot(band: Sequence[BandPoint], width: int) -> Text | None:
    """The difference (candidate minus active) and its 95 % confidence sequence over days.

    None before two windows, and where fewer columns than LEAST_WIDTH are too few to see anything.
    """
    start = band[0].at if band else None
    known = [(_days(point, start), point) for point in band if point.low is not None and point.high is not None]
    if width < LEAST_WIDTH or len(known) < 2:  # noqa: PLR2004 - a line needs two ends
        return None
    import plotext  # noqa: PLC0415 - a third of a second that only a plot is worth

    least, most = _limits([point for _, point in known])
    days = [day for day, _ in known]
    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear.all()
    figure.theme("colorless")
    figure.plot_size(width, HEIGHT)
    figure.ruler("y").lim(least, most)
    figure.label("days since the start", axis="x")
    figure.draw(figure.segment((days[0], days[-1]), (0, 0), marker="-"))
    for edge in ("low", "high"):
        heights = [min(most, max(least, getattr(point, edge))) for _, point in known]
        figure.draw(figure.signal(days, heights, marker=plotext.marker("braille", BLUE)).lines())
    middle = [(day, point.estimate) for day, point in known if point.estimate is not None]
    _draw_points(figure, middle, plotext.marker("•", GREEN))
    marked = _marked(band)
    for verdict, points in marked.items():
        _draw_points(figure, points, MARKS[verdict][0])
    legend = "   ".join(" ".join(MARKS[verdict]) for verdict in marked)
    return Text.from_ansi(figure.build().string().rstrip("\n") + f"\n• difference, within its 95 % band   {legend}")


def _draw_points(figure: Any, points: Sequence[tuple[float, float]], marker: Any) -> None:
    if points:
        figure.draw(figure.signal([x for x, _ in points], [y for _, y in points], marker=marker))


def _marked(band: Sequence[BandPoint]) -> dict[Verdict, list[tuple[float, float]]]:
    """Where to put which mark: at the estimate of the time."""
    marked: dict[Verdict, list[tuple[float, float]]] = {}
    height = 0.0
    for point in band:
        height = height if point.estimate is None else point.estimate
        if point.verdict in MARKS:
            marked.setdefault(point.verdict, []).append((_days(point, band[0].at), height))
    return marked


def _limits(known: Sequence[BandPoint]) -> tuple[float, float]:
    """What most of the band needs, and zero: its first windows know nothing and would flatten the rest."""
    later = known[len(known) // 4 :]
    least = min(0.0, *(point.low for point in later if point.low is not None))
    most = max(0.0, *(point.high for point in later if point.high is not None))
    return least, most


def _days(point: BandPoint, start: datetime | None) -> float:
    return 0.0 if start is None else (point.at - start) / timedelta(days=1)
