"""The instruments of fault injection do what they say, else every test that trusts them is void."""

from __future__ import annotations

import pytest

from bindu.dspy.models import TaskQuery
from bindu.dspy.storage import Storage
from faults import FaultyStorage, Killed
from samples import AGENT, a_task


async def deed(storage: Storage) -> int:
    await storage.bootstrap(AGENT, "Be kind.")
    await storage.add_tasks([a_task()])
    return len([task async for task in storage.read_tasks(TaskQuery(agent_id=AGENT, limit=9, require_feedback=False))])


async def test_an_undisturbed_storage_counts_every_verb(storage: Storage) -> None:
    faulty = FaultyStorage(storage)
    assert await deed(faulty) == 1
    assert faulty.calls == ["bootstrap", "add_tasks", "read_tasks"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("fail_at", [1, 2, 3])
async def test_the_nth_verb_kills_before_or_after_it_was_done(storage: Storage, fail_at: int, after: bool) -> None:
    faulty = FaultyStorage(storage, fail_at=fail_at, after=after)
    with pytest.raises(Killed):
        await deed(faulty)
    done = (
        len(await storage.prompts(AGENT))
        + (await storage.count_tasks(TaskQuery(agent_id=AGENT, limit=9, require_feedback=False)))["tasks"]
    )
    assert done == min(2, fail_at - 1 + after)
    with pytest.raises(Killed):
        await faulty.serving(AGENT)


async def test_nothing_ordinary_catches_a_kill() -> None:
    assert not issubclass(Killed, Exception)
