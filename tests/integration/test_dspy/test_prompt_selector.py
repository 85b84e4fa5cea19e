"""The hot path: one prompt per request, from memory, whatever happens to the database."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from bindu.dspy import prompt_selector
from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.errors import InvalidArgumentError, StorageNotConfiguredError, StorageUnavailableError
from bindu.dspy.models import Trial
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import refresh_prompts, select_prompt_with_canary, stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt, update_prompt_status, update_prompt_traffic
from bindu.dspy.storage import Storage, use_storage
from bindu.settings import StorageSettings, app_settings

TRIAL = Trial(agent_id="default", text="You help well.", expected_version=1, origin="manual", parent_id=1, share=0.4)
SPECIFIED = {"id", "prompt_text", "status", "traffic", "num_interactions", "average_feedback_score"}
ADDED = {"agent_id", "arm", "epoch", "experiment_id", "unit_id"}


class Watched:
    """A storage that counts its calls and can lose its database."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.calls, self.away = storage, [], False
        self.held: set[tuple[str, ...]] = set()
        self.released = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.storage, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            if any((name, *arguments)[: len(held)] == held for held in self.held):
                await self.released.wait()
            if self.away:
                raise StorageUnavailableError("localhost", "connection refused")
            return await verb(*arguments, **named)

        return call

    def hold(self, *verb_and_agent: str) -> None:
        """Let a verb, or a verb for one agent, not answer until ``release``."""
        self.held.add(verb_and_agent)
        self.released.clear()

    def release(self) -> None:
        self.held.clear()
        self.released.set()


@pytest.fixture
async def watched(storage: PostgresStorage) -> AsyncIterator[Watched]:
    wrapped = Watched(storage)
    with use_storage(wrapped):
        yield wrapped
        await stop_prompt_refresh()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_selector, "POLL_SECONDS", 0.02)


async def eventually(share: float) -> dict[str, Any]:
    """Wait for a stored prompt served at that share."""
    for _ in range(200):
        prompt = await select_prompt_with_canary(default="You are kind.")
        if prompt is not None and prompt["id"] and share in (prompt["traffic"], round(1 - prompt["traffic"], 9)):
            return prompt
        await asyncio.sleep(0.02)
    raise AssertionError(f"share {share} never arrived")


@pytest.mark.usefixtures("watched")
async def test_the_answer_has_the_specified_keys_and_where_it_came_from() -> None:
    await bootstrap_prompt("You help.")
    prompt = await select_prompt_with_canary(unit_id="alice")
    assert prompt is not None
    assert set(prompt) == SPECIFIED | ADDED
    assert (prompt["id"], prompt["prompt_text"], prompt["status"], prompt["traffic"]) == (1, "You help.", "active", 1.0)
    assert (prompt["agent_id"], prompt["arm"], prompt["unit_id"]) == ("default", "active", "alice")


@pytest.mark.usefixtures("watched")
async def test_an_agent_without_a_prompt_gets_none_or_the_default() -> None:
    assert await select_prompt_with_canary() is None
    prompt = await select_prompt_with_canary(default="You are kind.")
    assert prompt is not None
    assert (prompt["id"], prompt["prompt_text"], prompt["status"], prompt["traffic"]) == (
        None,
        "You are kind.",
        "active",
        1.0,
    )
    assert set(prompt) == SPECIFIED | ADDED


async def test_of_eight_first_calls_one_loads_and_no_later_call_touches_the_database(watched: Watched) -> None:
    await bootstrap_prompt("You help.")
    watched.calls.clear()
    prompts = await asyncio.gather(*(select_prompt_with_canary() for _ in range(8)))
    assert watched.calls == ["serving"]
    assert [prompt["id"] if prompt else None for prompt in prompts] == [1] * 8
    for _ in range(1000):
        await select_prompt_with_canary()
    assert watched.calls == ["serving"]


@pytest.mark.usefixtures("watched")
async def test_a_unit_keeps_its_arm_while_the_share_rises_and_traffic_follows_the_share() -> None:
    await bootstrap_prompt("You help.")
    candidate = await insert_prompt("You help well.", "candidate", 0.1)
    units = [f"user-{number}" for number in range(2000)]
    before: set[str] = set()
    for share in (0.1, 0.3, 0.8):
        await update_prompt_traffic(candidate, share)
        await refresh_prompts()
        prompts = [await select_prompt_with_canary(unit_id=unit) for unit in units]
        seen = {prompt["unit_id"] for prompt in prompts if prompt and prompt["id"] == candidate}
        assert before <= seen
        assert len(seen) / len(units) == pytest.approx(share, abs=0.04)
        before = seen


@pytest.mark.usefixtures("watched")
async def test_calls_without_a_unit_are_drawn_by_the_shares() -> None:
    await bootstrap_prompt("You help.")
    candidate = await insert_prompt("You help well.", "candidate", 0.3)
    prompts = [await select_prompt_with_canary() for _ in range(4000)]
    drawn = sum(prompt["id"] == candidate for prompt in prompts if prompt)
    assert drawn / 4000 == pytest.approx(0.3, abs=0.04)  # five sigma


