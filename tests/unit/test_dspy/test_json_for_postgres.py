"""JSON for PostgreSQL: whatever a model says becomes text that the database takes."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from bindu.dspy.postgres.rows import clean, from_json, to_json

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ANY_TEXT = st.text(st.characters(exclude_categories=()))
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(ANY_TEXT, children, max_size=4),
    max_leaves=12,
)


@given(ANY_TEXT)
@example("\ud83d\ude00")
@example("a\x00b\udfff")
def test_clean_text_can_be_stored_and_clean_text_stays_as_it_is(text: str) -> None:
    cleaned = clean(text)
    assert "\x00" not in cleaned
    cleaned.encode("utf-8")
    assert clean(cleaned) == cleaned
    if "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text):
        assert cleaned == text


def test_two_halves_of_a_character_become_whole() -> None:
    assert clean("\ud83d\ude00") == "😀"


@given(ANY_JSON)
@example({"a\x00": ["\x00", {"\ud800": 1}]})
@example("\\u0000")
@example("\\\x00")
def test_any_json_becomes_text_without_nul_or_half_characters(value: object) -> None:
    text = to_json(value)
    text.encode("utf-8")
    assert "\x00" not in str(json.loads(text))
    assert from_json(to_json(from_json(text))) == from_json(text)


@given(ANY_JSON)
def test_json_that_can_be_stored_is_not_changed(value: object) -> None:
    escaped = json.dumps(value)
    if "\\u0000" not in escaped and "\\ud" not in escaped:
        assert from_json(to_json(value)) == value


def test_what_json_has_no_number_for_becomes_null() -> None:
    assert from_json(to_json([float("inf"), float("nan")])) == [None, None]
