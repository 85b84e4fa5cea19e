"""Rollouts announce themselves; polls bring what nobody could announce."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from time import monotonic
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from bindu.dspy import prompt_selector
from bindu.dspy.errors import BinduError, StaleRolloutError
from bindu.dspy.postgres import notices
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import select_prompt_with_canary, stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt, update_prompt_status, update_prompt_traffic
from bindu.dspy.storage import use_storage
from bindu.settings import StorageSettings
from conftest import execute, until, value
from samples import AGENT, a_rollout, open_trial

LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


@pytest.fixture
def rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """One poll, after which only a notice can bring anything."""
    monkeypatch.setattr(prompt_selector, "POLL_SECONDS", 0.1)
    schedule = prompt_selector._Refresher._schedule

    def once(self: Any) -> None:
        schedule(self)
        prompt_selector.POLL_SECONDS = 3600.0

    monkeypatch.setattr(prompt_selector._Refresher, "_schedule", once)


@pytest.fixture
async def serving(storage: PostgresStorage) -> AsyncIterator[PostgresStorage]:
    await bootstrap_prompt("You help.")
    await select_prompt_with_canary()
    yield storage
    await stop_prompt_refresh()


async def caught_up(url: str, *hearing: list[str]) -> None:
    """Wait until a new word is heard, which is not kept: notices come in order, so no earlier one is still to come."""
    word = str(uuid4())
    await execute(url, f"SELECT pg_notify('bindu_dspy_moved', '{word}')")
    async with asyncio.timeout(10):
        for heard in hearing:
            while word not in heard:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            heard.remove(word)


async def the_last_poll() -> None:
    """Wait until the next one is an hour away."""
    now = asyncio.get_running_loop().time()
    async with asyncio.timeout(10):
        while (timer := prompt_selector._refresher()._timer) is None or timer.when() < now + 60:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def loaded() -> None:
    """Wait until every load that was asked for is over."""
    for watched in prompt_selector._refresher().watched.values():
        if watched.loading is not None:
            await watched.loading


async def served(arm: str, unit_id: str | None = None) -> float:
    """Wait until that arm answers; how many seconds it took."""
    began = monotonic()
    async with asyncio.timeout(10):
        while (await select_prompt_with_canary(unit_id=unit_id) or {}).get("arm") != arm:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return monotonic() - began


@pytest.mark.usefixtures("rare", "serving")
async def test_a_rollout_arrives_before_the_next_poll(postgres_url: str) -> None:
    await until(postgres_url, f"SELECT count(*) {LISTENERS}", 1)
    candidate = await insert_prompt("You help well.", "candidate", 1 - 1e-9)
    await served("candidate", "unit")
    await update_prompt_status(candidate, "rolled_back")
    await served("active", "unit")


@pytest.mark.usefixtures("rare")
async def test_a_first_prompt_arrives_before_the_next_poll(storage: PostgresStorage, postgres_url: str) -> None:
    assert await select_prompt_with_canary() is None
    await until(postgres_url, f"SELECT count(*) {LISTENERS}", 1)
    await storage.bootstrap(AGENT, "You help.")
    await served("active")
    await stop_prompt_refresh()


@pytest.mark.usefixtures("rare")
async def test_only_the_agent_whose_traffic_moved_is_read_again(
    serving: PostgresStorage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await serving.bootstrap("other", "You sell.")
    await select_prompt_with_canary(agent_id="other")
    await until(postgres_url, f"SELECT count(*) {LISTENERS}", 1)
    asked: list[str] = []
    read = serving.serving

    async def counted(agent_id: str) -> Any:
        asked.append(agent_id)
        return await read(agent_id)

    await open_trial(serving, share=1 - 1e-9)
    await served("candidate", "unit")
    monkeypatch.setattr(serving, "serving", counted)
    heard: list[str] = []
    await serving.listen(heard.append)
    for _ in range(20):
        await execute(postgres_url, f"SELECT pg_notify('bindu_dspy_moved', '{AGENT}') FROM generate_series(1, 50)")
    await caught_up(postgres_url, heard)
    await loaded()
    assert set(asked) == {AGENT}


@pytest.mark.usefixtures("rare")
async def test_of_many_notices_during_a_slow_load_one_more_load_follows(
    serving: PostgresStorage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await the_last_poll()
    await prompt_selector._refresher()._listening  # which asks for what moved before
    heard: list[str] = []
    await serving.listen(heard.append)
    loads, go_on = 0, asyncio.Event()
    read = serving.serving

    async def slow(agent_id: str) -> Any:
        nonlocal loads
        loads += 1
        found = await read(agent_id)
        await go_on.wait()
        return found

    monkeypatch.setattr(serving, "serving", slow)
    for _ in range(10):
        await execute(postgres_url, f"SELECT pg_notify('bindu_dspy_moved', '{AGENT}')")
    while loads == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    monkeypatch.setattr(serving, "serving", read)
    await open_trial(serving, share=1 - 1e-9)  # after the slow load has read
    monkeypatch.setattr(serving, "serving", slow)
    await caught_up(postgres_url, heard)
    go_on.set()
    await served("candidate", "unit")
    await loaded()
    assert loads == 2


async def test_a_rollout_that_did_not_happen_is_not_announced(storage: PostgresStorage, postgres_url: str) -> None:
    await open_trial(storage)
    heard: list[str] = []
    assert await storage.listen(heard.append)
    rollout = await a_rollout(storage, verdict="step_up", share_after=0.2)
    await storage.apply(rollout)
    with pytest.raises(StaleRolloutError):
        await storage.apply(rollout)
    await caught_up(postgres_url, heard)
    assert heard == [AGENT]


async def test_an_id_too_long_for_a_notice_moves_without_one(storage: PostgresStorage, postgres_url: str) -> None:
    heard: list[str] = []
    await storage.listen(heard.append)
    agent_id = "a" * 9_000
    await open_trial(storage, agent_id)
    found = await storage.serving(agent_id)
    assert found is not None
    assert found.candidate is not None
    await caught_up(postgres_url, heard)
    assert heard == []


async def test_listening_twice_is_listening_once_and_the_last_who_leaves_hangs_up(
    storage: PostgresStorage, postgres_url: str
) -> None:
    first: list[str] = []
    second: list[str] = []
    hear_first, hear_second = first.append, second.append
    began = [await storage.listen(hear) for hear in (hear_first, hear_first, hear_second)]
    assert began == [True, False, False]
    await storage.bootstrap(AGENT, "You help.")
    await until(postgres_url, f"SELECT count(*) {LISTENERS}", 1)
    await caught_up(postgres_url, first, second)
    assert (first, second) == ([AGENT], [AGENT])
    await storage.unlisten(hear_first)
    await storage.bootstrap("other", "You sell.")
    await caught_up(postgres_url, second)
    assert (first, second) == ([AGENT], [AGENT, "other"])
    await storage.unlisten(hear_second)
    await until(postgres_url, f"SELECT count(*) {LISTENERS}", 0)


async def test_a_killed_listener_falls_back_to_polls_and_listens_again(
    serving: PostgresStorage, postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prompt_selector, "POLL_SECONDS", 0.05)
    await until(postgres_url, f"SELECT count(*) {LISTENERS}", 1)
    for share in (0.2, 1 - 1e-9):
        before = await value(postgres_url, f"SELECT pid {LISTENERS}")
        await execute(postgres_url, f"SELECT pg_terminate_backend(pid) {LISTENERS}")
        if share == 0.2:
            candidate = await insert_prompt("You help well.", "candidate", share)
        else:
            await update_prompt_traffic(candidate, share)
            await served("candidate", "unit")
        await until(postgres_url, f"SELECT count(*) {LISTENERS} AND pid <> {before}", 1)
    prompt_selector.POLL_SECONDS = 3600.0
    await the_last_poll()
    await update_prompt_status(candidate, "rolled_back")
    await served("active", "unit")
    assert caplog.records == []


async def test_what_moved_while_nobody_listened_is_read_after_listening_again(
    serving: PostgresStorage, postgres_url: str
) -> None:
    await until(postgres_url, f"SELECT count(*) {LISTENERS}", 1)
    refresher = prompt_selector._refresher()
    refresher._stopped = True  # no notice is taken
    assert refresher._timer is not None
    refresher._timer.cancel()  # and no poll comes
    await open_trial(serving, share=1 - 1e-9)
    await execute(postgres_url, f"SELECT pg_terminate_backend(pid) {LISTENERS}")
    assert serving._ear is not None
    async with asyncio.timeout(10):
        while not serving._ear.is_closed():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await refresher._listen()
    assert await served("candidate", "unit") < 1


class Deaf(asyncpg.Connection):  # type: ignore[type-arg]
    """What is left of a LISTEN behind a pooler in transaction mode."""

    async def add_listener(self, channel: str, callback: Any) -> None:
        await super().add_listener(channel, callback)
        await self.execute("UNLISTEN *")


async def refused() -> asyncpg.Connection:
    raise asyncpg.TooManyConnectionsError("sorry, too many clients already")


@pytest.mark.parametrize("how", ["deaf", "refused"])
async def test_where_listening_is_impossible_polls_remain_and_that_is_said_once(
    how: str,
    storage: PostgresStorage,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "bindu.dspy.prompt_selector")
    monkeypatch.setattr(prompt_selector, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(prompt_selector, "LISTEN_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(notices, "_HEAR_SECONDS", 0.1)
    dial, tries = storage._dial, 0
    impossible = partial(dial, connection_class=Deaf) if how == "deaf" else refused

    async def tried() -> asyncpg.Connection:
        nonlocal tries
        tries += 1
        return await impossible()

    monkeypatch.setattr(storage, "_dial", tried)
    await bootstrap_prompt("You help.")
    await select_prompt_with_canary()
    await insert_prompt("You help well.", "candidate", 1 - 1e-9)
    await served("candidate", "unit")
    async with asyncio.timeout(10):
        while tries < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    [record] = caplog.records
    assert "polls still bring them" in record.message
    assert ("STORAGE__LISTEN=false" if how == "deaf" else "too many clients") in record.message
    monkeypatch.setattr(storage, "_dial", dial)
    await until(postgres_url, "SELECT count(*) FROM pg_stat_activity WHERE query = 'UNLISTEN *'", 0)
    monkeypatch.setattr(notices, "_HEAR_SECONDS", 1)
    await until(postgres_url, f"SELECT count(*) {LISTENERS}", 1)
    for _ in range(2000):
        if "works again" in caplog.records[-1].message:
            break
        await asyncio.sleep(0.01)
    assert "works again" in caplog.records[-1].message
    await stop_prompt_refresh()


async def test_a_connection_that_went_deaf_is_found_out_and_renewed(
    storage: PostgresStorage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    hear = heard.append
    assert await storage.listen(hear)
    assert storage._ear is not None
    await storage._ear.execute("UNLISTEN *")
    assert not await storage.listen(hear)  # asked again only every half minute
    monkeypatch.setattr(notices, "_CALL_SECONDS", 0.0)
    monkeypatch.setattr(notices, "_HEAR_SECONDS", 0.1)
    with pytest.raises(BinduError, match="do not arrive"):
        await storage.listen(hear)
    assert await storage.listen(hear)
    await storage.bootstrap(AGENT, "You help.")
    await until(postgres_url, f"SELECT count(*) {LISTENERS}", 1)
    await caught_up(postgres_url, heard)
    assert heard == [AGENT]


async def test_a_setting_turns_it_off(postgres_url: str) -> None:
    quiet = await PostgresStorage.connect(postgres_url, StorageSettings(listen=False))
    heard: list[str] = []
    assert not await quiet.listen(heard.append)
    assert await value(postgres_url, f"SELECT count(*) {LISTENERS}") == 0
    await quiet.close()


@pytest.mark.parametrize("stop", [stop_prompt_refresh, None])
async def test_whoever_stops_refreshing_or_closes_the_storage_hangs_up(postgres_url: str, stop: Any) -> None:
    storage = await PostgresStorage.connect(postgres_url, StorageSettings())
    with use_storage(storage):
        await bootstrap_prompt("You help.")
        await select_prompt_with_canary()
        await prompt_selector._refresher()._listen()
        await until(postgres_url, f"SELECT count(*) {LISTENERS}", 1)
        await (stop or storage.close)()
        await until(postgres_url, f"SELECT count(*) {LISTENERS}", 0)
        await stop_prompt_refresh()
        assert await storage.listen(print) is (stop is not None)  # a storage that was closed never listens again
        await storage.close()


ROUTER = """
import asyncio, sys
from bindu.dspy import close_storage, prompt_selector, select_prompt_with_canary, stop_prompt_refresh

