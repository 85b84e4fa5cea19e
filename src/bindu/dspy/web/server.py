"""Runs the application on uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

import uvicorn
from starlette.applications import Starlette

from bindu.dspy.web.app import create_app

__all__ = ["http_protocol", "serve"]

GRACE_SECONDS: Final = 30  # for answers that are under way
IDLE_SECONDS: Final = 60  # that a connection may be idle: longer than clients keep one


class _Server(uvicorn.Server):
    """Leaves signals to its caller, says when it listens, and before it waits for answers that it will."""

    def __init__(self, config: uvicorn.Config, started: Callable[[str], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started
        self._stopping = stopping

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._started(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._stopping()
        await super().shutdown(sockets)  # type: ignore[arg-type]


def http_protocol() -> type[asyncio.Protocol] | Literal["h11"]:
    """What reads requests. h11 bounds the bytes of a head itself, but not its seconds."""
    try:
        from bindu.dspy.web.heads import BoundedHeads  # noqa: PLC0415 - stands on httptools
    except ImportError:  # as on Windows
        return "h11"
    return BoundedHeads


async def serve(
    *, host: str, port: int, started: Callable[[str], None], app: Starlette | None = None
) -> signal.Signals | None:
    """Serve until SIGTERM or SIGINT, which is returned; requests under way are answered first.

    ``started`` is called with the address; ``app`` is one of ``create_app``, None a new one. Raises OSError when it
    cannot listen there.
    """
    served = create_app() if app is None else app
    config = uvicorn.Config(
        served,
        host=host,
        port=port,
        http=http_protocol(),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=IDLE_SECONDS,
    )
    server = _Server(config, started, served.state.end_streams)
    told: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        server.force_exit = bool(told)  # a second time, somebody is in a hurry
        told.append(number)
        server.should_exit = True

    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        await server.serve()
    except SystemExit:  # uvicorn's way to say that it cannot listen, having logged why
        raise OSError(
            f"Cannot listen on {host}:{port}. Is something else listening there, or is it no address of this machine? "
            "--port 0 takes a free port."
        ) from None
    return told[0] if told else None
