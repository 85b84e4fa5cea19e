"""A load of HTTP requests on loopback, sent on time whatever the answers do, and what they took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

TICK = 0.001  # seconds: timers of an event loop know no less

Body = Callable[[int], tuple[str, bytes]]  # the path and the body of the n-th request


@dataclass
class Load:
    """Latencies in seconds from the moment a request was due, and the statuses."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.statuses.items() if status >= 400)


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request at a time."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
        if length is None:
            if not rest.endswith(b"0\r\n\r\n"):  # chunked
                return
        elif len(rest) < length:
            return
        self._data = b""
        assert self._answer is not None
        self._answer.set_result((int(head[9:12]), rest))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False  # the server closes those that were idle for long
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server hung up"))

    async def ask(self, path: str, body: bytes, headers: str = "") -> tuple[int, bytes]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self._transport.write(head.encode() + body)
        return await self._answer


async def connect(url: str) -> Connection:
    parts = urlsplit(url)
    _, connection = await asyncio.get_running_loop().create_connection(Connection, parts.hostname, parts.port)
    return connection


async def open_loop(url: str, rate: int, seconds: float, body: Body) -> Load:
    """``rate`` requests a second, each at its own time, over as many connections as that takes."""
    load, free = Load(), [await connect(url) for _ in range(32)]
    began, tasks = time.perf_counter() + 0.1, []

    async def one(number: int, due: float) -> None:
        while free and not free[-1].is_open:
            free.pop()
        connection = free.pop() if free else await connect(url)
        status, _ = await connection.ask(*body(number))
        load.seconds.append(time.perf_counter() - due)
        load.statuses[status] = load.statuses.get(status, 0) + 1
        free.append(connection)

    for number in range(int(rate * seconds)):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait + TICK)  # those that become due meanwhile are sent together
        tasks.append(asyncio.get_running_loop().create_task(one(number, due)))
    await asyncio.gather(*tasks)
    return load


async def closed_loop(url: str, connections: int, bodies: Iterable[tuple[str, bytes]]) -> tuple[float, Load]:
    """Send all bodies as quickly as they are answered; the seconds it took."""
    load, waiting = Load(), iter(bodies)

    async def one(connection: Connection) -> None:
        for path, body in waiting:
            began = time.perf_counter()
            status, _ = await connection.ask(path, body)
            load.seconds.append(time.perf_counter() - began)
            load.statuses[status] = load.statuses.get(status, 0) + 1

    opened = [await connect(url) for _ in range(connections)]
    began = time.perf_counter()
    await asyncio.gather(*map(one, opened))
    return time.perf_counter() - began, load
