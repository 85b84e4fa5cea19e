"""Tasks and votes: tied to the text that was served, stored whole or not at all."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from bindu.dspy.collector import new_id, record_feedback, record_task
from bindu.dspy.errors import (
    InvalidFeedbackError,
    InvalidHistoryError,
    InvalidPromptError,
    NoActivePromptError,
    UnknownPromptError,
    UnknownTaskError,
)
from bindu.dspy.models import RawTask, TaskQuery
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt, get_active_prompt, insert_prompt

TALK = [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "On its way."}]
MAY = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


async def stored(storage: PostgresStorage, agent_id: str = "default") -> list[RawTask]:
    query = TaskQuery(agent_id=agent_id, limit=100, require_feedback=False)
    return [task async for task in storage.read_tasks(query)]


async def test_a_task_belongs_to_the_prompt_that_was_served(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    candidate = await insert_prompt("You help well.", "candidate", 0.1)
    served = {"id": candidate, "epoch": 1, "experiment_id": 1, "unit_id": "alice", "agent_id": "default"}
    task_id = await record_task(TALK, prompt=served, context_id="talk-1", now=MAY)
    [task] = await stored(storage)
    assert (task.id, task.prompt_id, task.context_id, task.created_at) == (task_id, candidate, "talk-1", MAY)
    assert task.history == TALK
    assert (task_id.version, task_id.int >> 80) == (7, int(MAY.timestamp() * 1000))


@pytest.mark.usefixtures("storage")
async def test_without_a_prompt_the_active_one_answered_and_without_any_it_is_refused() -> None:
    with pytest.raises(NoActivePromptError):
        await record_task(TALK)
    await bootstrap_prompt("You help.")
    await record_task(TALK)
    await record_task(TALK, prompt_id=1)
    active = await get_active_prompt()
    assert active is not None
    assert active["num_interactions"] == 2
    with pytest.raises(UnknownPromptError):
        await record_task(TALK, prompt_id=9)


@pytest.mark.usefixtures("storage")
async def test_a_default_counts_for_the_active_prompt_only_when_it_is_the_same_text() -> None:
    await bootstrap_prompt("You help.")
    await record_task(TALK, prompt={"id": None, "prompt_text": " You help.\n"})
    with pytest.raises(InvalidPromptError, match="cannot count for it"):
        await record_task(TALK, prompt={"id": None, "prompt_text": "You sell."})


@pytest.mark.usefixtures("storage")
async def test_contradictions_about_the_prompt_are_refused() -> None:
    await bootstrap_prompt("You help.")
    with pytest.raises(InvalidPromptError, match="Give one of them"):
        await record_task(TALK, prompt={"id": 1}, prompt_id=2)
    with pytest.raises(InvalidPromptError, match="not for 'sales'"):
        await record_task(TALK, prompt={"id": 1, "agent_id": "default"}, agent_id="sales")


@pytest.mark.parametrize(
    "history",
    [
        [],
        "hello",
        {"role": "user", "content": "hello"},
        None,
        ["hello"],
        [{"content": "hello"}],
        [{"role": "", "content": "hello"}],
        [{"role": "user"}],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": "hello", "extra": object()}],
    ],
)
async def test_a_history_that_is_none_is_refused_and_nothing_is_stored(storage: PostgresStorage, history: Any) -> None:
    await bootstrap_prompt("You help.")
    with pytest.raises(InvalidHistoryError):
        await record_task(history)
    assert await stored(storage) == []


@pytest.mark.parametrize("wrong", [{"state": "done"}, {"latency_ms": -1.0}, {"latency_ms": float("nan")}])
async def test_a_state_or_latency_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidHistoryError):
        await record_task(TALK, **wrong)


@pytest.mark.usefixtures("storage")
async def test_messages_in_parts_and_tool_calls_are_kept_as_they_came() -> None:
    await bootstrap_prompt("You help.")
    await record_task(
        (
            {"role": "user", "parts": [{"kind": "text", "text": "hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "user", "content": "a NUL \x00 and a lone \ud800"},
        )
    )


SOMEBODYS = UUID("6143cc4a-7838-420a-bd02-69b41bede1b2")  # of version 4


@pytest.mark.parametrize("theirs", ["msg-17", str(SOMEBODYS), SOMEBODYS, "018bcfe5", str(UUID(int=(1 << 128) - 1))])
async def test_a_callers_id_is_found_again_and_recorded_once(storage: PostgresStorage, theirs: Any) -> None:
    await bootstrap_prompt("You help.")
    first = await record_task(TALK, task_id=theirs)
    assert await record_task(TALK, task_id=theirs) == first
    assert first.version == 7
    assert str(first) != str(theirs)
    await record_feedback(theirs, {"thumbs_up": True})
    [task] = await stored(storage)
    assert (task.id, len(task.votes)) == (first, 1)


async def test_a_version_7_id_of_the_caller_is_ours_too(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    mine = new_id()
    assert await record_task(TALK, task_id=mine) == mine
    assert await record_task(TALK, task_id=str(mine)) == mine
    assert len(await stored(storage)) == 1


@pytest.mark.parametrize("year", [1999, 2240])
@pytest.mark.usefixtures("storage")
async def test_a_version_7_id_of_an_absurd_time_is_only_the_callers(year: int) -> None:
    await bootstrap_prompt("You help.")
    absurd = new_id(datetime(year, 1, 1, tzinfo=UTC))
    assert await record_task(TALK, task_id=absurd) != absurd


async def test_a_rater_has_one_vote_and_may_change_it(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    task_id = await record_task(TALK)
    await record_feedback(task_id, {"rating": 1, "comment": " slow "}, rater_id="alice")
    await record_feedback(task_id, {"rating": 5, "correction": "It arrives today."}, rater_id="alice")
    await record_feedback(str(task_id), {"thumbs_up": False}, rater_id="bob")
    [task] = await stored(storage)
    votes = {vote.rater_id: (vote.kind, vote.score, vote.comment, vote.correction) for vote in task.votes}
    assert votes == {
        "alice": ("rating", 1.0, None, "It arrives today."),
        "bob": ("thumbs_up", 0.0, None, None),
    }


@pytest.mark.parametrize(
    "vote",
    [{"rating": 99}, {}, {"score": "good"}, {"rating": 4, "comment": 7}, {"rating": 4, "correction": ["x"]}],
)
async def test_a_vote_of_no_known_shape_is_refused_and_nothing_is_stored(
    storage: PostgresStorage, vote: dict[str, Any]
) -> None:
    await bootstrap_prompt("You help.")
    task_id = await record_task(TALK)
    with pytest.raises(InvalidFeedbackError):
        await record_feedback(task_id, vote)
    [task] = await stored(storage)
    assert task.votes == ()


@pytest.mark.usefixtures("storage")
async def test_a_vote_on_a_task_nobody_recorded_is_refused() -> None:
    await bootstrap_prompt("You help.")
    for unknown in (new_id(), "msg-17"):
        with pytest.raises(UnknownTaskError):
            await record_feedback(unknown, {"rating": 4})
    task_id = await record_task(TALK)
    with pytest.raises(UnknownTaskError):
        await record_feedback(task_id, {"rating": 4}, agent_id="sales")


async def test_the_same_click_sent_eight_times_is_one_vote(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    task_id = await record_task(TALK)
    ids = await asyncio.gather(*(record_feedback(task_id, {"rating": 4}, idempotency_key="click-1") for _ in range(8)))
    assert len(set(ids)) == 1
    [task] = await stored(storage)
    assert len(task.votes) == 1


def test_ids_made_at_one_time_are_unique_and_sort_by_time() -> None:
    ids = [new_id(MAY) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert max(ids) < new_id(MAY + timedelta(milliseconds=1))
