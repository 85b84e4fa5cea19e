"""A real PostgreSQL for every test that asks: one server per worker, one fresh database per test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from bindu.dspy.postgres import embedded
from bindu.dspy.postgres.migrate import upgrade
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import use_storage
from bindu.settings import StorageSettings, app_settings
from commands import Bindu, bindu_at

if TYPE_CHECKING:  # what only tests of pages need
    from playwright.sync_api import Browser

    from pages import Site

collect_ignore = [] if "BINDU_FRAMEWORK" in os.environ else ["frameworks"]  # scripts/test_integrations.py runs them

_TEMPLATE = "bindu_template"
_numbers = count(1)


async def execute(url: str, *statements: str) -> None:
    """Run statements, each in its own transaction, on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def fetch(url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    """The rows of one query, on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


async def value(url: str, query: str) -> Any:
    """The one value of a query."""
    [[found]] = await fetch(url, query)
    return found


async def until(url: str, query: str, expected: object, *, seconds: float = 10) -> None:
    """Wait until the one value of the query is that."""
    async with asyncio.timeout(seconds):
        while await value(url, query) != expected:  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.02)


async def everything(url: str) -> dict[str, list[asyncpg.Record]]:
    """Every row that a rollout, a closed window or a training run may touch."""
    connection = await asyncpg.connect(url)
    try:
        return {
            table: await connection.fetch(f"SELECT * FROM bindu_dspy.{table} ORDER BY 1, 2, 3")
            for table in ("prompts", "serving", "experiments", "decisions", "units", "training_runs", "rubrics")
        }
    finally:
        await connection.close()


def named(url: str, database: str) -> str:
    """The same server's URL for another database."""
    return urlsplit(url)._replace(path=f"/{database}").geturl()


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The worker's own server. What tests store need not outlive a power cut, so no commit waits for the disk."""
    server = embedded.start(tmp_path_factory.mktemp("postgres"))
    asyncio.run(execute(server.url, "ALTER SYSTEM SET synchronous_commit = off", "SELECT pg_reload_conf()"))
    yield server.url
    server.close()


@pytest.fixture(scope="session")
def empty_template(server_url: str) -> str:
    """The name of a migrated, empty database to clone."""
    asyncio.run(execute(server_url, f"CREATE DATABASE {_TEMPLATE}"))
    asyncio.run(upgrade(named(server_url, _TEMPLATE)))
    return _TEMPLATE


@pytest.fixture
def blank_url(server_url: str) -> Iterator[str]:
    """A fresh database without our schema."""
    yield from _database(server_url, "template1")


@pytest.fixture
def postgres_url(server_url: str, empty_template: str) -> Iterator[str]:
    """A fresh database with our schema and no row."""
    yield from _database(server_url, empty_template)


@pytest.fixture(scope="module")
def module_url(server_url: str, empty_template: str) -> Iterator[str]:
    """A database with our schema that the tests of a module share."""
    yield from _database(server_url, empty_template)


def _database(server_url: str, template: str) -> Iterator[str]:
    name = f"bindu_test_{next(_numbers)}"
    # Written to the log: STRATEGY file_copy would wait for a checkpoint, seconds on a busy disk
    asyncio.run(execute(server_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log"))
    yield named(server_url, name)
    asyncio.run(execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def storage(postgres_url: str, tmp_path: Path) -> AsyncIterator[PostgresStorage]:
    """A storage on the fresh database, in use by every service inside the test; training keeps its answers in there."""
    training = app_settings.dspy.training
    before, training.runs_folder = training.runs_folder, str(tmp_path / "runs")
    opened = await PostgresStorage.connect(postgres_url, StorageSettings())
    with use_storage(opened):
        yield opened
    await opened.close()
    training.runs_folder = before


@pytest.fixture
def bindu(tmp_path: Path, postgres_url: str) -> Bindu:
    """The installed command, in an empty folder and on the fresh database."""
    return bindu_at(tmp_path, postgres_url)


@pytest.fixture(scope="module")
def site(module_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """``bindu serve`` on the module's database."""
    from pages import serve_pages

    with serve_pages(module_url, tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture(scope="module")
def browser(site: Site) -> Iterator[Browser]:
    """A real one, begun once the pages are served."""
    from pages import chromium

    with chromium() as running:
        yield running
