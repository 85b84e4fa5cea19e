"""Our headers: one rule for their values, and one table in the reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bindu.dspy import headers
from bindu.dspy.headers import LONGEST, usable
from bindu.dspy.web.proxy.conversations import Conversations

REFERENCE = (Path(__file__).parents[3] / "docs/reference/http.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("", None), ("a", "a"), ("a" * LONGEST, "a" * LONGEST), ("a" * (LONGEST + 1), None)],
)
def test_a_value_is_taken_whole_or_not_at_all(value: str | None, expected: str | None) -> None:
    assert usable(value) == expected


@pytest.mark.parametrize("name", ["conversation", "previous_response_id", "metadata"])
def test_two_conversations_with_one_long_beginning_stay_two(name: str) -> None:
    known, begin = Conversations(), "a" * 500
    units = [
        known.of(None, {name: {"conversation_id": begin + end} if name == "metadata" else begin + end}, [])
        for end in ("1", "2")
    ]
    assert units[0] != units[1]


def test_a_response_with_a_long_id_still_leads_to_its_conversation() -> None:
    known, response_id = Conversations(), "r" * 900
    known.remember("c-1", response_id, {}, [])
    assert known.of(None, {"previous_response_id": response_id}, []) == "c-1"


def test_the_reference_lists_every_header() -> None:
    listed = set(re.findall(r"^\| `(X-[\w-]+)` \|", REFERENCE, re.MULTILINE))
    ours = {value for name in headers.__all__ if isinstance(value := getattr(headers, name), str)}
    assert listed == ours
    assert f"{LONGEST} characters" in REFERENCE
