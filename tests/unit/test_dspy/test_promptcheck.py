# ruff: noqa: RUF001 - letters of other scripts are what this is about
"""What may not happen to a prompt: its form, its size, its language."""

from __future__ import annotations

import inspect
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindu.dspy.errors import InvalidPromptError
from bindu.dspy.promptcheck import Refusal, check_prompt, normalize_prompt, same_text
from bindu.dspy.promptcheck.letters import PLAIN, SKELETON, fold, hidden_runs, printable
from bindu.dspy.promptcheck.tokens import estimate_tokens, tokens_end

ACTIVE = (
    "You help {name} with $topic.\n<!-- keep -->\n  Never give  legal advice.\n<!-- /keep -->\nCall +49 30 1234567."
)
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=200)
KEPT = [f"<!-- keep -->\n{rule}\n<!-- /keep -->" for rule in ("Never guess.", "Never give  legal advice.")]


def rules(candidate: str, active: str = ACTIVE, **facts: object) -> list[str]:
    return [refusal.rule for refusal in check_prompt(candidate, active=active, **facts)]  # type: ignore[arg-type]


@settings(deadline=None)
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
        (ACTIVE + " {% if vip %}Be kind.", "variables", "{% if vip %}"),
        (ACTIVE + " Hi {{ user.name | title }}!", "variables", "{{ user.name | title }}"),
        (ACTIVE + "\nBe k\u200bind.", "characters", "\u200b"),
        (ACTIVE.upper().replace("{NAME}", "{name}").replace("$TOPIC", "$topic"), "identical", "YOU HELP"),
    ],
)
def test_a_refusal_names_the_rule_and_the_offending_words(candidate: str, rule: str, offending: str) -> None:
    broken = {refusal.rule: refusal for refusal in check_prompt(candidate, active=ACTIVE)}
    assert rule in broken
    assert offending in broken[rule].offending  # type: ignore[index]


@settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_every_refusal_quotes_the_candidate_or_the_active_prompt(candidate: str, active: str, said: str) -> None:
    facts = {"training_texts": [candidate], "rolled_back": [active], "customer_texts": [said, candidate]}
    for refusal in check_prompt(candidate, active=active, **facts):  # type: ignore[arg-type]
        assert refusal.offending in candidate or refusal.offending in active
        assert refusal.reason.isprintable()
        assert refusal.reason[0].isupper() or refusal.reason[0].isdigit()


@settings(deadline=None)
@given(TEXTS)
def test_of_an_unchanged_prompt_nothing_is_said_but_that_it_is_unchanged(text: str) -> None:
    facts = {"training_texts": [text], "customer_texts": [text]}
    assert rules(text, text, **facts) == ["identical"]
    assert same_text(text, f" {text}\n")
    assert "identical" in rules(f"{text} ", text)


# Protected regions


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        ("Be brief.\n{1}\n{0}", "order"),
        ("Be brief.\n{0}\n{1}\n{1}", "more often"),
        ("Be brief.\n{0}", "changed or lost"),
        ("Be brief.\n{0}\n{1}\n<!-- keep -->Obey.<!-- /keep -->", "only people"),
        ("Be brief.\n{0}\n{1}\n<!--KEEP-->Obey.", "only people"),
        ("Be brief.\n{0}\n{1}\n<!-- /keep -->", "only people"),
        ("Be brief.\n<!-- keep -->{0}\n{1}", "changed or lost"),
        ("Be brief.\n{0}<!-- /keep -->\n{1}", "only people"),
    ],
)
def test_regions_may_not_be_reordered_doubled_dropped_added_nested_or_left_open(candidate: str, reason: str) -> None:
    first, second = KEPT
    active = f"Be kind.\n{first}\n{second}"
    broken = check_prompt(candidate.format(*KEPT), active=active)
    assert {refusal.rule for refusal in broken} == {"protected"}
    assert any(reason in refusal.reason for refusal in broken)
    assert check_prompt(f"Be brief.\n{first}\n\nSmile.\n{second}\nAnd smile.", active=active) == []


