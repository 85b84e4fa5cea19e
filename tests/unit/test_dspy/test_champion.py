"""When the pinned champion comes back, read from the log of experiments."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.champion import champion_due, is_champion_test
from bindu.dspy.models import Experiment, ExperimentOutcome

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Kind = Literal["candidate", "champion"]
Past = tuple[Kind, ExperimentOutcome]

WON: Past = ("candidate", "promoted")
LOST: Past = ("candidate", "rolled_back")
VAGUE: Past = ("candidate", "inconclusive")
BACK: Past = ("champion", "promoted")
BEATEN: Past = ("champion", "inconclusive")


def log(*past: Past) -> list[Experiment]:
    """One experiment a day from START, newest first; prompt 1 was there first, prompt n + 1 is the n-th candidate."""
    made: list[Experiment] = []
    active = 1
    for number, (kind, outcome) in enumerate(past, 1):
        made.append(
            Experiment(
                agent_id="a",
                id=number,
                active_id=active,
                candidate_id=number + 1,
                policy={"rule": "evidence"} | ({"champion": True} if kind == "champion" else {}),
                state="ended",
                epoch=1,
                outcome=outcome,
                started_at=START + (number - 1) * DAY,
                ended_at=START + number * DAY,
            )
        )
        active = number + 1 if outcome == "promoted" else active
    return made[::-1]


def due(past: list[Experiment], *, day: float = 10, promotions: int = 5, days: float = 30) -> int | None:
    return champion_due(past, now=START + day * DAY, promotions=promotions, days=days)


def test_an_agent_without_experiments_has_no_champion() -> None:
    assert due([]) is None


def test_after_five_promotions_the_first_prompt_comes_back() -> None:
    assert due(log(WON, LOST, WON, WON, VAGUE, WON)) is None
    assert due(log(WON, LOST, WON, WON, VAGUE, WON, WON)) == 1


def test_after_thirty_days_one_promotion_is_enough_and_none_is_not() -> None:
    assert due(log(WON), day=29.9) is None
    assert due(log(WON), day=30) == 1
    assert due(log(LOST, VAGUE), day=400) is None


def test_a_champion_that_wins_stays_champion_under_its_new_number() -> None:
    past = log(*[WON] * 5, BACK)
    assert past[0].candidate_id == 7
    assert due(past, day=1000) is None  # it is active: there is nothing to compare
    assert due(log(*[WON] * 5, BACK, *[WON] * 4)) is None
    assert due(log(*[WON] * 5, BACK, *[WON] * 5)) == 7


@pytest.mark.parametrize("outcome", ["inconclusive", "rolled_back"])
def test_a_champion_that_does_not_win_hands_over_to_the_active_prompt(outcome: ExperimentOutcome) -> None:
    past = log(*[WON] * 5, ("champion", outcome))
    assert due(past, day=1000) is None
    assert due(log(*[WON] * 5, ("champion", outcome), *[WON] * 5)) == 6


def test_the_days_count_from_the_end_of_the_last_test() -> None:
    past = log(*[WON] * 5, BEATEN, WON)
    assert due(past, day=35.9) is None
    assert due(past, day=36) == 6


def test_the_promotion_of_a_champion_counts_for_nothing() -> None:
    assert due(log(*[WON] * 5, BACK, WON, WON, WON, WON)) is None


def test_zero_switches_it_off() -> None:
    assert due(log(*[WON] * 20), day=1000, promotions=0) is None


def test_nothing_is_due_while_a_candidate_is_on_trial() -> None:
    newest, *rest = log(*[WON] * 7)
    assert due([newest, *rest]) == 1
    assert due([replace(newest, state="running", outcome=None, ended_at=None), *rest]) is None


def test_only_an_experiment_that_says_so_is_a_champions() -> None:
    plain, champion = log(BEATEN, WON)
    assert (is_champion_test(plain), is_champion_test(champion)) == (False, True)
    assert not is_champion_test(replace(plain, policy={"champion": "yes"}))


@given(
    st.lists(st.sampled_from([WON, LOST, VAGUE, BACK, BEATEN]), max_size=30),
    st.integers(1, 8),
    st.floats(1, 60),
    st.floats(0, 90),
)
def test_who_comes_back_is_never_the_active_prompt_and_held_the_traffic_once(
    past: list[Past], promotions: int, days: float, later: float
) -> None:
    found = log(*past)
    champion = due(found, day=len(past) + later, promotions=promotions, days=days)
    if champion is None:
        return
    was_active = [1, *(one.candidate_id for one in found[::-1] if one.outcome == "promoted")]
    assert champion in was_active[:-1]
    tests = [one for one in found if is_champion_test(one)]
    if tests:
        assert champion in (tests[0].candidate_id, tests[0].active_id)
    else:
        assert champion == 1
