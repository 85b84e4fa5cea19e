"""What tells of a person in records about others: their ids and their words go, everything else stays as it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.errors import InvalidArgumentError
from bindu.dspy.housekeeping import Month
from bindu.dspy.retention import age_of
from bindu.dspy.traces import ERASED, Traces
from bindu.dspy.windows import _order, in_place_of

COMPLAINT = "My blue bicycle arrived without its front wheel, and nobody answers my mails."


def test_ids_go_wherever_they_stand_alone_and_stay_where_they_are_part_of_a_word() -> None:
    traces = Traces({"ann": "erased-1", "0197-a": "erased-2"}, [])
    record = {"accept": ["ann", "annette", "0197-a#3"], "ann": {"note": "ann said", "share": 0.5, "none": None}}
    assert traces.removed(record) == {
        "accept": ["erased-1", "annette", "erased-2#3"],
        "erased-1": {"note": "ann said", "share": 0.5, "none": None},
    }


@pytest.mark.parametrize(
    ("text", "quotes"),
    [
        (COMPLAINT, True),
        ("Say sorry. my BLUE bicycle arrived -- without its front wheel: never again", True),
        ("A bicycle arrived without its front wheel", False),  # seven words in a row
        ("The rule: where is my parcel? Be quick.", True),  # all of a short text
        ("Where is it?", False),
        ("", False),
    ],
)
def test_eight_words_in_a_row_or_all_of_a_shorter_text_are_a_quotation(text: str, quotes: bool) -> None:
    traces = Traces({}, [COMPLAINT, "Where is my parcel?", "Yes please"])
    assert traces.quoted_in(text) is quotes
    assert traces.removed([text]) == [ERASED if quotes else text]


def test_an_address_or_a_number_of_theirs_is_a_quotation_however_it_is_written() -> None:
    traces = Traces({}, ["Mail ann@example.com or ring +31 20 555 0199.", "Thanks!"])
    assert traces.quoted_in("Write to ANN (at) example.com.")
    assert traces.removed(["Ring +31-20-5550199", "Ring +31 20 555 0188"]) == [ERASED, "Ring +31 20 555 0188"]
    assert not traces.quoted_in("Write to bob@example.com.")


def test_in_a_record_four_words_that_are_a_part_of_theirs_go_too() -> None:
    traces = Traces({}, [COMPLAINT])
    assert traces.removed(["nobody answers my mails", "answers my mails"]) == [ERASED, "answers my mails"]


def test_without_spaces_between_words_eight_characters_count_as_eight_words() -> None:
    traces = Traces({}, ["\u79c1\u306e\u81ea\u8ee2\u8eca\u306f\u307e\u3060\u5c4a\u3044\u3066\u3044\u307e\u305b\u3093"])
    assert traces.quoted_in("\u300c\u81ea\u8ee2\u8eca\u306f\u307e\u3060\u5c4a\u3044\u300d")
    assert not traces.quoted_in("\u81ea\u8ee2\u8eca\u306f\u307e\u3060")


def test_of_a_refused_prompt_even_one_word_of_theirs_goes() -> None:
    traces = Traces({}, ["I am Bartholomew from Delft."])
    refusals = [{"rule": "private", "offending": "Bartholomew"}, {"rule": "length", "offending": "and so on"}]
    assert [one["offending"] for one in traces.removed(refusals)] == [ERASED, "and so on"]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_where_nothing_is_theirs_nothing_changes(value: object) -> None:
    assert Traces({}, []).removed(value) == value


@given(st.lists(st.text(min_size=1), min_size=1, max_size=40, unique=True), st.data())
def test_a_new_name_keeps_a_units_place_among_the_others(units: list[str], data: st.DataObject) -> None:
    unit = data.draw(st.sampled_from(units))
    others = [other for other in units if other != unit]
    name = in_place_of(unit, others, (f"erased-{number}" for number in count()))
    assert sorted(units, key=_order).index(unit) == sorted([*others, name], key=_order).index(name)


@pytest.mark.parametrize(("text", "days"), [("180d", 180), (" 26W ", 182), ("30d", 30)])
def test_an_age_is_days_or_weeks(text: str, days: int) -> None:
    assert age_of(text) == timedelta(days=days)


@pytest.mark.parametrize("text", ["", "180", "6months", "-40d", "29d", "4w", "99999d", "1e3d", "\u0663\u0660d"])
def test_an_age_that_cannot_be_or_is_too_young_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        age_of(text)


def test_a_month_ends_where_the_next_begins() -> None:
    assert Month(2026, 12).end == Month(2027, 1).start == datetime(2027, 1, 1, tzinfo=UTC)
    assert str(Month(2026, 3)) == "2026-03"
