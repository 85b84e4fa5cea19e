"""User text on a page: it cannot become markup, hide anything, turn its surroundings or be endless."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.web.dashboard.texts import shown

READABLE = (
    "a",
    "é ",
    "\n",
    "\t",
    "line\r\n",
    "👩\u200d💻",
    "می\u200cخواهم",  # noqa: RUF001
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
)


def visible(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


@given(st.text())
def test_nothing_that_was_written_is_markup(text: str) -> None:
    inside = re.sub(r'</?bdi>|<span class="hidden">U\+[0-9A-F]{4,6}</span>', "", str(shown(text)))
    assert "<" not in inside
    assert ">" not in inside


HIDDEN = (
    "\x00\x07\x1b\x7f\x85\u00ad\u034f\u061c\u115f\u180e\u200b\u200e\u2028\u202e\u2060\u2066\u2800\u3164\ufeff\ufff9"
    "\ud800\ue000\U0001bca0\U0001d173\U000e0041\U000e0100\U000e01ef\U0010fffd"
)


@given(st.lists(st.sampled_from([*HIDDEN, *"Ab é"])).map("".join))
def test_no_character_that_cannot_be_seen_gets_through(text: str) -> None:
    assert not set(str(shown(text))) & set(HIDDEN)


@pytest.mark.parametrize("mark", "\u202e\u202d\u2066\u2067\u200f\u061c\u200b\u2060\ufeff\u00ad\U000e0041\x1b\x00\x7f")
def test_a_hidden_mark_is_shown_by_its_number(mark: str) -> None:
    assert str(shown(f"a{mark}b")) == f'<bdi>a<span class="hidden">U+{ord(mark):04X}</span>b</bdi>'


@given(st.lists(st.sampled_from(READABLE)).map("".join))
def test_what_can_be_read_stays_as_it_is(text: str) -> None:
    assert visible(str(shown(text))) == text


def test_a_long_line_is_cut_and_says_how_much_is_missing() -> None:
    cut = str(shown("<" * 1_000_000, 100))
    assert cut.count("&lt;") == 100
    assert "999,900 more characters" in cut
    assert len(cut) < 1_000


def test_nothing_is_an_empty_text() -> None:
    assert str(shown(None)) == "<bdi></bdi>"
