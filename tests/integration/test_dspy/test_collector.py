"""Tasks and votes: tied to the text that was served, stored whole or not at all."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from bindu.dspy.collector import new_id, record_feedback, record_task
from bindu.dspy.errors import (
    InvalidArgumentError,
    InvalidFeedbackError,
    InvalidHistoryError,
    InvalidPromptError,
    NoActivePromptError,
    UnknownPromptError,
    UnknownTaskError,
)
from bindu.dspy.models import RawTask, TaskQuery
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt, get_active_prompt, insert_prompt, update_prompt_status

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


async def test_a_default_that_is_an_earlier_prompt_counts_for_that_one(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    candidate = await insert_prompt("You help well.", "candidate", 0.5)
    await update_prompt_status(candidate, "active")
    await record_task(TALK, prompt={"id": None, "prompt_text": "You help."})
    assert [task.prompt_id for task in await stored(storage)] == [1]


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


@pytest.mark.parametrize("given", [5, 0, UUID(int=5)])
async def test_ids_may_be_numbers_or_uuids(storage: PostgresStorage, given: int | UUID) -> None:
    await bootstrap_prompt("You help.")
    task_id = await record_task(TALK, task_id=given, unit_id=given, context_id=given)
    assert await record_task(TALK, task_id=str(given)) == task_id
    votes = [await record_feedback(given, {"rating": 4}, rater_id=given, idempotency_key=given) for _ in range(2)]
    assert votes[0] == votes[1]
    [task] = await stored(storage)
    assert (task.unit_id, task.context_id, task.votes[0].rater_id) == (str(given),) * 3


@pytest.mark.parametrize(
    "odd", [5.5, True, b"five", ["five"], pytest.param(10**5000, id="huge"), "a\x00b", "half \ud800"]
)
async def test_other_ids_are_refused_in_a_sentence_and_nothing_is_stored(storage: PostgresStorage, odd: Any) -> None:
    await bootstrap_prompt("You help.")
    for name in ("task_id", "unit_id", "context_id", "agent_id"):
        with pytest.raises(InvalidArgumentError, match=f"^{name} "):
            await record_task(TALK, **{name: odd})
    assert await stored(storage) == []
    task_id = await record_task(TALK)
    for name in ("rater_id", "idempotency_key", "agent_id"):
        with pytest.raises(InvalidArgumentError, match=f"^{name} "):
            await record_feedback(task_id, {"rating": 4}, **{name: odd})
    with pytest.raises(InvalidArgumentError, match=r"^task_id "):
        await record_feedback(odd, {"rating": 4})
    [task] = await stored(storage)
    assert task.votes == ()


@pytest.mark.parametrize(
    "prompt",
    [{"experiment_id": 2**31}, {"experiment_id": "one"}, {"epoch": -1}, {"id": "first"}, {"id": []}, "You help."],
)
async def test_a_prompt_that_was_never_selected_is_refused(storage: PostgresStorage, prompt: Any) -> None:
    await bootstrap_prompt("You help.")
    given = {"id": 1, "prompt_text": "You help."} | prompt if isinstance(prompt, dict) else prompt
    with pytest.raises(InvalidPromptError):
        await record_task(TALK, prompt=given)
    assert await stored(storage) == []


@pytest.mark.parametrize("extra", [{10**5000: 1}, {"note": 10**5000}, {"note": object()}])
async def test_feedback_that_json_cannot_hold_is_refused(storage: PostgresStorage, extra: Any) -> None:
    await bootstrap_prompt("You help.")
    task_id = await record_task(TALK)
    with pytest.raises(InvalidFeedbackError, match="JSON cannot"):
        await record_feedback(task_id, {"rating": 4} | extra)
    with pytest.raises(InvalidHistoryError, match="JSON cannot"):
        await record_task([TALK[0] | extra, TALK[1]])
    with pytest.raises(InvalidHistoryError, match="JSON cannot"):
        await record_task(TALK, usage=extra)
    [task] = await stored(storage)
    assert task.votes == ()


@pytest.mark.usefixtures("storage")
async def test_a_time_before_1970_is_refused() -> None:
    await bootstrap_prompt("You help.")
    with pytest.raises(InvalidArgumentError, match="outside the years"):
        await record_task(TALK, now=datetime(1969, 12, 31, tzinfo=UTC))


async def test_a_vote_that_comes_in_late_does_not_replace_a_newer_one(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    task_id = await record_task(TALK, now=MAY)
    await record_feedback(task_id, {"rating": 5}, rater_id="ann", now=MAY + timedelta(hours=2))
    await record_feedback(task_id, {"rating": 1}, rater_id="ann", now=MAY + timedelta(hours=1))
    [task] = await stored(storage)
    assert [vote.score for vote in task.votes] == [1.0]


def test_ids_made_at_one_time_are_unique_and_sort_by_time() -> None:
    ids = [new_id(MAY) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert max(ids) < new_id(MAY + timedelta(milliseconds=1))