@pytest.mark.usefixtures("watched", "quick")
async def test_a_rollout_arrives_by_itself() -> None:
    await bootstrap_prompt("You help.")
    assert (await eventually(1.0))["id"] == 1
    candidate = await insert_prompt("You help well.", "candidate", 0.4)
    assert (await eventually(0.4))["experiment_id"] == 1
    await update_prompt_status(candidate, "active")
    assert (await eventually(1.0))["id"] == candidate


@pytest.mark.usefixtures("watched")
async def test_a_rollout_arrives_within_a_second_by_default() -> None:
    await bootstrap_prompt("You help.")
    await select_prompt_with_canary()
    await insert_prompt("You help well.", "candidate", 0.4)
    async with asyncio.timeout(1.5):
        await eventually(0.4)


async def test_the_last_good_prompt_is_served_while_the_database_is_away(
    watched: Watched, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bindu.dspy.prompt_selector")
    await bootstrap_prompt("You help.")
    await select_prompt_with_canary()
    watched.away = True
    await asyncio.sleep(0.15)
    prompt = await select_prompt_with_canary()
    assert prompt is not None
    assert prompt["id"] == 1
    assert [record.message for record in caplog.records if "last good snapshot" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1  # said once, not at every poll
    watched.away = False
    await insert_prompt("You help well.", "candidate", 0.4)
    await eventually(0.4)
    assert "fresh again" in caplog.records[-1].message


async def test_a_cold_start_without_a_database_serves_the_default_and_recovers(watched: Watched, quick: None) -> None:
    await bootstrap_prompt("You help.")
    watched.away = True
    with pytest.raises(ConnectionError):
        await select_prompt_with_canary()
    prompt = await select_prompt_with_canary(default="You are kind.")
    assert prompt is not None
    assert (prompt["id"], prompt["prompt_text"]) == (None, "You are kind.")
    calls = len(watched.calls)
    for _ in range(100):
        await select_prompt_with_canary(default="You are kind.")
    assert len(watched.calls) == calls  # an absent database is not asked per request either
    watched.away = False
    await eventually(1.0)


async def test_an_unexpected_failure_does_not_end_the_refreshing(
    watched: Watched, quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await bootstrap_prompt("You help.")
    await select_prompt_with_canary()
    with monkeypatch.context() as patch:
        patch.setattr(watched.storage, "serving_versions", None)
        await asyncio.sleep(0.15)
    assert [bool(record.exc_info) for record in caplog.records] == [True]  # a lasting one is said once
    await insert_prompt("You help well.", "candidate", 0.4)
    await eventually(0.4)


@pytest.mark.usefixtures("watched", "quick")
async def test_metrics_are_counted_again_before_they_are_a_minute_old(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prompt_selector.COUNT_SECONDS + prompt_selector.POLL_SECONDS < 60
    monkeypatch.setattr(prompt_selector, "COUNT_SECONDS", 0.1)
    await bootstrap_prompt("You help.")
    first = await select_prompt_with_canary()
    task = await record_task([{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}])
    await record_feedback(task, {"rating": 4})
    await asyncio.sleep(0.3)
    later = await select_prompt_with_canary()
    assert first is not None
    assert later is not None
    assert (first["num_interactions"], first["average_feedback_score"]) == (0, None)
    assert (later["num_interactions"], later["average_feedback_score"]) == (1, 0.8)


async def test_a_rollout_does_not_wait_for_its_counts_and_keeps_the_old_ones(watched: Watched, quick: None) -> None:
    await bootstrap_prompt("You help.")
    await record_task([{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}])
    watched.hold("prompt_metrics")
    first = await asyncio.wait_for(select_prompt_with_canary(), 5)
    assert first is not None
    assert first["num_interactions"] == 0
    watched.release()
    while (await eventually(1.0))["num_interactions"] == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    watched.hold("prompt_metrics")
    await watched.storage.begin_trial(TRIAL)
    await eventually(0.4)
    seen = {}
    while len(seen) < 2:
        prompt = await select_prompt_with_canary()
        assert prompt is not None
        seen[prompt["id"]] = prompt["num_interactions"]
    assert seen == {1: 1, 2: 0}
    watched.release()


async def test_one_slow_agent_does_not_hold_up_the_others(watched: Watched, quick: None) -> None:
    for agent in ("slow", "default"):
        await bootstrap_prompt("You help.", agent_id=agent)
        await select_prompt_with_canary(agent_id=agent)
    watched.hold("prompt_metrics", "slow")
    watched.hold("serving", "slow")
    for agent in ("slow", "default"):
        await watched.storage.begin_trial(replace(TRIAL, agent_id=agent))
        await asyncio.sleep(0.1)  # polls begin to load the slow one before the other has moved
    assert (await eventually(0.4))["agent_id"] == "default"
    watched.release()


async def test_all_agents_are_asked_after_in_one_statement(watched: Watched, quick: None) -> None:
    for number in range(20):
        await select_prompt_with_canary(agent_id=f"agent-{number}", default="You are kind.")
    watched.calls.clear()
    await asyncio.sleep(0.15)
    assert 2 <= watched.calls.count("serving_versions") <= 10
    assert set(watched.calls) == {"serving_versions", "listen"}


async def test_agents_that_nobody_asks_for_are_forgotten(
    watched: Watched, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_selector, "IDLE_SECONDS", 0.2)
    await bootstrap_prompt("You help.")
    for number in range(50):
        await select_prompt_with_canary(agent_id=f"guess-{number}")
    for _ in range(25):
        assert (await eventually(1.0))["id"] == 1
        await asyncio.sleep(0.02)
    watched.calls.clear()
    await select_prompt_with_canary()
    await select_prompt_with_canary(agent_id="guess-7")
    assert watched.calls.count("serving") == 1  # the busy one was kept, the other is new again
    await asyncio.sleep(0.5)
    watched.calls.clear()
    await asyncio.sleep(0.1)
    assert watched.calls == []  # nobody is left to poll for
    assert (await eventually(1.0))["id"] == 1


@pytest.mark.usefixtures("quick")
async def test_a_name_that_postgresql_cannot_take_is_refused_and_does_not_stop_the_others(watched: Watched) -> None:
    await bootstrap_prompt("You help.")
    watched.away = True
    await select_prompt_with_canary(default="You are kind.")
    with pytest.raises(InvalidArgumentError, match="agent_id"):
        await select_prompt_with_canary(agent_id="a\x00b", default="You are kind.")
    watched.away = False
    assert (await eventually(1.0))["id"] == 1


@pytest.mark.usefixtures("quick")
async def test_nobody_is_told_of_a_snapshot_that_never_was(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.away = True
    await select_prompt_with_canary(default="You are kind.")
    while not caplog.records:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    [record] = caplog.records
    assert "nothing was loaded yet" in record.message
    assert "last good snapshot" not in record.message


@pytest.mark.usefixtures("watched")
async def test_a_unit_may_be_a_number_or_a_uuid_and_nothing_else() -> None:
    await bootstrap_prompt("You help.")
    unit = UUID(int=7)
    assert [(await select_prompt_with_canary(unit_id=one) or {})["unit_id"] for one in (5, 0, unit, "")] == [
        "5",
        "0",
        str(unit),
        None,
    ]
    with pytest.raises(InvalidArgumentError, match="unit_id is a text"):
        await select_prompt_with_canary(unit_id=5.5)  # type: ignore[arg-type]


async def test_a_cancelled_first_call_does_not_take_the_others_with_it(watched: Watched) -> None:
    await bootstrap_prompt("You help.")
    first, second = (asyncio.create_task(select_prompt_with_canary()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    prompt = await second
    assert prompt is not None
    assert prompt["id"] == 1
    assert first.cancelled()


@pytest.mark.usefixtures("watched")
async def test_refreshing_an_agent_that_nobody_asked_for_does_nothing(watched: Watched) -> None:
    await refresh_prompts()
    assert watched.calls == []


async def test_a_database_that_was_never_named_is_said_even_with_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.storage, "postgres_url", None)
    with pytest.raises(StorageNotConfiguredError):
        await select_prompt_with_canary(default="You are kind.")


def test_each_event_loop_refreshes_for_itself_and_leaves_nothing_behind(postgres_url: str, quick: None) -> None:
    async def serve(away: bool) -> int:
        storage = await PostgresStorage.connect(postgres_url, StorageSettings())
        wrapped = Watched(storage)
        try:
            with use_storage(wrapped):
                await bootstrap_prompt("You help.")
                wrapped.away = away
                prompt = await select_prompt_with_canary()
                assert prompt is not None
                assert prompt["id"] == 1
                wrapped.calls.clear()
                await asyncio.sleep(0.1)
                assert len(asyncio.all_tasks()) <= 3  # ourselves, and a poll and a count if they are on their way
                return len(wrapped.calls)
        finally:
            await storage.close()

    assert asyncio.run(serve(away=False)) >= 2
    assert asyncio.run(serve(away=True)) >= 2  # the new loop polls; the last good prompt crossed over
    asyncio.run(stop_prompt_refresh())


async def test_after_stopping_nothing_polls(watched: Watched, quick: None) -> None:
    await bootstrap_prompt("You help.")
    await select_prompt_with_canary()
    await stop_prompt_refresh()
    watched.calls.clear()
    await asyncio.sleep(0.1)
    assert watched.calls == []
    assert len(asyncio.all_tasks()) == 1


async def test_a_real_outage_is_survived(
    storage: PostgresStorage, postgres_url: str, server_url: str, quick: None
) -> None:
    await bootstrap_prompt("You help.")
    await select_prompt_with_canary()
    database = urlsplit(postgres_url).path.removeprefix("/")
    outside = await asyncpg.connect(server_url)
    try:
        await outside.execute(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false")
        await outside.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database)
        with pytest.raises(StorageUnavailableError):
            await storage.serving("default")
        await asyncio.sleep(0.1)
        prompt = await select_prompt_with_canary()
        assert prompt is not None
        assert prompt["prompt_text"] == "You help."
    finally:
        await outside.execute(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true")
        await outside.close()
    await insert_prompt("You help well.", "candidate", 0.4)
    await eventually(0.4)
    await stop_prompt_refresh()
