"""Simulated customers at the real services, on a real database."""

from datetime import UTC, datetime, timedelta

import pytest

from bindu.dspy.errors import NoActivePromptError
from bindu.dspy.models import TaskQuery
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import refresh_prompts, stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt
from bindu.dspy.simulation.desk import IDEAL_PROMPT, START_PROMPT, Desk

NOW = datetime(2025, 3, 1, tzinfo=UTC)


@pytest.fixture
async def desk(storage: PostgresStorage) -> Desk:
    await bootstrap_prompt(START_PROMPT, agent_id="desk", now=NOW)
    yield Desk(seed=0, agent_id="desk")
    await stop_prompt_refresh()


async def stored(storage: PostgresStorage) -> list:
    query = TaskQuery(agent_id="desk", limit=10_000, require_feedback=False)
    return [task async for task in storage.read_tasks(query)]


def talks(tasks: list) -> set[tuple[str, str]]:
    return {(task.context_id, str(task.history)) for task in tasks}


async def test_every_exchange_and_every_vote_is_stored_at_its_simulated_time(
    desk: Desk, storage: PostgresStorage
) -> None:
    visits = await desk.converse(60, now=NOW + timedelta(days=1))
    tasks = await stored(storage)
    assert visits.conversations == 60 < visits.tasks == len(tasks)
    assert sum(bool(task.votes) for task in tasks) == visits.rated
    assert sum(any(vote.comment for vote in task.votes) for task in tasks) == visits.commented > 0
    assert all(NOW + timedelta(days=1) <= task.created_at < NOW + timedelta(days=2) for task in tasks)
    assert len({task.context_id for task in tasks}) == 60
    assert 0.4 < visits.rated / visits.tasks < 0.65


async def test_the_next_customers_are_others_and_the_same_seed_brings_the_same(
    desk: Desk, storage: PostgresStorage
) -> None:
    await desk.converse(20, now=NOW)
    first = talks(await stored(storage))
    await desk.converse(20, now=NOW + timedelta(days=1))
    assert len({task.context_id for task in await stored(storage)}) == 40
    await bootstrap_prompt(START_PROMPT, agent_id="twin", now=NOW)
    twin = Desk(seed=0, agent_id="twin")
    await twin.converse(20, now=NOW)
    query = TaskQuery(agent_id="twin", limit=100, require_feedback=False)
    assert first == talks([task async for task in storage.read_tasks(query)])


async def test_a_tenth_of_the_conversations_meets_the_candidate_and_is_truly_better_off(desk: Desk) -> None:
    candidate = await insert_prompt(IDEAL_PROMPT, "candidate", 0.1, agent_id="desk", now=NOW)
    await refresh_prompts(agent_id="desk")
    visits = await desk.converse(200, now=NOW + timedelta(hours=1))
    served = len(visits.qualities[candidate])
    assert 0.04 < served / visits.tasks < 0.18
    assert visits.quality(candidate) > 0.8
    assert visits.quality(1) < 0.4


async def test_a_desk_without_a_prompt_says_so(storage: PostgresStorage) -> None:
    with pytest.raises(NoActivePromptError):
        await Desk(agent_id="nobody").converse(3, now=NOW)
    await stop_prompt_refresh()


async def test_corrections_and_demands_of_hostile_raters_are_stored_like_any_feedback(storage: PostgresStorage) -> None:
    await bootstrap_prompt(START_PROMPT, agent_id="desk", now=NOW)
    desk = Desk(seed=0, agent_id="desk", corrections=1.0, hostile=0.2, craving="upsell")
    visits = await desk.converse(80, now=NOW)
    votes = [vote for task in await stored(storage) for vote in task.votes]
    demands = [vote.comment for vote in votes if vote.comment and "Premium" in vote.comment]
    assert len(votes) == visits.rated
    assert 8 < sum(vote.correction is not None for vote in votes) < visits.rated
    assert len(demands) > 2
    await stop_prompt_refresh()
