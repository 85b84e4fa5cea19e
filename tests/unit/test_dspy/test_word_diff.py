"""The diff of two prompts says all of both, changes as little as possible, and knows what only people may change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.insights.diff import DiffPiece, word_diff
from bindu.dspy.promptcheck.regions import kept_spans

texts = st.lists(st.sampled_from([*"ab é\n.", "word", "<!-- keep -->", "<!-- /keep -->", "\u202e"])).map("".join)


@given(texts, texts)
def test_either_text_can_be_read_from_the_pieces(old: str, new: str) -> None:
    pieces = list(word_diff(old, new))
    assert "".join(piece.text for piece in pieces if piece.change != "added") == old
    assert "".join(piece.text for piece in pieces if piece.change != "removed") == new


@given(texts)
def test_a_text_does_not_differ_from_itself(text: str) -> None:
    assert {piece.change for piece in word_diff(text, text)} <= {"same"}


@given(texts, texts)
def test_what_only_people_may_change_is_marked_to_the_character(old: str, new: str) -> None:
    kept = "".join(piece.text for piece in word_diff(old, new) if piece.kept and piece.change != "removed")
    assert kept == "".join(new[start:end] for start, end in kept_spans(new))


def test_one_changed_word_is_one_word() -> None:
    assert list(word_diff("Answer in two sentences.", "Answer in three sentences.")) == [
        DiffPiece("same", "Answer in "),
        DiffPiece("removed", "two"),
        DiffPiece("added", "three"),
        DiffPiece("same", " sentences."),
    ]


def test_a_mark_that_nothing_closes_keeps_the_rest() -> None:
    assert kept_spans("a <!-- keep --> b") == [(2, 17)]
    assert kept_spans("a <!-- /keep --> b") == [(2, 16)]
    assert kept_spans("<!--keep-->a<!--keep-->b<!--/keep-->c<!--/keep-->d") == [(0, 49)]
