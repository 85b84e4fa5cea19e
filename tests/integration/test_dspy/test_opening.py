"""What is frozen in an experiment when it opens: the settings, and what the agent's past week says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from bindu.dspy.canary.champion import open_champion_test
from bindu.dspy.canary.controller import next_step, run_step, why_no_step
from bindu.dspy.champion import is_champion_test
from bindu.dspy.errors import BarredTextError, NoActivePromptError
from bindu.dspy.models import Experiment
from bindu.dspy.opening import check_may_open, trial_policy
from bindu.dspy.planning import fitted
from bindu.dspy.policy import Policy
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt, update_prompt_status
from bindu.dspy.units import Baseline
from bindu.settings import app_settings
from samples import AGENT, a_task, a_vote

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LOSER = "You help customers of a parcel service well and you answer in one sentence."


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    canary = app_settings.dspy.canary
    before = canary.model_dump()
    canary.rule = "evidence"
    yield
    for name in ("stated_gain", *before):  # the goal is refused without what is gained by it
        setattr(canary, name, "." if name == "stated_gain" else before[name])
    canary.stated_gain = before["stated_gain"]


async def rated(storage: PostgresStorage, count: int, *, latency_ms: float | None = None) -> None:
    """That many tasks in the two hours before NOON, each with a vote."""
    first = NOON - timedelta(hours=2)
    times = [first + timedelta(hours=2) * number / count for number in range(count)]
    ids = await storage.add_tasks([a_task(created_at=at, latency_ms=latency_ms) for at in times])
    await storage.add_feedback(
        [a_vote(task_id, created_at=at, rater_id=str(at)) for task_id, at in zip(ids, times, strict=True)]
    )


async def opened(storage: PostgresStorage, number: int) -> Experiment:
    found = await storage.experiments(AGENT, limit=1)
    assert found[0].candidate_id == number
    return found[0]


async def barring(storage: PostgresStorage) -> list[int]:
    return [text.prompt_id for text in await storage.barred_texts(AGENT)]


async def end(number: int, status: str, *, now: datetime | None = None) -> None:
    await update_prompt_status(number, status, now=now)


async def test_the_whole_policy_is_frozen_with_what_the_past_week_says(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.", now=NOON - DAY)
    await rated(storage, 60, latency_ms=800.0)
    app_settings.dspy.canary.gain = 0.04
    number = await insert_prompt("You help well.", "candidate", 0.2, now=NOON)
    stored = (await opened(storage, number)).policy
    assert stored.keys() == {field.name for field in fields(Policy)} | {"rule_version"}
    policy = msgspec.convert(stored, Policy)
    expected = fitted(Policy(gain=0.04), Baseline(feedback_per_hour=30, slow_ms=800.0), share=0.2)
    assert policy == replace(expected, planned_days=pytest.approx(expected.planned_days))
    assert (policy.window_hours, policy.judged) == (1, False)
    app_settings.dspy.canary.gain = 0.1
    assert (await opened(storage, number)).policy["gain"] == 0.04


async def test_without_feedback_nothing_is_planned_and_windows_are_long(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    await insert_prompt("You help well.", "candidate", 0.1)
    (experiment,) = await storage.experiments(AGENT)
    assert (experiment.policy["planned_days"], experiment.policy["window_hours"]) == (None, 24)
    (opening,) = await storage.decisions(AGENT)
    assert opening.rule == "evidence"
    assert opening.reason == (
        "Inserted as a candidate. There is no feedback to decide by yet: without a verdict it ends after 14 days."
    )


async def test_who_opens_an_experiment_is_told_how_long_it_takes(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.", now=NOON - DAY)
    await rated(storage, 60)
    await insert_prompt("You help well.", "candidate", 0.1, now=NOON)
    (opening,) = await storage.decisions(AGENT)
    assert "A difference of 5 points shows after about 3 days; without a verdict" in opening.reason


async def test_the_means_rule_freezes_its_name_only(storage: PostgresStorage) -> None:
    app_settings.dspy.canary.rule = "means"
    await bootstrap_prompt("You help.")
    number = await insert_prompt("You help well.", "candidate", 0.1)
    assert (await opened(storage, number)).policy == {"rule": "means"}
    assert (await storage.decisions(AGENT))[0].reason == "Inserted as a candidate."


@pytest.mark.usefixtures("storage")
async def test_a_judge_is_watched_when_a_share_of_the_answers_is_judged() -> None:
    await bootstrap_prompt("You help.")
    app_settings.dspy.canary.judge_share = 0.05
    assert (await trial_policy(AGENT, 0.1))["judged"] is True


@pytest.mark.usefixtures("storage")
async def test_an_agent_without_a_prompt_has_no_policy() -> None:
    with pytest.raises(NoActivePromptError):
        await trial_policy("nobody", 0.1)


# texts that were tried


async def lose(status: str = "rolled_back") -> int:
    await bootstrap_prompt("You help.")
    number = await insert_prompt(LOSER, "candidate", 0.1)
    await end(number, status)
    return number


@pytest.mark.parametrize("rule", ["evidence", "means"])
async def test_a_text_that_lost_is_refused_until_a_person_says_again(storage: PostgresStorage, rule: Any) -> None:
    app_settings.dspy.canary.rule = rule
    number = await lose()
    before = await storage.prompts(AGENT)
    for text in (LOSER, f"  {LOSER.upper()}\n"):
        with pytest.raises(BarredTextError, match=f"prompt {number} is the same or much like it and was rolled back"):
            await insert_prompt(text, "candidate", 0.1)
    assert await storage.prompts(AGENT) == before
    assert await insert_prompt(LOSER, "candidate", 0.1, again=True) == number + 1


@pytest.mark.usefixtures("storage")
async def test_a_text_much_like_one_that_lost_is_refused_as_far_as_the_setting_goes() -> None:
    await lose()
    reworded = LOSER.replace("one sentence", "two sentences")
    await check_may_open(reworded)
    app_settings.dspy.canary.similar_text = 0.5
    with pytest.raises(BarredTextError):
        await insert_prompt(reworded, "candidate", 0.1)


@pytest.mark.usefixtures("storage")
async def test_only_trials_are_looked_up_in_the_log() -> None:
    number = await lose()
    assert await insert_prompt(LOSER, "deprecated", 0) == number + 1
    assert await insert_prompt(LOSER, "rolled_back", 0) == number + 2


async def test_a_promoted_text_is_free(storage: PostgresStorage) -> None:
    await lose("active")
    assert await barring(storage) == []
    assert await insert_prompt("You help.", "candidate", 0.1) == 3  # the one it replaced, too


async def test_a_person_pardons_a_text_by_making_it_deprecated(storage: PostgresStorage) -> None:
    number = await lose()
    assert await barring(storage) == [number]
    await update_prompt_status(number, "deprecated")
    assert await barring(storage) == []
    assert await insert_prompt(LOSER, "candidate", 0.1) == number + 1


@pytest.mark.usefixtures("storage")
async def test_what_another_agent_tried_bars_nothing() -> None:
    await lose()
    await bootstrap_prompt("You help.", agent_id="other")
    assert await insert_prompt(LOSER, "candidate", 0.1, agent_id="other") == 2


# the champion


async def promote(count: int, *, first: int = 0) -> None:
    """Put that many new texts on trial, a day apart, and promote each."""
    for step in range(first, first + count):
        at = NOON + step * DAY
        number = await insert_prompt(f"Edition {step} of the prompt.", "candidate", 0.1, now=at)
        await end(number, "active", now=at + DAY / 2)


async def test_after_five_promotions_the_first_prompt_is_the_candidate(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.", now=NOON - DAY)
    await promote(4)
    assert await open_champion_test(AGENT, NOON + 4 * DAY) is None
    await promote(1, first=4)
    experiment = await open_champion_test(AGENT, NOON + 5 * DAY)
    assert experiment is not None
    assert is_champion_test(experiment)
    assert experiment.active_id == 6
    serving = await storage.serving(AGENT)
    assert serving is not None
    assert serving.candidate is not None
    assert (serving.candidate.text, serving.candidate.parent_id) == ("You help.", 1)
    assert (serving.candidate.origin, serving.share) == ("champion", 0.1)
    opening = (await storage.decisions(AGENT, limit=1))[0]
    assert (opening.verdict, opening.actor) == ("open", "controller")
    assert "Prompt 1, the champion, comes back to be compared with prompt 6" in opening.reason
    assert await open_champion_test(AGENT, NOON + 6 * DAY) is None  # it is on trial


async def test_before_the_champion_comes_back_it_is_foretold(storage: PostgresStorage) -> None:
    app_settings.dspy.canary.champion_promotions = 1
    await bootstrap_prompt("You help.", now=NOON - DAY)
    assert "nothing to do" in await why_no_step(now=NOON)
    await promote(1)
    assert await next_step(now=NOON + DAY) is None
    assert "prompt 1, the champion, is due: the next run puts it on trial" in await why_no_step(now=NOON + DAY)
    assert len(await storage.experiments(AGENT)) == 1


async def test_a_run_that_brings_the_champion_back_says_so(storage: PostgresStorage) -> None:
    app_settings.dspy.canary.champion_promotions = 1
    await bootstrap_prompt("You help.", now=NOON - DAY)
    await promote(1)
    opening = await run_step(agent_id=AGENT, now=NOON + DAY)
    assert opening is not None
    assert (opening.verdict, opening.share_before, opening.share_after) == ("open", 0.0, 0.1)
    assert "the champion, comes back" in opening.reason
    assert await storage.decisions(AGENT, limit=1) == [opening]
    assert await run_step(agent_id=AGENT, now=NOON + DAY) is None


async def test_a_beaten_champion_hands_over_and_bars_nothing(storage: PostgresStorage) -> None:
    app_settings.dspy.canary.champion_promotions = 1
    await bootstrap_prompt(LOSER, now=NOON - DAY)
    await promote(1)
    test = await open_champion_test(AGENT, NOON + DAY)
    assert test is not None
    await end(test.candidate_id, "rolled_back", now=NOON + 2 * DAY)
    assert (await storage.experiments(AGENT))[0].outcome == "rolled_back"
    assert await barring(storage) == []
    await check_may_open(f"{LOSER} Thank them.")
    assert await open_champion_test(AGENT, NOON + 1000 * DAY) is None  # the active prompt is the champion now
    await promote(1, first=3)
    again = await open_champion_test(AGENT, NOON + 5 * DAY)
    assert again is not None
    champion = await storage.prompt(AGENT, again.candidate_id)
    assert champion is not None
    assert (champion.parent_id, champion.text) == (2, "Edition 0 of the prompt.")


async def test_a_champion_comes_back_although_its_text_was_tried_before(storage: PostgresStorage) -> None:
    app_settings.dspy.canary.champion_promotions = 1
    await bootstrap_prompt("Be brief.", now=NOON - DAY)
    lost = await insert_prompt(LOSER, "candidate", 0.1, now=NOON - DAY)
    await end(lost, "rolled_back", now=NOON - DAY)
    won = await insert_prompt(LOSER, "candidate", 0.1, again=True, now=NOON - DAY)
    await end(won, "active", now=NOON - DAY)
    first = await open_champion_test(AGENT, NOON)  # prompt 1 comes back and loses: the tried text is the champion
    assert first is not None
    await end(first.candidate_id, "rolled_back", now=NOON)
    await promote(1)
    test = await open_champion_test(AGENT, NOON + DAY)
    assert test is not None
    champion = await storage.prompt(AGENT, test.candidate_id)
    assert champion is not None
    assert champion.text == LOSER
    assert await barring(storage) == [lost]


async def test_a_champion_has_to_be_better_whatever_the_goal(storage: PostgresStorage) -> None:
    canary = app_settings.dspy.canary
    canary.stated_gain = "half the cost"
    canary.goal = "not_worse"
    canary.champion_promotions = 1
    await bootstrap_prompt("You help.", now=NOON - DAY)
    await promote(1)
    assert (await storage.experiments(AGENT))[0].policy["goal"] == "not_worse"
    test = await open_champion_test(AGENT, NOON + DAY)
    assert test is not None
    assert (test.policy["goal"], test.policy["stated_gain"], test.policy["champion"]) == ("better", "", True)
    assert msgspec.convert(test.policy, Policy).goal == "better"


@pytest.mark.usefixtures("storage")
async def test_under_the_means_rule_and_when_switched_off_no_champion_comes_back() -> None:
    await bootstrap_prompt("You help.", now=NOON - DAY)
    await promote(6)
    canary = app_settings.dspy.canary
    canary.rule = "means"
    assert await open_champion_test(AGENT, NOON + 6 * DAY) is None
    canary.rule = "evidence"
    canary.champion_promotions = 0
    assert await open_champion_test(AGENT, NOON + 6 * DAY) is None
    canary.champion_promotions = 5
    assert await open_champion_test(AGENT, NOON + 6 * DAY) is not None


async def test_a_champion_whose_text_is_active_again_is_not_compared_with_itself(storage: PostgresStorage) -> None:
    app_settings.dspy.canary.champion_promotions = 1
    await bootstrap_prompt("You help.", now=NOON - DAY)
    await promote(1)
    number = await insert_prompt("You help.", "candidate", 0.1, now=NOON + DAY)
    await end(number, "active", now=NOON + DAY)
    before = await storage.experiments(AGENT)
    assert await open_champion_test(AGENT, NOON + 2 * DAY) is None
    assert await storage.experiments(AGENT) == before


async def test_an_unknown_agent_has_no_champion(storage: PostgresStorage) -> None:
    assert await open_champion_test("nobody", await storage.now()) is None


async def test_of_eight_controllers_one_opens_the_champions_test(storage: PostgresStorage) -> None:
    app_settings.dspy.canary.champion_promotions = 1
    await bootstrap_prompt("You help.", now=NOON - DAY)
    await promote(1)
    found = await asyncio.gather(*(open_champion_test(AGENT, NOON + DAY) for _ in range(8)))
    (test,) = [experiment for experiment in found if experiment is not None]
    assert [experiment.id for experiment in await storage.experiments(AGENT)] == [test.id, test.id - 1]
    assert asdict(test)["state"] == "running"
