"""An experiment's charts: what they hold whatever the numbers are, their size, and what they say in words."""

from __future__ import annotations

import gzip
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.bands import MARKS
from bindu.dspy.models import BandPoint, Verdict
from bindu.dspy.web.dashboard.axes import TimeAxis, ValueAxis
from bindu.dspy.web.dashboard.charts import (
    SHAPES,
    band_chart,
    chart_data,
    charts,
    share_chart,
    summary,
    thinned,
)

START = datetime(2026, 3, 1, 6, tzinfo=UTC)
A_WORD = {"open", "pause", "resume"}

NUMBERS = st.none() | st.floats()
POINTS = st.builds(
    BandPoint,
    decision_id=st.integers(1, 10**9),
    at=st.floats(-4e10, 4e10).map(lambda seconds: START + timedelta(seconds=seconds)),
    verdict=st.sampled_from(get_args(Verdict)),
    share=st.floats(0, 1),
    estimate=NUMBERS,
    low=NUMBERS,
    high=NUMBERS,
)
BANDS = st.lists(POINTS, max_size=12, unique_by=lambda point: point.decision_id)


def experiment(*verdicts: Verdict, apart: timedelta = timedelta(hours=6)) -> list[BandPoint]:
    """Its band shrinks around +0.05, and its shares rise by a tenth a step."""
    made, share = [BandPoint(decision_id=1, at=START, verdict="open", share=0.1)], 0.1
    for number, verdict in enumerate(verdicts, 1):
        share = {"step_up": share + 0.1, "promote": 1.0, "roll_back": 0.0}.get(verdict, share)
        known = {} if verdict in A_WORD else {"estimate": 0.05, "low": 0.05 - 1 / number, "high": 0.05 + 1 / number}
        at = START + number * apart
        made.append(BandPoint(decision_id=number + 1, at=at, verdict=verdict, share=share, **known))
    return made


