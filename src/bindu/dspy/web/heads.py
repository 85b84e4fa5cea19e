"""A request's head has an end, in bytes and in seconds: uvicorn on httptools would keep any head in memory for ever."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedHeads"]

MOST_BYTES: Final = 500_000  # more than one read of the socket, in which the end of a body may stand before a head
MOST_SECONDS: Final = 30.0


class BoundedHeads(HttpToolsProtocol):
    """Closes connections whose head grows too large or does not come to its end."""

    _size = 0
    _is_open = True  # whether a head is awaited or under way
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(MOST_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_open and not self.transport.is_closing():
            self._size += len(data)
            if self._size > MOST_BYTES:
                self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._size, self._is_open = 0, True
        if self._timer is None:
            self._timer = self.loop.call_later(MOST_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        self._is_open = False
        self._stop()
        super().on_headers_complete()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
