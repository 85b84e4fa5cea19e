"""What may not happen to a prompt."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.errors import InvalidPromptError
from bindu.dspy.promptcheck import Refusal, check_prompt, normalize_prompt, same_text

ACTIVE = (
    "You help {name} with $topic.\n<!-- keep -->\n  Never give  legal advice.\n<!-- /keep -->\nCall +49 30 1234567."
)
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=200)


def rules(candidate: str, **facts: object) -> list[str]:
    return [refusal.rule for refusal in check_prompt(candidate, active=ACTIVE, **facts)]  # type: ignore[arg-type]


@given(TEXTS)
def test_a_stored_prompt_is_left_alone_by_what_dspy_does_to_instructions(text: str) -> None:
    try:
        stored = normalize_prompt(text)
    except InvalidPromptError:
        assert not inspect.cleandoc(text).strip()
    else:
        assert inspect.cleandoc(stored) == stored == normalize_prompt(stored)
        assert stored.split() == text.split()


@pytest.mark.parametrize("text", ["", " \n\t ", "a\x00b", "lone \ud800 surrogate"])
def test_a_text_that_cannot_be_served_is_refused(text: str) -> None:
    with pytest.raises(InvalidPromptError):
        normalize_prompt(text)


def test_an_addition_breaks_no_rule() -> None:
    assert check_prompt(f"{ACTIVE}\n\nState how long things take.", active=ACTIVE, training_texts=["So slow!"]) == []


@pytest.mark.parametrize(
    ("candidate", "rule", "offending"),
    [
        (ACTIVE.replace("give  ", "give "), "protected", "  Never give  legal advice."),
        (ACTIVE.replace("{name}", "people"), "variables", "{name}"),
        (ACTIVE + " Hi {{ customer }}!", "variables", "{{ customer }}"),
        (ACTIVE.replace("$topic", "${topic}"), "variables", "${topic}"),
        (ACTIVE + " word" * 4_000, "length", "word"),
        (ACTIVE + " Write to jo.doe+x@mail.example.org", "private", "jo.doe+x@mail.example.org"),
        (ACTIVE + " Use card 4111 1111 1111 1111.", "private", "4111 1111 1111 1111"),
        (ACTIVE + " Call (030) 901820.", "private", "(030) 901820"),
        (ACTIVE + " Key: sk-proj_abcdefghij0123456789.", "private", "sk-proj_abcdefghij0123456789"),
        (ACTIVE.upper().replace("{NAME}", "{name}").replace("$TOPIC", "$topic"), "identical", "YOU HELP"),
    ],
)
def test_a_refusal_names_the_rule_and_the_offending_words(candidate: str, rule: str, offending: str) -> None:
    broken = {refusal.rule: refusal for refusal in check_prompt(candidate, active=ACTIVE)}
    assert rule in broken
    assert offending in broken[rule].offending  # type: ignore[index]


def test_numbers_that_are_no_card_and_no_phone_pass() -> None:
    assert rules(f"{ACTIVE} Refunds take 14 days. Order numbers look like 1234567890123456.") == []


def test_eight_words_of_a_customer_are_a_copy_and_seven_are_not() -> None:
    said = ["My parcel to Springfield was lost by your careless driver yesterday evening!"]
    seven = "the rule: parcel to Springfield was lost by your, and so on"
    assert rules(f"{ACTIVE} {seven}", training_texts=said) == []
    broken = check_prompt(f"{ACTIVE} My PARCEL to Springfield, was lost by your.", active=ACTIVE, training_texts=said)
    assert broken == [Refusal("copied", "my parcel to springfield was lost by your", broken[0].reason)]


def test_words_that_the_active_prompt_already_had_are_its_own() -> None:
    answer = [f"As I said: {ACTIVE}"]
    assert rules(f"{ACTIVE} Be brief.", training_texts=answer) == []


def test_a_prompt_that_lost_before_is_not_tried_again() -> None:
    loser = f"{ACTIVE} Be brief."
    assert rules(f"{ACTIVE}\n\nBE  brief.", rolled_back=["other", loser]) == ["protected", "rolled_back"][1:]


@given(TEXTS, TEXTS)
def test_checking_never_raises_and_white_space_makes_no_new_prompt(candidate: str, active: str) -> None:
    check_prompt(candidate, active=active, training_texts=[candidate], rolled_back=[active])
    assert same_text(candidate, f" {candidate}\n")
    assert "identical" in {refusal.rule for refusal in check_prompt(f"{active} ", active=active)}
