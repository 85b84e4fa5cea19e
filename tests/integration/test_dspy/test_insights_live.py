"""What people look at while it happens: newest votes, one conversation, and the pulse that tells of any change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from bindu.dspy.errors import UnknownPromptError, UnknownTaskError
from bindu.dspy.insights import decision_log, newest_votes, prompt_diff, pulse, recorded_task
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.reports import Pulse
from bindu.dspy.storage import Storage
from conftest import execute
from plans import plan_of, rows_read
from samples import AGENT, TALK, a_rollout, a_run, a_task, a_vote, open_trial

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def messages_read(plan: dict[str, Any]) -> float:
    own = plan["Actual Loops"] * (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0))
    below = sum(messages_read(inner) for inner in plan.get("Plans", []))
    return below + (own if plan["Node Type"] == "Function Scan" else 0)


async def test_a_vote_comes_with_the_question_that_was_answered_and_how_it_was_meant(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    talk = [
        *TALK,
        {"role": "user", "content": "And <b>when</b>?" + "x" * 1_000},
        {"role": "assistant", "content": "Soon."},
    ]
    parts = [{"role": "user", "parts": [{"kind": "text", "text": "In parts?"}]}, TALK[1]]
    tasks = [a_task(history=talk), a_task(history=parts), a_task(history=[TALK[1]])]
    await storage.add_tasks(tasks)
    said = {"thumbs_up": False, "correction": "Say when."}
    await storage.add_feedback([a_vote(tasks[0].id, 0.0, comment="Too vague.", data=said, rater_id="ann")])
    await storage.add_feedback([a_vote(task.id) for task in tasks[1:]])
    newest = await newest_votes(AGENT, longest=20)
    assert [vote.question for vote in newest] == [None, "In parts?", "And <b>when</b>?xxxx"]
    last = newest[-1]
    assert (last.comment, last.correction, last.rater_id, last.counts) == ("Too vague.", "Say when.", "ann", True)


async def test_votes_are_read_page_by_page_newest_first_whatever_month_their_task_is_of(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    tasks = [a_task(created_at=NOON - timedelta(days=31 * month)) for month in range(4)]
    await storage.add_tasks(tasks)
    votes = [a_vote(task.id, rater_id="ann") for task in reversed(tasks)]
    for vote in votes:
        await storage.add_feedback([vote])
    await storage.add_feedback([a_vote(tasks[0].id, 0.0, rater_id="ann")])
    found = await newest_votes(AGENT, limit=3)
    rest = await newest_votes(AGENT, before=found[-1].id)
    assert [vote.id for vote in (*found, *rest)][1:] == [vote.id for vote in reversed(votes)]
    assert [vote.counts for vote in (*found, *rest)] == [True, False, True, True, True]


async def test_the_newest_votes_are_found_without_reading_the_others(storage: Storage, postgres_url: str) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    tasks = [a_task() for _ in range(3_000)]
    await storage.add_tasks(tasks)
    await storage.add_feedback([a_vote(task.id) for task in tasks])
    await execute(postgres_url, "ANALYZE")
    values = {"agent_id": AGENT, "before": None, "limit": 10, "longest": 100}
    assert rows_read(await plan_of(postgres_url, "latest_votes", values)) <= 100
    assert rows_read(await plan_of(postgres_url, "pulse", {"agent_id": AGENT})) <= 10


async def test_a_long_conversation_is_unpacked_once_however_many_votes_it_has(
    storage: Storage, postgres_url: str
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    said = [*TALK * 500, {"role": "user", "content": "The last?"}, *[TALK[1]] * 15]
    tasks = [a_task(history=said), a_task(history=[*said, TALK[1]])]
    await storage.add_tasks(tasks)
    await storage.add_feedback([a_vote(task.id, rater_id=str(rater)) for rater in range(30) for task in tasks])
    found = await newest_votes(AGENT, limit=60)
    assert [vote.question for vote in found] == [None, "The last?"] * 30  # the last 16 messages are looked through
    values = {"agent_id": AGENT, "before": None, "limit": 60, "longest": 100}
    assert messages_read(await plan_of(postgres_url, "latest_votes", values)) <= 3 * 16  # it tells rounded means


async def _nothing(_: PostgresStorage) -> None:
    pass


async def _vote(storage: PostgresStorage) -> None:
    task = a_task()
    await storage.add_tasks([task])
    await storage.add_feedback([a_vote(task.id)])


async def _decide(storage: PostgresStorage) -> None:
    await storage.apply(await a_rollout(storage))


async def _train(storage: PostgresStorage) -> None:
    await storage.save_run(a_run(), now=NOON)


@pytest.mark.parametrize(
    ("deed", "changed"),
    [
        (_nothing, set[str]()),
        (_vote, {"vote_id"}),
        (_decide, {"version", "decision_id"}),
        (_train, {"run_seen_at"}),
    ],
)
async def test_the_pulse_changes_with_what_is_shown(
    storage: PostgresStorage, deed: Callable[[PostgresStorage], Awaitable[Any]], changed: set[str]
) -> None:
    await open_trial(storage)
    before = await pulse(AGENT)
    await deed(storage)
    after = await pulse(AGENT)
    assert before is not None
    assert after is not None
    names = Pulse.__dataclass_fields__
    assert {name for name in names if getattr(before, name) != getattr(after, name)} == changed


async def test_an_agent_without_a_prompt_has_no_pulse_and_a_task_is_told_only_to_its_agent(storage: Storage) -> None:
    assert await pulse(AGENT) is None
    await storage.bootstrap(AGENT, "Be kind.")
    task = a_task(unit_id="a unit", created_at=NOON)
    await storage.add_tasks([task])
    found = await recorded_task(task.id, agent_id=AGENT)
    assert (found.history, found.unit_id, found.created_at, found.state) == (TALK, "a unit", NOON, "completed")
    for agent, number in ((AGENT, uuid7()), ("another", task.id)):
        with pytest.raises(UnknownTaskError):
            await recorded_task(number, agent_id=agent)


async def test_the_decision_log_is_read_page_by_page(storage: Storage) -> None:
    await open_trial(storage)
    for _ in range(4):
        await storage.apply(await a_rollout(storage))
    newest = await decision_log(AGENT, limit=2)
    older = await decision_log(AGENT, before=newest[-1].id)
    assert [one.id for one in (*newest, *older)] == [5, 4, 3, 2, 1]
    assert await decision_log(AGENT, experiment_id=2) == []


async def test_two_versions_are_compared_word_by_word(storage: Storage) -> None:
    await open_trial(storage, text="Be very kind.")
    found = await prompt_diff(1, 2, agent_id=AGENT)
    assert [(piece.change, piece.text) for piece in found.pieces] == [
        ("same", "Be "),
        ("added", "very "),
        ("same", "kind."),
    ]
    with pytest.raises(UnknownPromptError):
        await prompt_diff(1, 9, agent_id=AGENT)