def long_experiment(decisions: int) -> list[BandPoint]:
    rng, made = Random(0), []
    for number in range(1, decisions + 1):
        middle, width = 0.05 + rng.gauss(0, 0.05), 1.5 / number**0.5
        verdict: Verdict = "step_up" if number % 60 == 0 else "hold"
        made.append(
            BandPoint(
                decision_id=number,
                at=START + timedelta(minutes=41 * number),
                verdict=verdict,
                share=min(0.9, 0.1 + number // 60 / 10),
                estimate=middle,
                low=middle - width,
                high=middle + width,
            )
        )
    return made


def drawn(band: Sequence[BandPoint]) -> tuple[str, ET.Element]:
    html = charts(band)
    assert html is not None
    return html, ET.fromstring(f"<all>{html}</all>")


def data_of(html: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = json.loads(html.partition('class="chart-data">')[2].partition("</script>")[0])
    return found


@given(BANDS, st.integers(2, 8))
def test_thinning_keeps_both_ends_the_order_and_what_moved_something(band: list[BandPoint], most: int) -> None:
    kept = thinned(band, most)
    numbers = [point.decision_id for point in kept]
    assert len(kept) == min(len(band), most)
    assert numbers == [point.decision_id for point in band if point.decision_id in numbers]
    assert (kept[:1], kept[-1:]) == (band[:1], band[-1:])
    lost = [point for point in band if point.verdict != "hold" and point.decision_id not in numbers]
    assert not lost or all(point.verdict != "hold" for point in kept[1:-1]), "a mark went before a hold did"


@given(BANDS)
def test_whatever_the_numbers_are_the_drawing_is_sound_and_stays_inside(band: list[BandPoint]) -> None:
    html = charts(band)
    if html is None:
        return
    ET.fromstring(f"<all>{html}</all>")
    for chart in (band_chart(band), share_chart(band)):
        assert all(0 <= tick.at <= 100 for tick in (*chart.x_ticks, *chart.y_ticks))
        assert all(0 <= place <= 100 for mark in chart.marks for place in (mark.x, mark.y))
        assert all(0 <= place <= 1000 for path in (chart.area, chart.line) for place in corners(path))


def corners(path: str) -> list[int]:
    """Where a path of one M and relative lines goes, x and y in turn."""
    x = y = 0
    found: list[int] = []
    for step in re.findall(r"[Ml](-?\d+) (-?\d+)", path):
        x, y = x + int(step[0]), y + int(step[1])
        found += [x, y]
    return found


@given(BANDS)
def test_the_data_is_json_of_equally_long_columns(band: list[BandPoint]) -> None:
    data = json.loads(chart_data(band), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert list(data) == ["t", "low", "mid", "high", "share", "marks"]
    assert {len(data[name]) for name in ("t", "low", "mid", "high", "share")} == {len(band)}
    assert [verdict for _, verdict in data["marks"]] == [point.verdict for point in band if point.verdict in MARKS]


@pytest.mark.parametrize("band", [[], experiment(), experiment("hold"), experiment("pause", "resume", "pause")])
def test_there_is_nothing_to_draw_before_two_windows(band: list[BandPoint]) -> None:
    assert charts(band) is None


def test_what_follows_the_data_is_not_part_of_it() -> None:
    html, _ = drawn(experiment("hold", "hold", "step_up", "pause", "promote"))
    data = data_of(html)
    assert data["t"][:2] == [1772344800, 1772366400]
    assert data["share"] == [0.1, 0.1, 0.1, 0.2, 0.2, 1.0]
    assert data["mid"] == [None, 0.05, 0.05, 0.05, None, 0.05]
    assert (data["low"][3], data["high"][3]) == (-0.283, 0.383)
    assert data["marks"] == [[3, "step_up"], [4, "pause"], [5, "promote"]]
    assert html.count("</script>") == 1


def test_both_charts_have_names_and_their_latest_numbers_for_who_does_not_see_them() -> None:
    _, page = drawn(experiment("hold", "step_up"))
    band, share = page.findall("figure")
    assert (band.get("data-chart"), share.get("data-chart")) == ("band", "share")
    for figure, numbers in ((band, "+0.050, 95 % -0.450 to +0.550"), (share, "20% after the last decision")):
        drawing = figure.find("svg")
        assert drawing is not None
        assert drawing.get("role") == "img"
        assert drawing[0].tag == "title"
        assert drawing.findtext("desc") == numbers
        assert figure[0].tag == "figcaption"
    hidden = page.find("p[@class='out']")
    assert hidden is not None
    assert hidden.text == summary(experiment("hold", "step_up"))


def test_the_summary_tells_the_decisions_and_leaves_the_oldest_of_many_out() -> None:
    text = summary(experiment("hold", "step_up", "promote"))
    assert text == (
        "4 decisions from 1 Mar 06:00 to 2 Mar 00:00 UTC. Difference: +0.050, 95 % -0.283 to +0.383. "
        "Candidate's share: 100%, at most 100%. "
        "Marks: 1 Mar 18:00 share rises, 20% of traffic; 2 Mar 00:00 promoted, 100% of traffic."
    )
    assert "Marks: 3 earlier ones; " in summary(experiment("hold", *["step_up"] * 7, *["pause", "resume"] * 4))


def test_every_verdict_with_a_mark_has_a_shape_of_its_own() -> None:
    assert set(SHAPES) == set(MARKS)
    assert len(set(SHAPES.values())) == len(SHAPES)


def test_marks_are_explained_once_and_only_those_that_are_there() -> None:
    _, page = drawn(experiment("hold", "step_up", "step_up", "won", "promote"))
    legend = ["".join(item.itertext()).strip() for item in page.iter("li")]
    assert legend[1:] == ["share rises", "won", "promoted"]
    assert [mark.get("data-mark") for mark in page.findall(".//li/svg/path[@data-mark]")] == [
        "step_up",
        "won",
        "promote",
    ]


def test_marks_of_the_same_moment_do_not_cover_each_other() -> None:
    marks = band_chart(experiment("hold", "won", "promote", apart=timedelta(0))).marks
    assert [mark.x for mark in marks] == [0, 0]
    assert abs(marks[0].y - marks[1].y) >= 9


def test_a_share_moves_at_a_decision_and_not_on_the_way_there() -> None:
    line = corners(share_chart(experiment("hold", "step_up")).line)
    assert line == [0, 900, 1000, 900, 1000, 800, 1000, 800]


def test_pages_need_no_style_or_script_of_their_own() -> None:
    html, page = drawn(experiment("hold", "step_up", "ask", "roll_back"))
    names = {name for element in page.iter() for name in element.attrib}
    assert not {name for name in names if name == "style" or name.startswith("on") or name == "id"}
    assert [script.get("type") for script in page.iter("script")] == ["application/json"]
    assert "<style" not in html


def test_five_hundred_decisions_take_at_most_nine_kilobytes() -> None:
    html, _ = drawn(long_experiment(500))
    assert len(gzip.compress(html.encode(), mtime=0)) < 9_000


@pytest.mark.parametrize(
    ("span", "texts"),
    [
        (timedelta(minutes=25), ["1 Mar 06:00", "06:05", "06:10", "06:15", "06:20", "06:25"]),
        (timedelta(hours=30), ["06:00", "12:00", "18:00", "2 Mar", "06:00", "12:00"]),
        (timedelta(days=14), ["2 Mar", "4 Mar", "6 Mar", "8 Mar", "10 Mar", "12 Mar", "14 Mar"]),
        (timedelta(0), ["1 Mar 06:00"]),
    ],
)
def test_times_are_told_at_round_places(span: timedelta, texts: list[str]) -> None:
    assert [tick.text for tick in TimeAxis([START, START + span]).ticks()] == texts


def test_values_are_told_at_round_places() -> None:
    assert ValueAxis(-0.13, 0.42).values() == [0.0, 0.2, 0.4]
    assert ValueAxis(-1.1, 1.1).values() == [-1.0, -0.5, 0.0, 0.5, 1.0]
