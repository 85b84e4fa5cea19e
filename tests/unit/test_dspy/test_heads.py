"""Heads of requests that do not end, by raw sockets on loopback."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from bindu.dspy.web import heads
from bindu.dspy.web.heads import BoundedHeads
from bindu.dspy.web.server import http_protocol

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Says how long the body was."""
    size = len(await Request(scope, receive).body())
    await PlainTextResponse(str(size))(scope, receive, send)


@pytest.fixture(params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What reads requests; with h11 httptools is not installed, as on Windows."""
    if request.param == "h11":
        for module in ("bindu.dspy.web.heads", "uvicorn.protocols.http.httptools_impl"):
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, "httptools", None)
    return str(request.param)


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    config = uvicorn.Config(
        echo, host="127.0.0.1", port=0, http=http_protocol(), lifespan="off", ws="none", log_config=None
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    async with asyncio.timeout(5):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.002)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await running


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bytes:
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length"))
    return await reader.readexactly(int(length.split(b":")[1]))


async def flood(port: int, begin: bytes, piece: bytes) -> tuple[int, bytes]:
    """Send the piece again and again until the server has enough: how many bytes it took, and what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begin)
    sent = 0
    try:
        while sent < 100_000_000 and not reader.at_eof():
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return sent, await reader.read()
    except ConnectionError:
        return sent, b""
    finally:
        writer.close()


async def test_requests_are_read_by_what_is_installed(parser: str) -> None:
    assert http_protocol() == {"httptools": BoundedHeads, "h11": "h11"}[parser]


@pytest.mark.usefixtures("parser")
async def test_a_head_that_grows_for_ever_is_cut_off() -> None:
    async with listening() as port:
        for begin, piece in (
            (HEAD, b"X-Many: " + b"a" * 9_000 + b"\r\n"),
            (HEAD + b"X-One: ", b"a" * 9_000),
            (b"GET /", b"a" * 9_000),
            (HEAD, b"a" * 9_000),
        ):
            sent, said = await flood(port, begin, piece)
            assert sent < 20_000_000, begin  # what the sockets hold, and no more
            assert said == b"" or b"400 Bad Request" in said


@pytest.mark.usefixtures("parser")
async def test_bodies_of_any_size_and_many_requests_on_a_connection_are_no_heads() -> None:
    async with listening() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for size in (0, 10, 3_000_000, 600_000, 1):
            assert await ask(reader, writer, b"x" * size) == str(size).encode()
        writer.close()


@pytest.mark.parametrize("begin", [b"", b"P", HEAD, HEAD + b"X: "])
async def test_a_head_that_does_not_come_is_not_waited_for(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "MOST_SECONDS", 0.1)
    async with listening() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begin)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await ask(reader, writer, b"x") == b"1"  # the first of a connection is as good as none
        if begin:
            writer.write(begin)
            assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()


@pytest.mark.usefixtures("parser")
async def test_a_body_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "MOST_SECONDS", 0.05)
    async with listening() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: 2\r\n\r\nx")
        await asyncio.sleep(0.2)
        writer.write(b"y")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        writer.close()