async def main(waits_for):
    await select_prompt_with_canary()
    await prompt_selector._refresher()._listen()
    prompt_selector.POLL_SECONDS = 3600.0
    await asyncio.sleep(1)  # the first poll is over
    for arm in waits_for:
        print("ready", flush=True)
        while (await select_prompt_with_canary(unit_id="unit"))["arm"] != arm:
            await asyncio.sleep(0.001)
    if len(waits_for) > 1:
        await stop_prompt_refresh()
        await close_storage()

asyncio.run(main(sys.argv[1:]))
"""


def router(url: str, *arms: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", ROUTER, *arms],
        env=os.environ | {"STORAGE__POSTGRES_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_another_processs_rollouts_are_heard_and_its_end_leaves_no_session(
    storage: PostgresStorage, postgres_url: str
) -> None:
    await storage.bootstrap(AGENT, "You help.")
    process = router(postgres_url, "candidate", "active")
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        await open_trial(storage, share=1 - 1e-9)
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        await storage.apply(await a_rollout(storage, verdict="roll_back", share_after=0.0, outcome="rolled_back"))
        _, errors = await asyncio.to_thread(process.communicate, timeout=20)
        assert (process.returncode, errors) == (0, "")
        await until(postgres_url, f"SELECT count(*) {LISTENERS}", 0)
    finally:
        process.kill()
        process.wait()
