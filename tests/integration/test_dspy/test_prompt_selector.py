"""The hot path: one prompt per request, from memory, whatever happens to the database."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from bindu.dspy import prompt_selector
from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.errors import BinduError, StorageNotConfiguredError, StorageUnavailableError
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import refresh_prompts, select_prompt_with_canary, stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt, update_prompt_status, update_prompt_traffic
from bindu.dspy.storage import Storage, use_storage
from bindu.settings import StorageSettings, app_settings

SPECIFIED = {"id", "prompt_text", "status", "traffic", "num_interactions", "average_feedback_score"}
ADDED = {"agent_id", "arm", "epoch", "experiment_id", "unit_id"}


class Watched:
    """A storage that counts its calls and can lose its database."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.calls, self.away = storage, [], False

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.storage, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            if self.away:
                raise StorageUnavailableError("localhost", "connection refused")
            return await verb(*arguments, **named)

        return call


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
    assert watched.calls == ["serving", "prompt_metrics"]
    assert len({prompt["id"] for prompt in prompts if prompt} | {1}) == 1
    for _ in range(1000):
        await select_prompt_with_canary()
    assert watched.calls == ["serving", "prompt_metrics"]


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
    assert "fresh prompts again" in caplog.records[-1].message


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
        patch.setattr(watched.storage, "serving_version", None)
        await asyncio.sleep(0.1)
    assert any(record.exc_info for record in caplog.records)
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
                assert len(asyncio.all_tasks()) <= 2  # ourselves, and a poll if one is on its way
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
        with pytest.raises(BinduError):
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
