"""The band in a terminal: its lines, its marks, its width, and no colour that was not asked for."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from bindu.dspy.cli.band import band_plot
from bindu.dspy.models import BandPoint, Verdict

START = datetime(2026, 3, 1, tzinfo=UTC)


def points(*verdicts: Verdict) -> list[BandPoint]:
    made = [BandPoint(decision_id=1, at=START, verdict="open", share=0.1)]
    for hour, verdict in enumerate(verdicts, 1):
        a_word = verdict in {"pause", "resume"}
        width = 1 / hour
        made.append(
            BandPoint(
                decision_id=hour + 1,
                at=START + timedelta(hours=hour),
                verdict=verdict,
                share=0.1,
                estimate=None if a_word else 0.05,
                low=None if a_word else 0.05 - width,
                high=None if a_word else 0.05 + width,
            )
        )
    return made


def printed(band: list[BandPoint], width: int = 72, *, terminal: bool = False) -> str:
    plot = band_plot(band, width)
    assert plot is not None
    written = io.StringIO()
    Console(file=written, force_terminal=terminal, soft_wrap=True, width=width).print(plot)
    return written.getvalue()


def test_decisions_are_marked_and_the_marks_explained() -> None:
    text = printed(points("hold", "step_up", "pause", "resume", "hold", "won", "promote"))
    drawing, _, legend = text.rpartition("• difference")
    for mark, word in (("▲", "share rises"), ("‖", "paused"), ("★", "won"), ("●", "promoted")):
        assert mark in drawing
        assert f"{mark} {word}" in legend
    assert "▼" not in text


@pytest.mark.parametrize("width", [20, 25, 40, 72, 160])
def test_the_plot_is_as_wide_as_it_was_asked_to_be(width: int) -> None:
    lines = printed(points(*["hold"] * 12), width).splitlines()
    assert max(len(line) for line in lines[:-1]) == width


def test_no_colour_goes_to_a_pipe_or_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    band = points(*["hold"] * 12)
    assert "\x1b[" not in printed(band)
    assert "\x1b[3" in printed(band, terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in printed(band, terminal=True)


def test_two_plots_of_one_process_do_not_mix() -> None:
    first = printed(points("hold", "won", "hold"))
    printed(points("hold", "step_down", "hold", "hold"), 90)
    assert printed(points("hold", "won", "hold")) == first


@pytest.mark.parametrize("band", [[], points(), points("hold"), points("pause", "resume")])
def test_nothing_is_drawn_before_two_windows_are_known(band: list[BandPoint]) -> None:
    assert band_plot(band, 72) is None


def test_nothing_is_drawn_where_nothing_could_be_seen() -> None:
    assert band_plot(points(*["hold"] * 12), 19) is None


def test_the_first_windows_do_not_flatten_the_rest() -> None:
    top = printed(points(*["hold"] * 40)).splitlines()[1]
    assert 0.05 < float(top.split("┤")[0]) < 0.2
