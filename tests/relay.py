"""A TCP relay on loopback in front of PostgreSQL, which tests cut, stall and restore."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Relay:
    """Runs in a thread of its own; ``url`` leads through it to the same database.

    ``cut`` refuses and closes connections, ``stall`` accepts them and lets nothing through, as a stopped process or a
    network that swallows packets, and ``restore`` ends both; what was held back then goes on its way. ``cut_after``
    closes the connection that sends, or is sent, the n-th byte from now on, in the middle of whatever that is.
    """

    def __init__(self, postgres_url: str) -> None:
        parts = urlsplit(postgres_url)
        query = parse_qs(parts.query)
        self._door = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._database = parts.path
        self._connections: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._left: int | None = None
        self.accepted = self.cuts = 0

    @property
    def url(self) -> str:
        return f"postgresql://bindu@127.0.0.1:{self._port}{self._database}?sslmode=disable"

    def __enter__(self) -> Relay:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self._thread.start()
        self._flows = self._do(self._event())
        self._do(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        self._do(self._cut())

    def cut_after(self, size: int) -> None:
        self._left = size

    def stall(self) -> None:
        self._loop.call_soon_threadsafe(self._flows.clear)

    def restore(self) -> None:
        self._left = None
        self._loop.call_soon_threadsafe(self._flows.set)
        self._do(self._listen())

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _event(self) -> asyncio.Event:
        event = asyncio.Event()
        event.set()
        return event

    async def _listen(self) -> None:
        if getattr(self, "_server", None) is None:
            self._server: asyncio.Server | None = await asyncio.start_server(self._pass, "127.0.0.1", self._port)

    async def _cut(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._connections):
            connection.transport.abort()

    async def _end(self) -> None:
        await self._cut()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._pumps.add(asyncio.current_task())  # type: ignore[arg-type]
        self._connections.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            await self._flows.wait()
            answers, there = await asyncio.open_unix_connection(self._door)
            self._connections.add(there)
            await asyncio.gather(self._pump(reader, there), self._pump(answers, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in filter(None, (writer, there)):
                self._connections.discard(end)
                end.transport.abort()
            self._pumps.discard(asyncio.current_task())  # type: ignore[arg-type]

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            await self._flows.wait()
            if self._left is not None:
                if len(data) >= self._left:
                    target.write(data[: self._left])
                    with suppress(OSError):
                        await target.drain()
                    self._left, self.cuts = None, self.cuts + 1
                    raise ConnectionResetError
                self._left -= len(data)
            target.write(data)
            await target.drain()
        raise ConnectionResetError
