"""One pool per event loop: nobody uses, loses or closes another loop's connections."""

import asyncio
import threading
from collections.abc import Iterator

import asyncpg
import pytest
from pydantic import SecretStr

from bindu.dspy import storage as wire
from bindu.dspy.errors import NoActivePromptError, StorageNotConfiguredError
from bindu.dspy.storage import close_storage, get_storage, serving_or_raise
from bindu.settings import app_settings


@pytest.fixture(autouse=True)
def configured(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(app_settings.storage, "postgres_url", SecretStr(postgres_url))
    yield
    asyncio.run(close_storage())


async def sessions(postgres_url: str) -> int:
    connection = await asyncpg.connect(postgres_url)
    try:
        ours = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return int(await connection.fetchval(ours))
    finally:
        await connection.close()


async def test_a_job_in_a_thread_leaves_the_applications_pool_alone(postgres_url: str) -> None:
    application = await get_storage()
    assert await application.serving("default") is None

    async def job() -> bool:
        mine = await get_storage()
        await mine.bootstrap("default", "You help.")
        await close_storage()
        return mine is not application

    assert await asyncio.to_thread(asyncio.run, job())
    assert await get_storage() is application
    assert (await serving_or_raise("default")).active.id == 1
    assert await sessions(postgres_url) == 1
    await close_storage()
    assert await sessions(postgres_url) == 0


async def test_two_loops_at_once_each_have_their_own_and_leave_no_connection(postgres_url: str) -> None:
    both = threading.Barrier(2)

    async def serve() -> int:
        mine = await get_storage()
        await mine.bootstrap("default", "You help.")
        await asyncio.to_thread(both.wait, 10)  # both pools are open
        same = await get_storage()
        versions = await same.serving_versions(["default"])
        await asyncio.to_thread(both.wait, 10)
        await close_storage()
        return versions["default"] if same is mine else 0

    assert await asyncio.gather(*(asyncio.to_thread(asyncio.run, serve()) for _ in range(2))) == [1, 1]
    assert await sessions(postgres_url) == 0


async def test_of_eight_that_ask_at_once_one_opens(postgres_url: str) -> None:
    opened = await asyncio.gather(*(get_storage() for _ in range(8)))
    assert len({id(storage) for storage in opened}) == 1
    assert await sessions(postgres_url) == 1
    await close_storage()
    await close_storage()
    assert await get_storage() is not opened[0]
    await close_storage()


def test_loops_that_ended_are_not_remembered() -> None:
    async def serve() -> None:
        await get_storage()
        await close_storage()

    for _ in range(20):
        asyncio.run(serve())
    assert sum(loop.is_closed() for loop in wire._slots) <= 1


async def test_an_agent_without_a_prompt_and_a_missing_setting_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoActivePromptError, match="'stranger'"):
        await serving_or_raise("stranger")
    await close_storage()
    monkeypatch.setattr(app_settings.storage, "postgres_url", None)
    with pytest.raises(StorageNotConfiguredError):
        await serving_or_raise("default")
