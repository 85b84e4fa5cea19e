"""The confidence band of an experiment, drawn in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from bindu.dspy.bands import LEGEND, MARKS, band_limits, days_since, is_known, marked
from bindu.dspy.models import BandPoint, Verdict
from bindu.dspy.reports import AgentStatus

__all__ = ["PlotOption", "band_of", "band_plot"]

PlotOption = Annotated[bool | None, typer.Option("--plot/--no-plot", help="Default: in a terminal.")]

HEIGHT: Final = 18
LEAST_WIDTH: Final = 20
BLUE, GREEN = 4, 2  # the terminal's own


def band_of(found: AgentStatus, width: int | None) -> list[Text]:
    """The picture of an agent's experiment, where there is one to draw and a place for it."""
    picture = band_plot(found.trial.band, width) if found.trial is not None and width is not None else None
    return [] if picture is None else [picture]


def band_plot(band: Sequence[BandPoint], width: int) -> Text | None:
    """The difference (candidate minus active) and its 95 % confidence sequence over days.

    None before two windows, and where fewer columns than LEAST_WIDTH are too few to see anything.
    """
    known = [(days_since(band[0].at, point), point) for point in band if is_known(point)]
    if width < LEAST_WIDTH or len(known) < 2:  # noqa: PLR2004 - a line needs two ends
        return None
    import plotext  # noqa: PLC0415 - a third of a second that only a plot is worth

    least, most = band_limits([point for _, point in known])
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
    marks = _marks(band)
    for verdict, points in marks.items():
        _draw_points(figure, points, MARKS[verdict][0])
    legend = "   ".join(" ".join(MARKS[verdict]) for verdict in marks)
    return Text.from_ansi(figure.build().string().rstrip("\n") + f"\n• {LEGEND}   {legend}")


def _draw_points(figure: Any, points: Sequence[tuple[float, float]], marker: Any) -> None:
    if points:
        figure.draw(figure.signal([x for x, _ in points], [y for _, y in points], marker=marker))


def _marks(band: Sequence[BandPoint]) -> dict[Verdict, list[tuple[float, float]]]:
    found: dict[Verdict, list[tuple[float, float]]] = {}
    for point, height in marked(band):
        found.setdefault(point.verdict, []).append((days_since(band[0].at, point), height))
    return found
