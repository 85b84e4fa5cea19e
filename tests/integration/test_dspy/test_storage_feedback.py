"""Feedback: the latest vote of a rater counts, each vote is kept, a repeated one is the same vote."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from bindu.dspy.errors import BinduError, UnknownTaskError
from bindu.dspy.models import Feedback, Remark, TaskQuery
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import Storage
from bindu.settings import StorageSettings
from conftest import fetch
from samples import AGENT, a_task, a_vote, open_trial

START = datetime(2026, 6, 1, tzinfo=UTC)


async def stored_votes(url: str) -> list[asyncpg.Record]:
    return await fetch(url, "SELECT * FROM bindu_dspy.task_feedback ORDER BY id")


async def some_tasks(storage: Storage, count: int, agent_id: str = AGENT) -> list[UUID]:
    await storage.bootstrap(agent_id, "Be kind.")
    return await storage.add_tasks([a_task(agent_id=agent_id) for _ in range(count)])


async def test_a_vote_carries_what_its_task_knows(storage: Storage, postgres_url: str) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    (task_id,) = await storage.add_tasks([a_task(unit_id="ann")])
    vote = a_vote(task_id, 0.8, data={"rating": 4, "correction": "Say when."}, comment="Late\x00.", created_at=START)
    assert await storage.add_feedback([vote]) == [vote.id]
    (stored,) = await stored_votes(postgres_url)
    assert (stored["prompt_id"], stored["unit_id"], stored["score"]) == (1, "ann", 0.8)
    assert (stored["comment"], stored["created_at"], stored["superseded_by"]) == ("Late\ufffd.", START, None)


async def test_a_vote_names_the_experiment_of_its_task_if_there_is_one(storage: Storage, postgres_url: str) -> None:
    experiment = await open_trial(storage)
    ids = await storage.add_tasks([a_task(), a_task(experiment_id=experiment.id)])
    votes = [a_vote(task_id) for task_id in ids]
    await storage.add_feedback(votes)
    stored = {vote["id"]: vote["experiment_id"] for vote in await stored_votes(postgres_url)}
    assert stored == {votes[0].id: None, votes[1].id: experiment.id}


async def test_a_later_vote_supersedes_the_raters_earlier_one_and_keeps_it(storage: Storage, postgres_url: str) -> None:
    (task_id,) = await some_tasks(storage, 1)
    up, down, other = a_vote(task_id, 1.0), a_vote(task_id, 0.0), a_vote(task_id, 0.6, rater_id="bob")
    for vote in (up, down, other):
        await storage.add_feedback([vote])
    stored = {vote["id"]: vote["superseded_by"] for vote in await stored_votes(postgres_url)}
    assert stored == {up.id: down.id, down.id: None, other.id: None}


async def test_a_vote_that_arrives_late_does_not_replace_a_newer_one(storage: Storage, postgres_url: str) -> None:
    (task_id,) = await some_tasks(storage, 1)
    newer, older = a_vote(task_id, 1.0, created_at=START), a_vote(task_id, 0.0, created_at=START - timedelta(hours=1))
    await storage.add_feedback([newer])
    await storage.add_feedback([older])
    stored = {vote["id"]: vote["superseded_by"] for vote in await stored_votes(postgres_url)}
    assert stored == {newer.id: None, older.id: newer.id}


async def test_the_same_vote_again_is_the_same_vote(storage: Storage, postgres_url: str) -> None:
    first, second = await some_tasks(storage, 2)
    vote, keyed = a_vote(first), a_vote(first, 0.4, rater_id="bob", idempotency_key="click-1")
    assert await storage.add_feedback([vote, keyed, vote]) == [vote.id, keyed.id, vote.id]
    again = a_vote(first, 0.2, rater_id="bob", idempotency_key="click-1")
    elsewhere = a_vote(second, 0.2, rater_id="bob", idempotency_key="click-1")
    assert await storage.add_feedback([vote, again, elsewhere]) == [vote.id, keyed.id, elsewhere.id]
    assert len(await stored_votes(postgres_url)) == 3


async def test_a_repeated_click_does_not_bring_an_old_vote_back(storage: Storage) -> None:
    (task_id,) = await some_tasks(storage, 1)
    up, down = a_vote(task_id, 1.0, idempotency_key="a"), a_vote(task_id, 0.0, idempotency_key="b")
    for vote in (up, down, up, a_vote(task_id, 1.0, idempotency_key="a")):
        await storage.add_feedback([vote])
    assert (await storage.prompt_metrics(AGENT, [1]))[1].average_score == 0.0


async def test_an_unknown_task_stores_nothing_of_the_batch(storage: Storage, postgres_url: str) -> None:
    (task_id,) = await some_tasks(storage, 1)
    unknown = uuid7()
    with pytest.raises(UnknownTaskError) as refused:
        await storage.add_feedback([a_vote(task_id), a_vote(unknown)])
    assert refused.value.task_id == unknown
    with pytest.raises(UnknownTaskError):
        await storage.add_feedback([a_vote(task_id, agent_id="another")])
    assert await stored_votes(postgres_url) == []


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), float("inf")])
async def test_a_score_out_of_range_stores_nothing_of_the_batch(
    storage: Storage, postgres_url: str, score: float
) -> None:
    (task_id,) = await some_tasks(storage, 1)
    with pytest.raises(BinduError):
        await storage.add_feedback([a_vote(task_id, rater_id="ann"), a_vote(task_id, score)])
    assert await stored_votes(postgres_url) == []


async def test_a_rater_who_clicks_in_many_processes_at_once_has_one_vote(storage: Storage, postgres_url: str) -> None:
    ids = await some_tasks(storage, 6)
    others = [await PostgresStorage.connect(postgres_url, StorageSettings(pool_size=2)) for _ in range(4)]

    async def click(number: int) -> None:
        order = ids if number % 2 else ids[::-1]
        await others[number % 4].add_feedback([a_vote(task_id, number / 31) for task_id in order])

    await asyncio.gather(*(click(number) for number in range(32)))
    votes = await stored_votes(postgres_url)
    assert len(votes) == 32 * 6
    assert sorted(vote["task_id"] for vote in votes if vote["superseded_by"] is None) == sorted(ids)
    assert {vote["superseded_by"] for vote in votes} - {None} <= {vote["id"] for vote in votes}
    for other in others:
        await other.close()


clicks = st.lists(
    st.tuples(
        st.integers(0, 2),  # task
        st.sampled_from(["ann", "bob"]),
        st.integers(0, 5),  # fifths
        st.integers(0, 20),  # minutes
        st.one_of(st.none(), st.sampled_from(["k1", "k2"])),
        st.booleans(),  # the batch ends here
    ),
    max_size=15,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clicked=clicks)
async def test_whatever_is_clicked_in_whatever_batches_the_latest_votes_count(
    storage: Storage, clicked: list[tuple[int, str, int, int, str | None, bool]]
) -> None:
    agent_id = str(uuid7())
    ids = await some_tasks(storage, 3, agent_id)
    expected: dict[UUID, dict[str, tuple[datetime, float]]] = defaultdict(dict)
    keys: set[tuple[UUID, str]] = set()
    batch: list[Feedback] = []
    for place, rater, fifths, minutes, key, ends in clicked:
        at = START + timedelta(minutes=minutes)
        task_id, score = ids[place], fifths / 5
        batch.append(a_vote(task_id, score, agent_id=agent_id, rater_id=rater, idempotency_key=key, created_at=at))
        if key is None or (task_id, key) not in keys:
            latest = expected[task_id].get(rater)
            if latest is None or at >= latest[0]:
                expected[task_id][rater] = (at, score)
        if key is not None:
            keys.add((task_id, key))
        if ends:
            await storage.add_feedback(batch)
            batch = []
    await storage.add_feedback(batch)
    query = TaskQuery(agent_id=agent_id, limit=10)
    read = {task.id: {vote.rater_id: vote.score for vote in task.votes} async for task in storage.read_tasks(query)}
    assert read == {task: {rater: score for rater, (_, score) in votes.items()} for task, votes in expected.items()}
    metrics = (await storage.prompt_metrics(agent_id, [1]))[1]
    means = [sum(score for _, score in votes.values()) / len(votes) for votes in expected.values()]
    assert metrics.num_rated == len(means)
    assert metrics.average_score == (pytest.approx(sum(means) / len(means)) if means else None)


def a_remark(task_id: UUID, **fields: object) -> Remark:
    return Remark(**{"agent_id": AGENT, "task_id": task_id, "id": uuid7(), "comment": "Late.", **fields})  # type: ignore[arg-type]


async def remarks(url: str) -> list[asyncpg.Record]:
    return await fetch(url, "SELECT * FROM bindu_dspy.remarks ORDER BY id")


async def test_a_remark_becomes_part_of_its_raters_vote(storage: Storage, postgres_url: str) -> None:
    (task_id,) = await some_tasks(storage, 1)
    vote, other = a_vote(task_id, 0.8, data={"rating": 4}), a_vote(task_id, 0.2, rater_id="bob")
    await storage.add_feedback([vote, other])
    remark = a_remark(task_id, correction="On Friday.")
    assert await storage.add_feedback([remark]) == [remark.id]
    first, bobs, second = await stored_votes(postgres_url)
    assert (first["superseded_by"], bobs["superseded_by"], second["superseded_by"]) == (remark.id, None, None)
    assert (second["score"], second["comment"]) == (0.8, "Late.")
    assert second["feedback_data"] == '{"rating": 4, "comment": "Late.", "correction": "On Friday."}'
    assert await remarks(postgres_url) == []


async def test_a_remark_of_somebody_who_did_not_vote_is_kept_and_counts_nowhere(
    storage: Storage, postgres_url: str
) -> None:
    (task_id,) = await some_tasks(storage, 1)
    remark = a_remark(task_id, idempotency_key="once", created_at=START)
    again = a_remark(task_id, idempotency_key="once")
    assert await storage.add_feedback([remark, again]) == [remark.id, remark.id]
    assert await storage.add_feedback([again]) == [remark.id]
    [kept] = await remarks(postgres_url)
    assert (kept["comment"], kept["created_at"]) == ("Late.", START)
    assert await stored_votes(postgres_url) == []
    assert (await storage.prompt_metrics(AGENT, [1]))[1].num_rated == 0
