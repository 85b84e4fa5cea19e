"""What the dataset reads: the newest tasks that pass, what came before them, and why the others do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from bindu.dspy.models import RawTask, TaskQuery, Vote
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import Storage
from bindu.settings import StorageSettings
from samples import AGENT, a_task, a_vote

START = datetime(2026, 6, 1, tzinfo=UTC)


async def read(storage: Storage, **fields: object) -> list[RawTask]:
    query = TaskQuery(**{"agent_id": AGENT, "limit": 1000, **fields})  # type: ignore[arg-type]
    return [task async for task in storage.read_tasks(query)]


def said(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": f"{number}!"}]


async def test_a_task_comes_with_its_history_and_the_latest_vote_of_each_rater(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    (task_id,) = await storage.add_tasks([a_task(history=said(1), context_id="c1", created_at=START)])
    await storage.add_feedback(
        [
            a_vote(task_id, 0.2, rater_id="ann"),
            a_vote(task_id, 0.1 + 0.2, rater_id="ann", comment='Say "when".'),
            a_vote(task_id, 1.0, kind="thumbs_up", data={"correction": "Say when."}),
        ]
    )
    (task,) = await read(storage)
    assert (task.id, task.prompt_id, task.context_id, task.created_at) == (task_id, 1, "c1", START)
    assert task.history == said(1)
    assert task.votes == (
        Vote(kind="rating", score=0.1 + 0.2, rater_id="ann", comment='Say "when".'),
        Vote(kind="thumbs_up", score=1.0, correction="Say when."),
    )
    assert task.earlier == ()


async def test_the_newest_come_first_over_all_months_and_pages(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    ids = await storage.add_tasks([a_task(created_at=START + timedelta(days=5 * day)) for day in range(25)])
    for batch_size in (1, 7, 25, 500):
        assert [task.id for task in await read(storage, require_feedback=False, batch_size=batch_size)] == ids[::-1]
    assert [task.id for task in await read(storage, require_feedback=False, limit=10, batch_size=4)] == ids[:14:-1]
    assert await read(storage, require_feedback=False, limit=0) == []
    assert await read(storage, agent_id="another", require_feedback=False) == []


async def test_a_conversation_comes_with_what_was_said_before(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    talk = [a_task(history=said(number), context_id="c1") for number in range(60)]
    broken = a_task(history=said(99), context_id="c1", state="failed")
    (*ids, lonely) = await storage.add_tasks([*talk, a_task(history=said(77))])
    await storage.add_tasks([broken, a_task(history=said(88), context_id="c2")])
    tasks = {task.id: task for task in await read(storage, require_feedback=False, with_earlier=True, batch_size=9)}
    assert tasks[ids[0]].earlier == ()
    assert tasks[ids[3]].earlier == (said(0), said(1), said(2))
    assert tasks[ids[59]].earlier == tuple(said(number) for number in range(9, 59))
    assert tasks[lonely].earlier == ()
    assert broken.id not in tasks


async def test_a_reader_that_stops_or_sleeps_holds_no_connection(postgres_url: str, storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    await storage.add_tasks([a_task() for _ in range(6)])
    single = await PostgresStorage.connect(postgres_url, StorageSettings(pool_size=1, connect_timeout=2))
    query = TaskQuery(agent_id=AGENT, limit=6, require_feedback=False, batch_size=2)
    seen = 0
    async for _ in single.read_tasks(query):
        assert await single.serving_versions([AGENT]) == {AGENT: 1}
        seen += 1
        if seen == 3:
            break
    assert await single.serving_versions([AGENT]) == {AGENT: 1}
    await single.close()


tasks_given = st.lists(
    st.tuples(st.booleans(), st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), max_size=3)), max_size=12
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given_tasks=tasks_given,
    require_feedback=st.booleans(),
    min_score=st.sampled_from([0.0, 0.45, 0.55, 0.7, 1.0]),
    limit=st.integers(1, 8),
)
async def test_every_task_is_read_or_counted_under_one_reason(
    storage: Storage,
    given_tasks: list[tuple[bool, list[float]]],
    require_feedback: bool,
    min_score: float,
    limit: int,
) -> None:
    agent_id = str(uuid7())
    await storage.bootstrap(agent_id, "Be kind.")
    states = ["completed" if completed else "failed" for completed, _ in given_tasks]
    ids = await storage.add_tasks([a_task(agent_id=agent_id, state=state) for state in states])
    await storage.add_feedback(
        [
            a_vote(task_id, score, agent_id=agent_id, rater_id=str(rater))
            for task_id, (_, scores) in zip(ids, given_tasks, strict=True)
            for rater, score in enumerate(scores)
        ]
    )

    def passes(completed: bool, scores: list[float]) -> bool:
        mean = sum(scores) / len(scores) if scores else None
        rated = mean is not None or not require_feedback
        return completed and rated and (mean is None or mean >= min_score or mean < 0.5)

    passing: list[UUID] = [task_id for task_id, task in zip(ids, given_tasks, strict=True) if passes(*task)][::-1]
    query = TaskQuery(
        agent_id=agent_id, limit=limit, require_feedback=require_feedback, min_score=min_score, batch_size=3
    )
    assert [task.id async for task in storage.read_tasks(query)] == passing[:limit]
    counts = await storage.count_tasks(query)
    assert list(counts) == ["tasks", "not_completed", "without_feedback", "below_threshold", "over_limit"]
    assert counts.pop("tasks") - sum(counts.values()) == len(passing[:limit])
    assert counts["not_completed"] == states.count("failed")
    assert counts["over_limit"] == max(0, len(passing) - limit)


@pytest.mark.parametrize("score", [0.499999, 0.5])
async def test_a_failure_is_kept_below_the_threshold_and_a_mediocre_answer_is_not(
    storage: Storage, score: float
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    (task_id,) = await storage.add_tasks([a_task()])
    await storage.add_feedback([a_vote(task_id, score)])
    assert len(await read(storage, min_score=0.9)) == (score < 0.5)
