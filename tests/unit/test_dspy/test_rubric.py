"""A rubric's rules can be read by a judge, edited by a person, and stored, without losing one."""

from __future__ import annotations

import json
import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.errors import InvalidArgumentError
from bindu.dspy.rubric import (
    LONGEST_RULE,
    MOST_RULES,
    Rubric,
    RubricRule,
    parse_rules,
    rules_as_json,
    rules_from_json,
)

WORDS = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=40).map(
    lambda text: " ".join(text.split())
)
IDS = st.lists(st.uuids().map(str), max_size=3).map(tuple)
RULES = st.lists(st.builds(RubricRule, WORDS.filter(bool), IDS), min_size=1, max_size=MOST_RULES).map(tuple)
SAYABLE = WORDS.map(lambda text: f"Say {text} now.")  # begins with no number, dash or brace and ends with no id
LINES = st.lists(st.builds(RubricRule, SAYABLE, IDS), min_size=1, max_size=MOST_RULES).map(tuple)
ID, OTHER = str(UUID(int=1)), f"{UUID(int=2)}#3"


@given(st.text(), RULES)
def test_a_rubric_numbers_its_rules_from_1_in_the_judge_s_text(
    instructions: str, rules: tuple[RubricRule, ...]
) -> None:
    text = Rubric(instructions, rules).text
    listed = text[text.rindex("The answer also does what users asked for") :].split("\n")[1:]
    assert listed == [f"{number}. {one.text}" for number, one in enumerate(rules, 1)]
    assert instructions in text


def test_a_rubric_without_rules_is_the_prompt_s_instructions() -> None:
    assert Rubric("Help.").text == "The answer follows the assistant's instructions:\nHelp."


@given(st.text(), RULES)
def test_a_rubric_is_the_same_after_storage(instructions: str, rules: tuple[RubricRule, ...]) -> None:
    rubric = Rubric(instructions, rules)
    assert Rubric.from_json(json.loads(json.dumps(rubric.as_json()))) == rubric
    assert rules_from_json(rules_as_json(rules)) == rules


def test_a_stored_rule_may_have_no_tasks() -> None:
    assert rules_from_json([{"rule": "Say sorry."}]) == (RubricRule("Say sorry."),)


@given(LINES, st.sampled_from(["{n}. ", "{n}) ", "- ", "* ", "\u2022 ", "\u2013 ", "", "  {n}.  "]))
def test_rules_can_be_read_from_lines_with_numbers_and_dashes(rules: tuple[RubricRule, ...], mark: str) -> None:
    def line(number: int, one: RubricRule) -> str:
        return mark.format(n=number) + one.text + (f" [{', '.join(one.task_ids)}]" if one.task_ids else "")

    lines = [line(number, one) for number, one in enumerate(rules, 1)]
    assert parse_rules("\n".join(lines)) == rules
    assert parse_rules("# My rules\r\n\r\n" + "\r\n\r\n".join(lines) + "\r\n") == rules


@given(RULES, st.booleans())
def test_rules_can_be_read_from_json(rules: tuple[RubricRule, ...], bare: bool) -> None:
    listed = rules_as_json(rules)
    assert parse_rules(json.dumps(listed if bare else {"sentence": "Kept.", "rules": listed, "rubric": None})) == rules


@given(LINES)
def test_the_judge_s_numbered_list_can_be_read_again(rules: tuple[RubricRule, ...]) -> None:
    listed = Rubric("", rules).text.partition("the two differ:\n")[2]
    assert [one.text for one in parse_rules(listed)] == [one.text for one in rules]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (f"Say sorry. [{ID}]", RubricRule("Say sorry.", (ID,))),
        (f"1. Say sorry. [{ID},{OTHER}] ", RubricRule("Say sorry.", (ID, OTHER))),
        (f"- Say sorry. [ {ID} {OTHER} ]", RubricRule("Say sorry.", (ID, OTHER))),
        ("Always link to [docs]", RubricRule("Always link to [docs]")),
        ("Cite sources like [1]", RubricRule("Cite sources like [1]")),
        ("[note] Be nice.", RubricRule("[note] Be nice.")),
        ("{name} is greeted.", RubricRule("{name} is greeted.")),
        ("\ufeff1. Say sorry.", RubricRule("Say sorry.")),
        ("10.5 percent are named.", RubricRule("10.5 percent are named.")),
        ("-5 degrees are cold.", RubricRule("-5 degrees are cold.")),
        ("1. # is a hash.", RubricRule("# is a hash.")),
        ('{"rules": [{"rule": " Say\\n sorry. "}]}', RubricRule("Say sorry.")),
        ('[{"rule": "Say sorry.", "task_ids": [7]}]', RubricRule("Say sorry.", ("7",))),
    ],
)
def test_one_rule_is_read_as_it_was_meant(line: str, rule: RubricRule) -> None:
    assert parse_rules(line) == (rule,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "The rubric has no rule. Write one a line"),
        ("\n# only a remark\n  \n", "The rubric has no rule"),
        ('{"rules": []}', "The rubric has no rule"),
        ("[]", "The rubric has no rule"),
        ("\n".join(f"Rule {n}." for n in range(13)), "The rubric has 13 rules and may have 12. Leave some out."),
        ("Fine.\n" + "x" * 301, "Rule 2 has 301 characters and may have 1 to 300. Say it shorter."),
        (f"[{ID}]", "Rule 1 has 0 characters"),
        ('[{"rule": "  "}]', "Rule 1 has 0 characters"),
        ("{}", "it has no list of rules"),
        ('{"rules": null}', "it has no list of rules"),
        ('{"rules": [', "The rubric is no JSON of the form"),
        ('["Say sorry."]', "rule 1 has another form"),
        ('[{"rule": "Say sorry."}, {"text": "x"}]', "rule 2 has another form"),
        ('[{"rule": 1}]', "rule 1 has another form"),
        ('[{"rule": "Say sorry.", "task_ids": "abc"}]', "rule 1 has another form"),
        ('[{"rule": "Say sorry.", "task_ids": null}]', "rule 1 has another form"),
        ("[" * 100_000, "The rubric is no JSON of the form"),
    ],
)
def test_what_cannot_be_a_rubric_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(said)) as refused:
        parse_rules(text)
    assert str(refused.value).endswith(".")


@given(st.text())
def test_any_text_is_a_rubric_or_refused_with_a_sentence(text: str) -> None:
    try:
        rules = parse_rules(text)
    except InvalidArgumentError as error:
        refusal = str(error)
        assert refusal.startswith(("The rubric ", "Rule "))
        return
    assert 1 <= len(rules) <= MOST_RULES
    assert all(1 <= len(one.text) <= LONGEST_RULE for one in rules)
