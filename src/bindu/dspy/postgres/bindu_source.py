"""A database of Bindu itself, read page by page and never written to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg import Record

from bindu.dspy.errors import SourceUnavailableError, StorageUnavailableError
from bindu.dspy.models import BinduTask
from bindu.dspy.postgres.database import UNREADABLE, Connection, check_url, driver_url, rows, translated, where
from bindu.dspy.postgres.rows import from_json
from bindu.settings import StorageSettings

__all__ = ["BinduSource", "open_bindu"]

_COMMAND_TIMEOUT: Final = 60.0  # seconds
_BEFORE_ALL: Final = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))


@asynccontextmanager
async def open_bindu(url: str, settings: StorageSettings) -> AsyncIterator[BinduSource]:
    """The database of a URL as Bindu's STORAGE__POSTGRES_URL names it. Raises SourceUnavailableError."""
    place = where(url)
    place = "the URL that was given" if place == UNREADABLE else place
    with _reading(place):
        check_url(url)
        connection: asyncpg.Connection[Record] = await asyncpg.connect(
            driver_url(url),
            timeout=settings.connect_timeout,
            command_timeout=_COMMAND_TIMEOUT,
            statement_cache_size=settings.statement_cache_size,
            server_settings={"application_name": "bindu-dspy import"},  # PgBouncer refuses most others
        )
    try:
        yield BinduSource(connection, place)
    finally:
        await connection.close()


class BinduSource:
    """An agent of Bindu is a schema, named after its DID; without one it is ``public``."""

    def __init__(self, connection: asyncpg.Connection[Record], place: str) -> None:
        self._connection = connection
        self.place = place

    async def schemas(self) -> list[str]:
        """Those that hold Bindu's tables."""
        connection = self._connection
        with _reading(self.place):
            async with connection.transaction(readonly=True):
                return [found["schema"] for found in await rows(connection, "bindu_schemas")]

    async def pages(self, schema: str, size: int) -> AsyncIterator[list[BinduTask]]:
        """All tasks of a schema with their feedback, oldest first; no transaction is open while the caller works."""
        after = _BEFORE_ALL
        while True:
            with _reading(self.place):
                page = await self._page(schema, after, size)
            if page:
                yield page
            if len(page) < size:
                return
            after = (page[-1].created_at, page[-1].id)

    async def _page(self, schema: str, after: tuple[datetime, UUID], size: int) -> list[BinduTask]:
        connection: Connection = self._connection
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await rows(connection, "bindu_enter", schema=schema)
            tasks = await rows(connection, "bindu_tasks", after_time=after[0], after_id=after[1], limit=size)
            feedback: dict[UUID, list[tuple[int, Any, datetime]]] = defaultdict(list)
            for one in await rows(connection, "bindu_feedback", task_ids=[task["id"] for task in tasks]):
                feedback[one["task_id"]].append((one["id"], from_json(one["feedback_data"]), one["created_at"]))
        return [
            BinduTask(
                id=task["id"],
                context_id=task["context_id"],
                state=task["state"],
                history=from_json(task["history"]),
                created_at=task["created_at"],
                feedback=tuple(feedback[task["id"]]),
            )
            for task in tasks
        ]


@contextmanager
def _reading(place: str) -> Iterator[None]:
    """Errors that say which of the two databases it is."""
    try:
        with translated(place):
            yield
    except StorageUnavailableError as error:
        raise SourceUnavailableError(place, error.cause) from error