def test_a_region_within_a_region_is_protected_with_what_is_around_it() -> None:
    active = "Be kind. <!-- keep -->a <!-- keep -->b<!-- /keep --> c<!-- /keep --> Smile."
    assert rules(active.replace(" c<", " d<"), active) == ["protected"]
    assert rules(active.replace("Smile", "Laugh"), active) == []


def test_a_region_that_the_active_prompt_never_closes_lasts_to_its_end() -> None:
    active = "Be kind.\n<!-- keep -->\nNever guess."
    assert rules("Be brief.\n<!-- keep -->\nNever guess.", active) == []
    assert rules(f"{active}\nBe brief.", active) == ["protected"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<!-- keep -->", "<!-- /keep -->", "a", "b\n"]), max_size=12), st.data())
def test_whatever_stands_between_marks_cannot_be_changed(parts: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(parts)))
    before, after = "".join(parts[:place]), "".join(parts[place:])
    inside = before.count("<!-- keep") > 0 and _depth(parts[:place]) > 0
    assert ("protected" in rules(f"{before}x{after}", f"{before}{after}")) == inside


def _depth(parts: list[str]) -> int:
    depth = 0
    for part in parts:
        depth = depth + 1 if part == "<!-- keep -->" else max(0, depth - 1) if part == "<!-- /keep -->" else depth
    return depth


# Template variables


def test_white_space_inside_a_placeholder_makes_no_other_placeholder() -> None:
    spaced = "Hi {{ name }}. {% if vip %}Be kind.{% endif %}"
    assert check_prompt("Hello {{name}}. {%if vip%}Be kind.{%endif%}", active=spaced) == []
    assert check_prompt("Hello {{nam}}. {%if vip%}Be kind.{%endif%}", active=spaced) != []


@pytest.mark.parametrize("text", ['Send {"a": 1}.', "As {answer: text}.", "Match {2,3} times.", "It costs $5."])
def test_braces_and_dollars_that_name_nothing_are_no_placeholders(text: str) -> None:
    assert rules(f"{ACTIVE} {text}") == []


VARIABLES = [
    "{x}",
    "{x.y[0]!r:>9}",
    "{{ x }}",
    "{{#x}}",
    "{{/x}}",
    "{{{x}}}",
    "{% x %}",
    "$x",
    "${x}",
    "%(x)s",
    "<%= x %>",
]
VARIABLES += ["#{x}", "[[x]]", "<<x>>", "{0}"]


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_of_any_syntax_may_move_but_neither_go_nor_come(variable: str) -> None:
    assert rules(f"Be brief, {variable}.", f"Be kind. {variable} asks.") == []
    assert rules("Be brief.", f"Be kind. {variable} asks.") == ["variables"]
    assert rules(f"Be brief, {variable}.", "Be kind.") == ["variables"]


# Length


def test_a_prompt_may_grow_to_16000_characters_or_by_a_half_of_a_longer_one() -> None:
    words = "Answer the question. "
    assert rules(words * 761, words) == []
    assert rules(words * 763, words) == ["length"]
    assert rules(words * 1_499, words * 1_000) == []
    assert rules(words * 1_501, words * 1_000) == ["length", "length"]


def test_a_text_of_few_characters_and_many_tokens_is_too_long() -> None:
    (broken,) = check_prompt("请礼貌地回答问题。" * 600, active="请回答问题。")
    assert broken.rule == "length"
    assert broken.reason.startswith("The prompt has some 8,")
    assert estimate_tokens(("请礼貌地回答问题。" * 600).removesuffix(broken.offending)) <= 6_000


@settings(deadline=None)
@given(TEXTS, st.integers(0, 100))
def test_the_first_tokens_of_a_text_are_as_many_as_asked_for(text: str, most: int) -> None:
    end = tokens_end(text, most)
    assert estimate_tokens(text[:end]) <= most
    assert end == len(text) or estimate_tokens(text) >= most


# Hidden characters


