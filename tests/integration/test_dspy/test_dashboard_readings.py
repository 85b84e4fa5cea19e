"""What pages show is read once per change, however many people look on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.web.dashboard import readings as module
from bindu.dspy.web.dashboard.readings import Readings
from samples import AGENT, a_rollout, a_run, a_task, a_vote, open_trial

READERS = ("agent_status", "newest_votes", "decision_log", "list_runs")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each was read from the database."""
    counts: Counter[str] = Counter()

    def counted(name: str, read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def reading(*given: Any, **named: Any) -> Any:
            counts[name] += 1
            return await read(*given, **named)

        return reading

    for name in READERS:
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return counts


async def look(known: Readings) -> tuple[Any, ...]:
    """What one page asks for."""
    asked = (known.status, known.votes, known.log, known.runs)
    return tuple(await asyncio.gather(*(read(AGENT) for read in asked)))


async def test_each_part_is_read_once_per_change_for_all_who_look_on(
    storage: PostgresStorage, reads: Counter[str]
) -> None:
    await open_trial(storage)
    known = Readings(None)
    for _ in range(2):
        await asyncio.gather(*(look(known) for _ in range(10)))
    assert reads == dict.fromkeys(READERS, 1)
    task = a_task()
    await storage.add_tasks([task])
    await storage.add_feedback([a_vote(task.id)])
    decision, run = await storage.apply(await a_rollout(storage)), a_run()
    await storage.save_run(run)
    status, votes, log, runs = (await asyncio.gather(*(look(known) for _ in range(10))))[0]
    assert reads == dict.fromkeys(READERS, 2)
    assert (status.agent_id, votes[0].task_id, log[0].id, runs[0].id) == (AGENT, task.id, decision.id, run.id)


async def test_what_no_change_tells_of_is_read_again_after_a_while(
    storage: PostgresStorage, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_trial(storage)
    monkeypatch.setattr(module, "_FRESH_SECONDS", 0.0)
    known = Readings(None)
    for _ in range(2):
        await look(known)
    assert reads == dict.fromkeys(READERS, 2)


async def test_only_so_many_agents_are_kept_and_a_known_one_pushes_nobody_out(
    storage: PostgresStorage, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    known = Readings(None)
    for agent in ("one", "two", "one", "two"):
        await known.votes(agent)
    assert reads["newest_votes"] == 2
    for agent in ("three", "one"):
        await known.votes(agent)
    assert reads["newest_votes"] == 4
