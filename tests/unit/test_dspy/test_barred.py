"""Texts that were tried before are recognised; new ideas are not mistaken for them."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.barred import barred_by
from bindu.dspy.errors import BarredTextError
from bindu.dspy.units import BarredText

SHORT = "You are a support agent. Be kind, answer in one sentence and never promise a refund."
LONG = " ".join(f"Rule {number}: when case {number * 7} comes up, do thing {number * 13}." for number in range(100))
WORDS = ["kind", "brief", "polite", "never", "always", "refund", "order", "parcel", "name"]
texts = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)


def tried(text: str, number: int = 2) -> BarredText:
    return BarredText(prompt_id=number, text=text, experiment_id=1, outcome="inconclusive")


def alike(one: str, other: str, similar: float) -> bool:
    """Whether each of the two bars the other at that threshold; they agree."""
    found = {
        barred_by(text, [tried(earlier)], similar=similar) is not None for text, earlier in ((one, other), (other, one))
    }
    [agreed] = found
    return agreed


def runs(text: str) -> set[tuple[str, ...]]:
    found = text.split()
    return {tuple(found[place : place + 3]) for place in range(len(found) - 2)} or {tuple(found)}


@given(texts, texts)
def test_texts_are_as_alike_as_the_share_of_three_word_runs_that_both_have(one: str, other: str) -> None:
    mine, theirs = runs(one), runs(other)
    expected = sum(run in theirs for run in mine) / len([*mine, *(theirs - mine)])
    assert alike(one, other, expected)
    assert not alike(one, other, nextafter(expected, inf))


@given(st.text(max_size=60))
def test_a_text_is_like_itself_and_barred_at_any_threshold(text: str) -> None:
    assert barred_by(text, [tried(text)], similar=1.0) is not None
    assert barred_by(text, [tried(text)], similar=1.0, active=LONG) is not None


@pytest.mark.parametrize(
    "same",
    [
        SHORT.upper(),
        SHORT.replace(" ", "\n  "),
        SHORT.replace(",", "").replace(".", "!"),
        SHORT.replace("a", "\uff41"),  # full width
    ],
)
def test_case_space_and_punctuation_make_no_difference(same: str) -> None:
    assert alike(SHORT, same, 1.0)


def test_one_word_more_in_a_long_text_is_the_same_text() -> None:
    assert barred_by(f"{LONG} Please.", [tried(LONG)], similar=0.9) == tried(LONG)
    assert barred_by(f"{LONG} Please.", [tried(LONG)], similar=1.0) is None


def test_another_text_is_not_barred_and_the_first_match_is_named() -> None:
    older, newer = tried(SHORT, 2), tried(SHORT.lower(), 5)
    assert barred_by("Answer like a pirate who sells parcels.", [newer, older], similar=0.9) is None
    assert barred_by(SHORT, [newer, older], similar=0.9) == newer
    assert barred_by(SHORT, [], similar=0.9) is None


def test_two_rules_added_to_the_same_long_prompt_are_two_ideas() -> None:
    apology = f"{LONG} Always apologise first and name the parcel's number before anything else."
    brevity = f"{LONG} Answer in two short sentences without any greeting or closing formula."
    assert barred_by(brevity, [tried(apology)], similar=0.9) is not None  # as a whole
    assert barred_by(brevity, [tried(apology)], similar=0.9, active=LONG) is None


def test_the_same_rule_in_slightly_other_words_is_the_same_idea() -> None:
    rule = "Always apologise first and name the parcel's number before anything else that you say to the customer."
    reworded = rule.replace("customer", "user")
    assert barred_by(f"{LONG} {reworded}", [tried(f"{LONG} {rule}")], similar=0.9, active=LONG) is not None


@given(texts, texts, texts)
def test_what_is_barred_against_an_active_prompt_is_barred_without_it(text: str, earlier: str, active: str) -> None:
    if barred_by(text, [tried(earlier)], similar=0.9, active=active) is not None:
        assert barred_by(text, [tried(earlier)], similar=0.9) is not None


@given(texts, texts)
def test_a_higher_threshold_never_bars_more(text: str, earlier: str) -> None:
    steps = [0.1, 0.5, 0.9, 1.0]
    found = [barred_by(text, [tried(earlier)], similar=similar) is not None for similar in steps]
    assert all(lower or not higher for lower, higher in pairwise(found))


def test_where_words_have_no_spaces_a_character_is_a_word() -> None:
    chinese = "请用一句话礼貌地回答客户的问题并且不要承诺退款"
    assert alike(chinese, chinese + "。", 1.0)
    assert [alike(chinese, chinese + "谢谢", similar) for similar in (0.8, 1.0)] == [True, False]
    assert not alike(chinese, "我们今天下午去公园散步看花", 0.1)


def test_texts_of_signs_alone_are_told_apart() -> None:
    assert not alike("\U0001f642", "\U0001f680", 0.01)
    assert alike("\U0001f642", "\U0001f642\n", 1.0)


@pytest.mark.parametrize(("outcome", "how"), [("rolled_back", "was rolled back"), ("inconclusive", "ended undecided")])
def test_the_error_says_what_lost_and_how_to_try_it_again(outcome: str, how: str) -> None:
    error = BarredTextError(3, 7, outcome)
    assert isinstance(error, ValueError)
    assert f"prompt 3 is the same or much like it and {how} in experiment 7" in str(error)
    assert "again=True" in str(error)
    assert "--again" in str(error)
    assert (error.prompt_id, error.experiment_id, error.outcome) == (3, 7, outcome)
