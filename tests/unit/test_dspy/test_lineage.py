"""Which comments led to which line."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.lineage import LONGEST_COMMENT, LineOrigin, lineage
from bindu.dspy.rubric import Rubric, RubricRule

ACTIVE = "You are a shop's assistant.\nBe polite. Answer in English.\n\nNever guess."
LENGTH = RubricRule("State how many days the delivery takes.", ("a", "b"))
SORRY = RubricRule("Apologise before anything else when a parcel is lost.", ("c",))
STEPS = RubricRule("Explain a return in numbered steps.", ())
RUBRIC = Rubric(ACTIVE, (LENGTH, SORRY, STEPS))
COMMENTS = {
    "a": ["How many days does delivery take??", "  too\n short "],
    "b": ["You never said when it arrives", "too short", "x" * 300],
    "c": ["not even an apology"],
    "d": ["an unrelated comment"],
}


def origins(candidate: str) -> list[LineOrigin]:
    return lineage(ACTIVE, candidate, RUBRIC, COMMENTS)


def told(candidate: str) -> list[tuple[str, str | None]]:
    return [(one.line, one.rule) for one in origins(candidate)]


def test_an_added_line_comes_from_the_rule_that_it_resembles_and_from_the_comments_behind_it() -> None:
    line = "- Always state the days that a delivery will take."
    (origin,) = origins(f"{ACTIVE}\n{line}")
    assert (origin.line, origin.rule, origin.task_ids) == (line, LENGTH.text, ("a", "b"))
    assert origin.comments == ("How many days does delivery take??", "too short", "You never said when it arrives")
    assert json.loads(json.dumps(origin.as_json())) == {
        "line": line,
        "rule": LENGTH.text,
        "task_ids": ["a", "b"],
        "comments": list(origin.comments),
    }


def test_a_line_that_resembles_no_rule_has_no_origin_but_is_told() -> None:
    assert origins(f"{ACTIVE}\nMention our newsletter.") == [LineOrigin("Mention our newsletter.", None)]


def test_a_line_of_several_sentences_has_several_origins() -> None:
    line = "Be polite. When a parcel is lost, apologise first; state the days of delivery. Mention the newsletter."
    assert told(f"{ACTIVE}\n{line}") == [(line, SORRY.text), (line, LENGTH.text)]


def test_a_changed_line_owes_what_is_new_in_it_and_nothing_else() -> None:
    changed = ACTIVE.replace("Answer in English.", "Answer in English. Explain returns in numbered steps.")
    line = "Be polite. Answer in English. Explain returns in numbered steps."
    assert told(changed) == [(line, STEPS.text)]


def test_a_moved_indented_or_wrapped_line_says_nothing_new() -> None:
    assert told("Never guess.\nBe polite. Answer in English.\nYou are a shop's assistant.") == []
    assert told(ACTIVE.replace("polite. Answer", "polite.\nAnswer").replace("Never", "  1. Never")) == []
    assert told(ACTIVE) == []
    assert told("Be polite.") == []


def test_a_sentence_that_goes_on_in_the_next_line_is_one_sentence() -> None:
    first, second = "* When a parcel", "  is lost, apologise before the rest."
    assert told(f"{ACTIVE}\n{first}\n{second}") == [(first, SORRY.text), (second.strip(), SORRY.text)]


def test_lines_without_a_full_stop_are_sentences_of_their_own() -> None:
    lines = ["Apologise when a parcel is lost", "State the days of delivery", "Explain returns as numbered steps"]
    rules = [SORRY.text, LENGTH.text, STEPS.text]
    assert told("\n".join([ACTIVE, *lines])) == list(zip(lines, rules, strict=True))


def test_endings_accents_and_case_make_no_difference_and_small_words_no_resemblance() -> None:
    rubric = Rubric("", (RubricRule("Erkläre die Lieferzeiten.", ("a",)), RubricRule("Say what it is for.", ("b",))))
    candidate = "ERKLAERE nichts.\nErklaren Sie Lieferzeit.\nSay that it is what it is."
    assert [one.rule for one in lineage("", candidate, rubric, {})] == [None, "Erkläre die Lieferzeiten.", None]


def test_scripts_without_spaces_are_compared_by_their_characters() -> None:
    rubric = Rubric("", (RubricRule("说明送货需要几天。", ("a",)), RubricRule("先道歉。", ("b",))))
    (origin,) = lineage("请回答。", "请回答。\n请说明送货需要的天数。", rubric, {"a": ["几天?"]})
    assert (origin.rule, origin.comments) == ("说明送货需要几天。", ("几天?",))


def test_at_most_three_comments_are_shown_each_cut_and_none_twice() -> None:
    rubric = Rubric("", (RubricRule("Be brief.", ("a", "b", "nobody")),))
    comments = {"a": ["y" * 500, "short", "short"], "b": ["short", "brief!", "last"]}
    (origin,) = lineage("", "Be brief.", rubric, comments)
    assert origin.comments == ("brief!", f"{'y' * (LONGEST_COMMENT - 1)}…", "short")


LINES = st.lists(
    st.sampled_from(["", "Be polite.", "- Be brief. State days.", "and go on", "Never guess", "1) Ümlaut 数"])
)


@given(LINES, LINES, st.lists(st.sampled_from(["Be brief.", "State the days.", "数数", "!"]), max_size=4))
def test_every_origin_names_a_line_of_the_candidate_and_a_rule_of_the_rubric(
    before: list[str], after: list[str], rules: list[str]
) -> None:
    rubric = Rubric("", tuple(RubricRule(text, (str(number),)) for number, text in enumerate(rules)))
    found = lineage("\n".join(before), "\n".join(after), rubric, {"0": ["x"]})
    assert {one.line for one in found} <= {line.strip() for line in after} - {""}
    assert {one.rule for one in found} <= {*rules, None}
    assert all(bool(one.task_ids) == (one.rule is not None) for one in found)
    assert len({(one.line, one.rule) for one in found}) <= len(found)


@given(LINES)
def test_a_prompt_against_itself_has_no_new_line(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert lineage(text, text, RUBRIC, COMMENTS) == []
    assert lineage(text, f"  {text}\n\n", RUBRIC, COMMENTS) == []
