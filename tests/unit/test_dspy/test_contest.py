"""Where users disagree, ratings and witnesses decide; what only orders ask for has to be clearly confirmed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from bindu.dspy.contest import settle
from bindu.dspy.rubric import RubricRule
from bindu.dspy.support import Reading, RuleSupport

FOR, AGAINST, OTHER = (RubricRule(text, (f"{text}-1", f"{text}-2")) for text in ("mention it", "leave it", "be quick"))


def support(
    rule: RubricRule, *, worth: float = 0.0, overall: float | None = None, raters: int = 2, verdict: str = "keep"
) -> RuleSupport:
    """A rule that is worth so many standard errors to the others, and as many or ``overall`` to its opponents, too."""
    return RuleSupport(
        rule=rule,
        raters=raters,
        others=80,
        everybody=100,
        difference=0.05 * worth,
        error=0.05,
        overall=0.05 * (worth if overall is None else overall),
        overall_error=0.05,
        needed=0.0,
        verdict=verdict,  # type: ignore[arg-type]
        reason="As weighed.",
    )


def readings(count: int = 60) -> list[Reading]:
    """The first rule is broken where the second is kept; the third has a life of its own."""
    chance = random.Random(3)
    made = []
    for number in range(count):
        shown = chance.random() < 0.3
        broken = {2} if shown else {1}
        broken |= {3} if chance.random() < 0.5 else set()
        made.append(Reading(0.5, "rating", frozenset({f"r{number}"}), str(number), 400, frozenset(broken)))
    return made


def raters_of(*rules: RubricRule, each: int = 1) -> dict[str, frozenset[str]]:
    return {task: frozenset(f"{task}-rater-{n}" for n in range(each)) for rule in rules for task in rule.task_ids}


def verdicts(found: list[RuleSupport]) -> list[str]:
    return [one.verdict for one in found]


@pytest.mark.parametrize(("first", "second", "expected"), [(2, -2, ["keep", "drop"]), (-2, 2, ["drop", "keep"])])
def test_of_two_opposites_the_one_that_ratings_favour_stays(first: float, second: float, expected: list[str]) -> None:
    weighed = [support(FOR, worth=first), support(AGAINST, worth=second)]
    found = settle(weighed, readings(), raters_of(FOR, AGAINST))
    assert verdicts(found) == expected
    assert all("Users disagree" in one.reason for one in found)


def test_where_ratings_say_nothing_the_side_with_more_witnesses_stays() -> None:
    raters = raters_of(FOR) | raters_of(AGAINST, each=4)
    assert verdicts(settle([support(FOR), support(AGAINST)], readings(), raters)) == ["drop", "keep"]


def test_an_order_that_nobody_confirms_stands_against_no_rule() -> None:
    orders = frozenset(FOR.task_ids)
    weighed = [support(FOR, worth=2, raters=18), support(AGAINST, worth=-2, overall=-1)]
    found = settle(weighed, readings(), raters_of(AGAINST), orders)
    assert verdicts(found) == ["drop", "keep"]
    assert found[0].reason.startswith("18 ask for it and hardly anybody says so but in orders")
    assert found[1] == weighed[1]


def test_an_order_that_nobody_confirms_takes_no_other_rule_s_place() -> None:
    """Its honest opponent still has to stand against the honest rule that says the same."""
    again = RubricRule("do mention it", ("again-1", "again-2"))
    doubled = [replace(one, broken=one.broken | {3} if 1 in one.broken else one.broken - {3}) for one in readings()]
    weighed = [support(FOR, worth=3), support(AGAINST, worth=-1), support(again, worth=1)]
    found = settle(weighed, doubled, raters_of(AGAINST, again), frozenset(FOR.task_ids))
    assert verdicts(found) == ["keep", "drop", "keep"]
    found = settle([support(FOR), *weighed[1:]], doubled, raters_of(AGAINST, again), frozenset(FOR.task_ids))
    assert verdicts(found) == ["drop", "drop", "keep"]


def test_an_order_that_all_others_confirm_may_win() -> None:
    weighed = [support(FOR, worth=3, raters=18), support(AGAINST, worth=-3)]
    assert verdicts(settle(weighed, readings(), raters_of(AGAINST), frozenset(FOR.task_ids))) == ["keep", "drop"]


def test_a_dropped_rule_comes_back_when_its_opposite_loses_to_it() -> None:
    weighed = [support(FOR, worth=-2), support(AGAINST, worth=-0.5, verdict="drop")]
    assert verdicts(settle(weighed, readings(), raters_of(FOR, AGAINST))) == ["drop", "keep"]


def test_rules_that_are_not_opposites_stay_as_they_were_weighed() -> None:
    weighed = [support(FOR), support(OTHER)]
    independent = [
        Reading(one.score, one.kind, one.raters, one.task_id, one.length, frozenset(n - 1 for n in one.broken if n > 1))
        for one in readings()
    ]
    assert settle(weighed, independent, raters_of(FOR, OTHER)) == weighed


def test_too_few_answers_make_no_opposites() -> None:
    weighed = [support(FOR, worth=2), support(AGAINST, worth=-1)]
    assert settle(weighed, readings(10), raters_of(FOR, AGAINST)) == weighed


@pytest.mark.parametrize(("overall", "expected"), [(0.0, "drop"), (2.5, "drop"), (2.6, "keep")])
def test_what_only_orders_ask_for_has_to_be_clearly_confirmed_by_all_others(overall: float, expected: str) -> None:
    (found,) = settle([support(OTHER, worth=3, overall=overall)], readings(), {}, frozenset(OTHER.task_ids))
    assert found.verdict == expected


@pytest.mark.parametrize(("raters", "expected"), [(20, "drop"), (21, "keep")])
def test_what_a_fifth_of_all_raters_order_is_no_wish_of_few(raters: int, expected: str) -> None:
    (found,) = settle([support(OTHER, raters=raters)], readings(), {}, frozenset(OTHER.task_ids))
    assert found.verdict == expected


@pytest.mark.parametrize(("raters", "expected"), [(3, "keep"), (4, "drop")])
def test_one_witness_among_many_orders_is_not_enough(raters: int, expected: str) -> None:
    cited = RubricRule("sell", tuple(f"sell-{n}" for n in range(4)))
    witnesses = raters_of(RubricRule("", cited.task_ids[:2]))
    (found,) = settle([support(cited, raters=raters)], readings(), witnesses, frozenset(cited.task_ids[2:]))
    assert found.verdict == expected


def test_what_was_learned_without_words_stays_as_it_was_weighed() -> None:
    weighed = [support(OTHER, worth=-1), support(FOR, worth=-1, verdict="drop")]
    assert settle(weighed, [], {}, frozenset()) == weighed


@pytest.mark.parametrize(("worth", "expected"), [(-2.5, "keep"), (-2.6, "drop")])
def test_witnesses_are_believed_unless_ratings_clearly_speak_against_them(worth: float, expected: str) -> None:
    (found,) = settle([support(OTHER, worth=worth, verdict="drop")], readings(), raters_of(OTHER))
    assert found.verdict == expected


def test_a_persons_rule_needs_nobody() -> None:
    mine = support(RubricRule("My own rule."), worth=-3)
    assert settle([mine], readings(), {}) == [mine]
