"""Traffic that moves announces itself: NOTIFY inside the transaction, LISTEN on one connection beside the pool.

Notices are a hint. They are lost while the connection is, and a pooler in transaction mode swallows them all, so a
listener calls itself now and then to know that it hears.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import TypeAlias

import asyncpg
from asyncpg import Record

from bindu.dspy.errors import BinduError
from bindu.dspy.postgres.database import Connection, Database, row, translated
from bindu.settings import StorageSettings

__all__ = ["Dial", "NoticeVerbs", "announce"]

Dial: TypeAlias = "Callable[[], Awaitable[asyncpg.Connection[Record]]]"
Moved: TypeAlias = Callable[[str], None]

_CHANNEL = "bindu_dspy_moved"
_CALL_SECONDS = 30.0  # between two calls to ourselves
_HEAR_SECONDS = 5.0  # a call that takes longer is not heard
_CLOSE_SECONDS = 1.0


async def announce(connection: Connection, agent_id: str) -> None:
    """Let every listener hear, once this transaction commits, that the agent's serving row changed."""
    await row(connection, "announce", channel=_CHANNEL, agent_id=agent_id)


class NoticeVerbs(Database):
    _dial: Dial  # opens a connection that is nobody else's

    def __init__(self, pool: asyncpg.Pool[Record], place: str, settings: StorageSettings) -> None:
        super().__init__(pool, place, settings)
        self._may_listen = settings.listen
        self._hearers: set[Moved] = set()
        self._ear: asyncpg.Connection[Record] | None = None
        self._ear_lock = asyncio.Lock()
        self._heard = asyncio.Event()
        self._heard_at = -inf

    async def listen(self, moved: Moved) -> bool:
        if not self._may_listen:
            return False
        self._hearers.add(moved)
        async with self._ear_lock:
            if not self._may_listen:  # it was closed meanwhile
                return False
            began = self._ear is None or self._ear.is_closed()
            if began:
                await self._open_ear()
            elif monotonic() - self._heard_at >= _CALL_SECONDS:
                await self._call_ourselves()
            return began

    async def unlisten(self, moved: Moved) -> None:
        self._hearers.discard(moved)
        if not self._hearers:
            async with self._ear_lock:
                await self._close_ear()

    async def _stop_listening(self) -> None:
        """For good: nobody opens the connection again."""
        self._may_listen = False
        self._hearers.clear()
        async with self._ear_lock:
            await self._close_ear()

    async def _open_ear(self) -> None:
        with translated(self._place):
            ear = self._ear = await self._dial()
            try:
                await ear.add_listener(_CHANNEL, self._hear)
            except BaseException:
                ear.terminate()
                raise
        await self._call_ourselves()

    async def _call_ourselves(self) -> None:
        """Over the pool. Raises BinduError, having hung up, when the call is not heard."""
        self._heard.clear()
        await self._row("announce", channel=_CHANNEL, agent_id="")
        try:
            await asyncio.wait_for(self._heard.wait(), _HEAR_SECONDS)
        except TimeoutError:
            if self._ear is not None:
                self._ear.terminate()
            raise BinduError(
                f"Notices of PostgreSQL at {self._place} do not arrive, as behind a pooler in transaction mode. "
                "Set STORAGE__LISTEN=false if that is what it is."
            ) from None

    def _hear(self, _connection: object, _process: int, _channel: str, agent_id: object) -> None:
        self._heard_at = monotonic()
        self._heard.set()
        if agent_id:
            for moved in tuple(self._hearers):
                moved(str(agent_id))

    async def _close_ear(self) -> None:
        ear, self._ear = self._ear, None
        if ear is not None:
            with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # lost is closed too
                await ear.close(timeout=_CLOSE_SECONDS)
