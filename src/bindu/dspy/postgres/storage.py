"""PostgresStorage: the verbs of ``Storage`` on one pool of connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
from asyncpg import Record

from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.postgres import embedded, migrate
from bindu.dspy.postgres.access import AccessVerbs
from bindu.dspy.postgres.audit import AuditVerbs
from bindu.dspy.postgres.database import check_url, driver_url, translated, where
from bindu.dspy.postgres.feedback import FeedbackVerbs
from bindu.dspy.postgres.jobs import JobVerbs
from bindu.dspy.postgres.live import LiveVerbs
from bindu.dspy.postgres.notices import Dial, NoticeVerbs
from bindu.dspy.postgres.prompts import PromptVerbs
from bindu.dspy.postgres.reading import ReadingVerbs
from bindu.dspy.postgres.retention import RetentionVerbs
from bindu.dspy.postgres.rollouts import RolloutVerbs
from bindu.dspy.postgres.rubrics import RubricVerbs
from bindu.dspy.postgres.runs import RunVerbs
from bindu.dspy.postgres.tasks import TaskVerbs
from bindu.dspy.postgres.units import UnitVerbs
from bindu.settings import StorageSettings

__all__ = ["PostgresStorage"]

_OLDEST = 15
_CLOSE_SECONDS = 3.0  # for statements under way; a server that is silent must not hold up the end of a program
_COMMAND_TIMEOUT = 60.0  # seconds: a network that swallows packets must not stop a program for good


class PostgresStorage(
    PromptVerbs,
    RolloutVerbs,
    UnitVerbs,
    TaskVerbs,
    FeedbackVerbs,
    ReadingVerbs,
    RunVerbs,
    RubricVerbs,
    AccessVerbs,
    AuditVerbs,
    LiveVerbs,
    JobVerbs,
    RetentionVerbs,
    NoticeVerbs,
):
    """A ``Storage`` on PostgreSQL >= 15. Belongs to the event loop that ``connect`` ran in."""

    @classmethod
    async def connect(cls, url: str, settings: StorageSettings) -> PostgresStorage:
        """Open the database of a URL: ``postgresql://``, ``postgres://``, ``postgresql+asyncpg://``, ``embedded:PATH``.

        A database without our schema gets it, an embedded one also what is missing. Raises
        StorageUnavailableError, and SchemaError when the schema is older or newer than this code.
        """
        folder = embedded.folder_of(url)
        server = None if folder is None else _Server(await asyncio.to_thread(embedded.start, folder), folder)
        place = where(url) if server is None else f"embedded:{server.folder}"
        try:
            with translated(place):
                pool, dial = await _open_pool(url, settings, server)
                try:
                    await _prepare(pool, place, ours=server is not None)
                except BaseException:
                    pool.terminate()
                    raise
        except BaseException:
            if server is not None:
                server.close()
            raise
        return cls(pool, place, settings, server, dial)

    def __init__(
        self, pool: asyncpg.Pool[Record], place: str, settings: StorageSettings, server: _Server | None, dial: Dial
    ) -> None:
        super().__init__(pool, place, settings)
        self._dial = dial
        self._months = set()
        self._server = server

    async def check_schema(self) -> None:
        async with self._connection() as connection:
            migrate.require_current(await migrate.check(connection))

    async def close(self) -> None:
        """Give the connections back; an embedded server stops when no other program uses it."""
        try:
            with suppress(TimeoutError):  # a cancelled close ends all connections at once
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._stop_listening()
                    await self._pool.close()
        finally:
            if self._server is not None:
                self._server.close()


class _Server:
    """An embedded server that is started again when it went away."""

    def __init__(self, share: embedded.EmbeddedServer, folder: Path) -> None:
        self._share = share
        self.folder = folder

    @property
    def url(self) -> str:
        return self._share.url

    async def connect(self, *arguments: Any, **options: Any) -> asyncpg.Connection[Record]:
        """What the pool opens its connections with."""
        try:
            return await asyncpg.connect(*arguments, **options)
        except (OSError, asyncpg.CannotConnectNowError):
            started = await asyncio.to_thread(embedded.start, self.folder)
            before, self._share = self._share, started
            before.close()
            return await asyncpg.connect(*arguments, **options)

    def close(self) -> None:
        self._share.close()


async def _open_pool(url: str, settings: StorageSettings, server: _Server | None) -> tuple[asyncpg.Pool[Record], Dial]:
    """The pool, and what opens a connection like its own beside it."""
    if server is None:
        check_url(url)
    address = driver_url(url) if server is None else server.url
    connect: Any = asyncpg.connect if server is None else server.connect
    options: dict[str, Any] = {
        "timeout": settings.connect_timeout,
        "command_timeout": _COMMAND_TIMEOUT,
        "statement_cache_size": settings.statement_cache_size,
        "server_settings": {"application_name": "bindu-dspy"},
    }
    pool: asyncpg.Pool[Record] = await asyncpg.create_pool(
        address,
        min_size=0,  # else the pool logs tracebacks while the database is away
        max_size=settings.pool_size,
        connect=connect,
        reset=_reset,
        **options,
    )
    return pool, partial(connect, address, **options)


async def _reset(connection: Any) -> None:
    """Nothing, as no verb leaves session state behind; but a cancelled one may leave its transaction."""
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


async def _prepare(pool: asyncpg.Pool[Record], place: str, *, ours: bool) -> None:
    async with pool.acquire() as connection:
        server = connection.get_server_version()
        if server.major < _OLDEST:
            raise StorageUnavailableError(place, f"it is version {server.major}, and {_OLDEST} or newer is needed")
        report = await migrate.check(connection)
        if report.pending and not report.unknown and (ours or not report.applied):
            await migrate.upgrade(connection)
        else:
            migrate.require_current(report)
