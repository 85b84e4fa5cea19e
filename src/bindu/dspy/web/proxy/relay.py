"""One request on its way to the provider, and its answer on the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol
from urllib.parse import quote

import aiohttp
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bindu.dspy.web.problems import Problem
from bindu.dspy.web.proxy.upstream import Upstream, passed_on
from bindu.utils.logging import get_logger

__all__ = ["SERVER_FAULT", "Relay", "Taken"]

SERVER_FAULT: Final = 500

_SAFE: Final = "/:@!$&'()*+,;=~%"  # characters that a path may hold as they are

logger = get_logger("bindu.dspy.web.proxy")


class Taken(Protocol):
    """Hears of an answer after it was passed on: its body, and whether that ended as it should."""

    def __call__(self, status: int, body: bytes, *, streamed: bool, ended: bool) -> None: ...


class Relay(Response):
    """Sends a request on and its answer back, piece by piece as it comes; ``headers`` are added to the answer's."""

    def __init__(
        self,
        upstream: Upstream,
        request: Request,
        body: bytes | None,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        taken: Taken | None = None,
    ) -> None:
        self._upstream = upstream
        self._request = request
        self._body = body
        self._more_headers = headers
        self._taken = taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._request
        path = quote(request.scope["raw_path"].removeprefix(b"/v1/"), safe=_SAFE)  # as it was before it was decoded
        try:
            async with self._upstream.ask(
                request.method, path, request.url.query, request.headers, self._body
            ) as answer:
                await self._pass(answer, send)
        except Problem as problem:
            if self._taken is not None:
                self._taken(problem.status, b"", streamed=False, ended=False)
            await problem.response()(scope, receive, send)

    async def _pass(self, answer: aiohttp.ClientResponse, send: Send) -> None:
        headers = [*passed_on(answer.headers.items()), *self._more_headers]
        streamed = answer.content_type == "text/event-stream"
        parts: list[bytes] = []
        status, ended = answer.status, False
        try:
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for part in answer.content.iter_any():
                if self._taken is not None:
                    parts.append(part)
                await send(_body(part, more=True))
                if streamed and await self._request.is_disconnected():
                    return
            await send(_body(b"", more=False))
            ended = True
        except (aiohttp.ClientError, TimeoutError) as error:  # unfinished, so that the server closes the connection
            status = max(status, SERVER_FAULT)
            logger.warning("The provider broke an answer off: %s", str(error) or "it fell silent")
        finally:  # also when the caller has gone
            if self._taken is not None:
                self._taken(status, b"".join(parts), streamed=streamed, ended=ended)


def _body(part: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": part, "more_body": more}