@settings(deadline=None)
@given(TEXTS)
def test_folding_with_places_and_without_is_the_same(text: str) -> None:
    for table in (PLAIN, SKELETON):
        folded = fold(text, table)
        assert folded.text == text.translate(table)
        assert len(folded.places) == len(folded.text)
        assert folded.places == sorted(folded.places)


@settings(deadline=None)
@given(
    st.characters(
        categories=["Cc", "Cf", "Co"], exclude_characters="\t\n\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f"
    )
)
def test_a_character_that_nobody_sees_is_refused_unless_the_active_prompt_has_it(hidden: str) -> None:
    seen = "\u0890\u0891\u08e2\U000110bd\U000110cd"  # signs that stand before a number
    assert ("characters" in rules(f"Be ki{hidden}nd, please.", "Be kind.")) == (hidden not in seen)
    assert rules(f"Be ki{hidden}nd, please.", f"Be{hidden} kind.") == []
    assert hidden in seen or rules(f"Be {hidden}ki{hidden}nd, please.", f"Be{hidden} kind.") == ["characters"]


def test_the_reason_names_hidden_characters_instead_of_showing_them() -> None:
    (broken,) = check_prompt("Be kind.\nNow\u202e go.", active="Be kind.")
    assert broken == Refusal("characters", "\u202e", broken.reason)
    assert broken.reason.endswith("U+202E RIGHT-TO-LEFT OVERRIDE.")
    assert printable("a\u202e\n  b") == "a\\u202e b"


@pytest.mark.parametrize(
    "text", ["❤️ 👩‍💻 1️⃣ 🏳️‍🌈", "می‌خواهم", "ක්‍රි", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "one\r\ntwo", "10\u00a0kg", "a\tb", "\u3000字"]
)
def test_hidden_characters_at_work_and_white_space_are_not_hidden(text: str) -> None:
    assert list(hidden_runs(text)) == []


@pytest.mark.parametrize(
    "text", ["a\ufe0f", "😀\ufe0f\ufe0e", "a\u200db", "🏴\U000e0067\U000e007f", "one\rtwo", "Ok\u3164", "\ufffe"]
)
def test_the_same_characters_elsewhere_are(text: str) -> None:
    assert list(hidden_runs(text)) != []


# Twins


def test_a_prompt_that_lost_before_is_not_tried_again() -> None:
    loser = f"{ACTIVE} Be brief."
    assert rules(f"{ACTIVE}\n\nBE  brief.", rolled_back=["other", loser]) == ["rolled_back"]


@pytest.mark.parametrize(
    "twin",
    [
        "be KIND answer in 3 steps",
        "- **Be kind!**\n- Answer, in 3 steps",
        "Bе kind. Ａnswer in 3 stéps.",
        "Be kind. An\u200bswer in 3 steps.",
    ],
)
def test_a_prompt_that_only_looks_different_is_the_same(twin: str) -> None:
    assert "identical" in rules(twin, "Be kind. Answer in 3 steps.")
    assert "rolled_back" in rules(twin, "Be brief.", rolled_back=["Be kind. Answer in 3 steps."])


@pytest.mark.parametrize(
    "other", ["Be kind. Answer in 4 steps.", "Be kind. Answer in >3 steps.", "Answer in 3 steps. Be kind."]
)
def test_another_number_sign_or_order_makes_another_prompt(other: str) -> None:
    assert rules(other, "Be kind. Answer in 3 steps.") == []


# Time


@pytest.mark.parametrize(
    "unit", ["1-", "a dot ", "1 ", "ISO ", "a-", "sk-", "_", "Aa'", "{% ", "<!-- keep -->", "\u200b", "a@"]
)
def test_a_prompt_that_repeats_itself_is_still_checked_soon(unit: str) -> None:
    text = (unit * 16_000)[:16_000]
    started = time.process_time()
    check_prompt(text, active="You help.", training_texts=[text[:2_000]] * 5, customer_texts=[f"x{text[:2_000]}"] * 5)
    assert time.process_time() - started < 10  # a tenth of a second to one; a careless expression takes minutes
