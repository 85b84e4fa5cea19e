"""Tasks: stored once each, in their month, with the arm that their unit met first."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from bindu.dspy.errors import BinduError, InvalidArgumentError, UnknownPromptError
from bindu.dspy.models import Task, TaskQuery
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import Storage
from bindu.settings import StorageSettings
from conftest import execute, fetch
from samples import AGENT, a_rollout, a_task, a_vote, open_trial

EVERYTHING = TaskQuery(agent_id=AGENT, limit=10_000, require_feedback=False)


async def test_no_tasks_are_no_work(storage: Storage) -> None:
    assert await storage.add_tasks([]) == []
    assert await storage.add_feedback([]) == []


async def test_a_task_is_found_by_our_id_and_by_the_callers(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    theirs = str(uuid4())
    (ours,) = await storage.add_tasks([a_task(external_id=theirs)])
    assert await storage.find_task(AGENT, ours) == ours
    assert await storage.find_task(AGENT, str(ours)) == ours
    assert await storage.find_task(AGENT, theirs) == ours
    assert await storage.find_task(AGENT, UUID(theirs)) == ours
    for unknown in (uuid7(), "resp_42", "", "a\x00b"):
        assert await storage.find_task(AGENT, unknown) is None
    assert await storage.find_task("another", theirs) is None


async def test_the_same_tasks_again_are_stored_once(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    tasks = [a_task() for _ in range(5)]
    ids = await storage.add_tasks(tasks)
    assert ids == [task.id for task in tasks]
    assert await storage.add_tasks([*tasks[2:], tasks[0]]) == [*ids[2:], ids[0]]
    assert (await storage.count_tasks(EVERYTHING))["tasks"] == 5


async def test_a_callers_id_means_one_task_also_within_a_batch(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    first, second, other = a_task(external_id="r1"), a_task(external_id="r1"), a_task(external_id="r2")
    assert await storage.add_tasks([first, second, other]) == [first.id, first.id, other.id]
    assert await storage.add_tasks([a_task(external_id="r2")]) == [other.id]
    assert (await storage.count_tasks(EVERYTHING))["tasks"] == 2


async def test_eight_batches_with_the_same_ids_in_any_order_store_each_once(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    tasks = [a_task(external_id=f"r{number}" if number % 2 else None) for number in range(40)]
    batches = [[replace(task, id=uuid7()) if task.external_id else task for task in tasks] for _ in range(8)]
    answers = await asyncio.gather(
        *(storage.add_tasks(batch[::-1] if number % 2 else batch) for number, batch in enumerate(batches))
    )
    assert len({tuple(answer[::-1] if number % 2 else answer) for number, answer in enumerate(answers)}) == 1
    assert (await storage.count_tasks(EVERYTHING))["tasks"] == 40


async def test_an_unknown_prompt_stores_nothing_of_the_batch(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    with pytest.raises(UnknownPromptError) as refused:
        await storage.add_tasks([a_task(), a_task(prompt_id=8, external_id="r1")])
    assert refused.value.prompt_id == 8
    assert (await storage.count_tasks(EVERYTHING))["tasks"] == 0
    assert await storage.find_task(AGENT, "r1") is None


async def test_an_unknown_experiment_stores_nothing_of_the_batch(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    with pytest.raises(BinduError, match="experiment"):
        await storage.add_tasks([a_task(), a_task(experiment_id=3)])
    assert (await storage.count_tasks(EVERYTHING))["tasks"] == 0


async def test_a_batch_of_two_agents_and_an_id_without_time_are_refused(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    with pytest.raises(ValueError, match="one agent"):
        await storage.add_tasks([a_task(), a_task(agent_id="another")])
    with pytest.raises(ValueError, match="version 7"):
        await storage.add_tasks([a_task(id=uuid4())])


async def test_what_a_model_says_is_stored_whatever_it_is(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    said = "NUL \x00, half \ud800, emoji 😀, :name, $1, \\u0000, '); DROP TABLE tasks;--"
    history = [{"role": "assistant", "content": said, "parts": [1, 1.5, None, {"deep": "\x00"}]}]
    await storage.add_tasks([a_task(history=history, usage={"tokens": 12})])
    (stored,) = [task async for task in storage.read_tasks(EVERYTHING)]
    safe = said.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert stored.history == [{"role": "assistant", "content": safe, "parts": [1, 1.5, None, {"deep": "\ufffd"}]}]


@pytest.mark.parametrize("odd", ["a\x00b", "half \ud800"])
async def test_ids_that_would_become_others_are_refused_and_nothing_is_stored(storage: Storage, odd: str) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    for field in ("external_id", "context_id", "unit_id"):
        with pytest.raises(InvalidArgumentError, match=f"{field} .* NUL character or a lone surrogate"):
            await storage.add_tasks([a_task(), a_task(**{field: odd})])
    [task_id] = await storage.add_tasks([a_task()])
    for field in ("rater_id", "idempotency_key"):
        with pytest.raises(InvalidArgumentError, match=f"{field} .* NUL character or a lone surrogate"):
            await storage.add_feedback([a_vote(task_id), a_vote(task_id, **{field: odd})])
    (stored,) = [task async for task in storage.read_tasks(EVERYTHING)]
    assert (stored.id, stored.votes) == (task_id, ())


async def test_a_unit_counts_for_the_arm_and_epoch_of_its_first_task(storage: Storage, postgres_url: str) -> None:
    experiment = await open_trial(storage)

    def during(prompt_id: int, unit_id: str, epoch: int = 0) -> Task:
        return a_task(prompt_id=prompt_id, unit_id=unit_id, experiment_id=experiment.id, epoch=epoch)

    await storage.add_tasks([during(2, "ann"), during(1, "ann"), during(1, "bob")])
    await storage.apply(await a_rollout(storage, share_after=0.2))
    await storage.add_tasks([during(2, "bob", 1), during(2, "cem", 1), a_task(unit_id="dan")])
    units = await fetch(postgres_url, "SELECT unit_id, arm, epoch FROM bindu_dspy.units ORDER BY unit_id")
    assert [tuple(unit) for unit in units] == [("ann", "candidate", 0), ("bob", "active", 0), ("cem", "candidate", 1)]
    outside = "SELECT count(*) FROM bindu_dspy.tasks WHERE experiment_id IS NULL AND epoch IS NULL"
    assert (await fetch(postgres_url, outside))[0][0] == 1


async def test_a_task_without_unit_belongs_to_its_conversation_or_to_itself(
    storage: Storage, postgres_url: str
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    alone = a_task()
    await storage.add_tasks([alone, a_task(context_id="c1"), a_task(context_id="c2", unit_id="ann")])
    units = await fetch(postgres_url, "SELECT unit_id FROM bindu_dspy.tasks")
    assert {unit["unit_id"] for unit in units} == {str(alone.id), "c1", "ann"}


async def test_months_appear_by_themselves_and_hold_their_tasks(storage: Storage, postgres_url: str) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    midnight = datetime(2026, 1, 1, tzinfo=UTC)
    times = [midnight - timedelta(milliseconds=1), midnight, datetime(2031, 12, 31, 23, 59, tzinfo=UTC)]
    ids = await storage.add_tasks([a_task(created_at=when) for when in times])
    await storage.add_feedback([a_vote(task_id) for task_id in ids])
    for table in ("tasks", "task_feedback"):
        found = await fetch(
            postgres_url, f"SELECT tableoid::regclass::text AS month FROM bindu_dspy.{table} ORDER BY id"
        )
        assert [row["month"] for row in found] == [
            f"bindu_dspy.{table}_{month}" for month in ("2025_12", "2026_01", "2031_12")
        ]


async def test_eight_writers_on_the_first_of_a_month_do_not_get_in_each_others_way(
    storage: Storage, postgres_url: str
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    others = [await PostgresStorage.connect(postgres_url, StorageSettings(pool_size=2)) for _ in range(8)]
    days = [datetime(2027, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4)]

    async def write(other: PostgresStorage, number: int) -> None:
        for day in days if number % 2 else days[::-1]:
            ids = await other.add_tasks([a_task(created_at=day), a_task(created_at=days[number % 4])])
            await other.add_feedback([a_vote(task_id) for task_id in ids])

    await asyncio.gather(*(write(other, number) for number, other in enumerate(others)))
    assert (await storage.count_tasks(EVERYTHING))["tasks"] == 8 * 4 * 2
    for other in others:
        await other.close()


async def test_an_old_month_can_be_dropped_and_comes_back_when_it_is_written_to(
    storage: Storage, postgres_url: str
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    day = datetime(2025, 5, 5, tzinfo=UTC)
    (old,) = await storage.add_tasks([a_task(created_at=day)])
    await storage.add_feedback([a_vote(old)])
    await execute(
        postgres_url,
        "DROP TABLE bindu_dspy.task_feedback_2025_05",
        "ALTER TABLE bindu_dspy.tasks DETACH PARTITION bindu_dspy.tasks_2025_05",
        "DROP TABLE bindu_dspy.tasks_2025_05",
    )
    assert await storage.find_task(AGENT, old) is None
    (new,) = await storage.add_tasks([a_task(created_at=day)])
    assert await storage.find_task(AGENT, new) == new


async def test_the_database_refuses_what_the_code_must_not_write(storage: Storage, postgres_url: str) -> None:
    experiment = await open_trial(storage)
    await storage.add_tasks([a_task(experiment_id=experiment.id)])
    for statement in (
        "UPDATE bindu_dspy.serving SET candidate_share = 1.1",
        "UPDATE bindu_dspy.serving SET candidate_share = 'NaN'",
        "UPDATE bindu_dspy.serving SET candidate_share = 0",
        "UPDATE bindu_dspy.serving SET candidate_id = NULL",
        "UPDATE bindu_dspy.serving SET experiment_id = NULL",
        "UPDATE bindu_dspy.serving SET active_id = candidate_id",
        "UPDATE bindu_dspy.serving SET active_id = 99",
        "UPDATE bindu_dspy.prompts SET prompt_text = 'Changed.' WHERE id = 1",
        "UPDATE bindu_dspy.prompts SET status = 'active' WHERE id = 1",
        "UPDATE bindu_dspy.experiments SET state = 'ended'",
        'INSERT INTO bindu_dspy.decisions SELECT agent_id, id + 1, experiment_id, "window", verdict, share_before, '
        "share_after, reason, inputs, evidence, rule, rule_version, code_version, actor, at FROM bindu_dspy.decisions",
        "DELETE FROM bindu_dspy.prompts",
        "UPDATE bindu_dspy.experiments SET closed_window = 0",
        "UPDATE bindu_dspy.experiments SET paused = NULL",
        "UPDATE bindu_dspy.units SET cost = -1",
        "UPDATE bindu_dspy.units SET judged = 'NaN'",
        "UPDATE bindu_dspy.units SET rated_at = now()",
        "UPDATE bindu_dspy.units SET counted_window = 1, kind = 'rating', score = 1",
        "UPDATE bindu_dspy.units SET rated_at = now(), rater_id = '', score = 1",
        "UPDATE bindu_dspy.units SET rated_at = now(), rater_id = '', counted_window = 1",
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await execute(postgres_url, statement)
