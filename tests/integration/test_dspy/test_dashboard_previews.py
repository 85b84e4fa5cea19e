"""However many people look at what training would learn from, it is built once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.errors import UnknownStrategyError
from bindu.dspy.insights import DatasetPreview, dataset_preview
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.web.dashboard import previews
from bindu.dspy.web.dashboard.previews import Previews
from samples import AGENT


@dataclass
class Watched:
    """Builds for real, and tells how often and how many at once; ``now`` is what the clock says."""

    now: float = 1_000.0
    built: list[tuple[str | None, str]] = field(default_factory=list)
    busy: dict[str | None, int] = field(default_factory=dict)
    most_at_once: int = 0

    async def build(self, agent_id: str | None = None, **asked: Any) -> DatasetPreview:
        self.built.append((agent_id, asked["strategy"]))
        self.busy[agent_id] = self.busy.get(agent_id, 0) + 1
        self.most_at_once = max(self.most_at_once, self.busy[agent_id])
        try:
            return await dataset_preview(agent_id, **asked)
        finally:
            self.busy[agent_id] -= 1


@pytest.fixture
async def watched(storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """An agent with seven good answers."""
    prompt_id = (await bootstrap_prompt("You help."))["id"]
    for number in range(7):
        talk = [{"role": "user", "content": f"Where is parcel {number}?"}, {"role": "assistant", "content": "Here."}]
        await record_feedback(await record_task(talk, prompt_id=prompt_id), {"rating": 5})
    found = Watched()
    monkeypatch.setattr(previews, "dataset_preview", found.build)
    monkeypatch.setattr(previews, "monotonic", lambda: found.now)
    return found


async def test_many_viewers_at_once_build_one_preview(watched: Watched) -> None:
    ours = Previews()
    found = await asyncio.gather(*(ours.read(AGENT) for _ in range(50)))
    assert watched.built == [(AGENT, "last_turn")]
    assert {one.funnel.golden for one in found} == {7}


async def test_of_an_agent_one_preview_is_built_at_a_time(watched: Watched) -> None:
    ours = Previews()
    asked = [f"last_n:{n}" for n in range(1, 6)]
    await asyncio.gather(*(ours.read(AGENT, strategy=strategy) for strategy in asked))
    assert sorted(watched.built) == [(AGENT, strategy) for strategy in asked]
    assert watched.most_at_once == 1


async def test_what_is_kept_does_not_wait_for_what_is_built(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, go_on, begun = Previews(), asyncio.Event(), asyncio.Event()
    await ours.read(AGENT)

    async def slow(agent_id: str | None = None, **asked: Any) -> DatasetPreview:
        begun.set()
        await go_on.wait()
        return await dataset_preview(agent_id, **asked)

    monkeypatch.setattr(previews, "dataset_preview", slow)
    building = asyncio.create_task(ours.read(AGENT, strategy="full_history"))
    await begun.wait()
    assert (await asyncio.wait_for(ours.read(AGENT), 5)).strategy == "last_turn"
    assert not building.done()
    go_on.set()
    assert (await building).strategy == "full_history"


async def test_after_half_a_minute_it_is_built_again(watched: Watched) -> None:
    ours = Previews()
    await ours.read(AGENT)
    watched.now += 29
    await ours.read(AGENT)
    assert len(watched.built) == 1
    watched.now += 2
    await ours.read(AGENT)
    assert len(watched.built) == 2


async def test_as_many_samples_as_are_asked_for(watched: Watched) -> None:
    ours = Previews()
    whole, none = await ours.read(AGENT), await ours.read(AGENT, samples=0)
    assert (len(whole.golden), whole.golden) == (5, (await dataset_preview(AGENT)).golden)
    assert (none.golden, none.failures, none.funnel) == ((), (), whole.funnel)
    assert len(watched.built) == 1


async def test_an_error_is_told_every_time_and_holds_up_nobody(watched: Watched) -> None:
    ours = Previews()
    for _ in range(2):
        with pytest.raises(UnknownStrategyError):
            await ours.read(AGENT, strategy="nope")
    assert len(watched.built) == 2
    assert (await ours.read(AGENT)).funnel.golden == 7


async def test_who_gives_up_waiting_holds_up_nobody(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, begun = Previews(), asyncio.Event()

    async def endless(*_: Any, **__: Any) -> DatasetPreview:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(previews, "dataset_preview", endless)
        impatient = asyncio.create_task(ours.read(AGENT))
        await begun.wait()
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
    assert (await asyncio.wait_for(ours.read(AGENT), 5)).funnel.golden == 7


async def test_not_more_than_some_are_kept(watched: Watched) -> None:
    ours = Previews()
    for n in range(1, 34):
        await ours.read(AGENT, strategy=f"last_n:{n}")
    assert len(watched.built) == 33
    await ours.read(AGENT, strategy="last_n:33")
    assert len(watched.built) == 33
    await ours.read(AGENT, strategy="last_n:1")  # the oldest made room
    assert len(watched.built) == 34
