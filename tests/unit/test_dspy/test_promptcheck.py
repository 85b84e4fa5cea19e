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
        (
            ACTIVE + " Key: AIzaSyA-1234567890abcdefghijklmnopqrstu.",
            "private",
            "AIzaSyA-1234567890abcdefghijklmnopqrstu",
        ),
        (ACTIVE + " Call 555-123-4567.", "private", "555-123-4567"),
        (ACTIVE + " Or 555.123.4567!", "private", "555.123.4567"),
        (ACTIVE + " Hi {user.name}!", "variables", "{user.name}"),
        (ACTIVE + " Hi {users[0]}!", "variables", "{users[0]}"),
        (ACTIVE + " Pay {price:>10}.", "variables", "{price:>10}"),
        (ACTIVE + " Hi {user!r}.", "variables", "{user!r}"),
        (ACTIVE + " {% if vip %}Be kind.", "variables", "{% if vip %}"),
        (ACTIVE + " Hi {{ user.name | title }}!", "variables", "{{ user.name | title }}"),
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
    assert rules(f"{ACTIVE}\n\nBE  brief.", rolled_back=["other", loser]) == ["rolled_back"]


@given(TEXTS, TEXTS)
def test_checking_never_raises_and_white_space_makes_no_new_prompt(candidate: str, active: str) -> None:
    check_prompt(candidate, active=active, training_texts=[candidate], rolled_back=[active])
    assert same_text(candidate, f" {candidate}\n")
    assert "identical" in {refusal.rule for refusal in check_prompt(f"{active} ", active=active)}


def test_white_space_inside_a_placeholder_makes_no_other_placeholder() -> None:
    spaced = "Hi {{ name }}. {% if vip %}Be kind.{% endif %}"
    assert check_prompt("Hello {{name}}. {%if vip%}Be kind.{%endif%}", active=spaced) == []
    assert check_prompt("Hello {{nam}}. {%if vip%}Be kind.{%endif%}", active=spaced) != []


@pytest.mark.parametrize("text", ['Send {"a": 1}.', "As {answer: text}.", "Match {2,3} times.", "It costs $5."])
def test_braces_and_dollars_that_name_nothing_are_no_placeholders(text: str) -> None:
    assert rules(f"{ACTIVE} {text}") == []


COMPLAINT = "我昨天在你们的网店买的蓝色雨衣到现在还没有发货、客服也没有人回答我的问题。"


def test_24_characters_of_a_customer_are_a_copy_where_words_have_no_spaces() -> None:
    said = COMPLAINT.replace("、", "")
    own = "请记住 " + said[:23] + "。"
    assert rules(f"{ACTIVE} {own}", training_texts=[COMPLAINT]) == []
    (broken,) = check_prompt(f"{ACTIVE} {COMPLAINT[:30]}", active=ACTIVE, training_texts=[COMPLAINT])
    assert (broken.rule, broken.offending) == ("copied", said[:24])
    assert broken.reason.startswith("24 characters in a row")


SAID = {
    "English": "Answer the customer politely. When they are angry, say that you are sorry and tell them what you can "
    "do and how long it will take for the parcel to arrive.",
    "German": "Antworte dem Kunden höflich. Wenn er wütend ist, entschuldige dich zuerst und sage ihm, was du tun "
    "kannst und wie lange es mit dem Paket dauert, und sei nicht zu kurz.",
    "French": "Réponds poliment au client. Quand il est fâché, excuse-toi et dis ce que vous pouvez faire pour le "
    "colis et dans combien de temps il sera livré avec la poste.",
    "Spanish": "Responde con cortesía al cliente. Si está enfadado, discúlpate primero y dile lo que puedes hacer y "
    "cuánto tiempo va a tardar en llegar el paquete por correo a la casa.",
    "Russian": "Отвечай клиенту вежливо. Если он сердится, сначала извинись, потом скажи, что ты можешь сделать.",
    "Chinese": COMPLAINT + "请礼貌地回答、并且说明下一步怎么做。",
}


@pytest.mark.parametrize("spoken", SAID)
@pytest.mark.parametrize("active", SAID)
def test_a_prompt_in_another_language_is_refused_and_one_in_its_own_is_not(active: str, spoken: str) -> None:
    before, new = SAID[active], SAID[spoken]
    for candidate in (new + " ", f"{before}\n{new}"):  # rewritten, or with new advice
        broken = [it.rule for it in check_prompt(f"{candidate} ok", active=before)]
        assert ("language" in broken) == (active != spoken)


def test_a_few_foreign_words_are_no_other_language() -> None:
    polite = 'Say "Guten Tag" to people who write German. Say "Bonjour, je suis là pour vous" to the French.'
    assert check_prompt(f"{SAID['English']}\n{polite}", active=SAID["English"]) == []
