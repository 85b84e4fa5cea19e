"""What every answer has: a measured duration, and headers that keep browsers from guessing."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bindu.dspy.telemetry import counted_request
from bindu.dspy.web.labels import ENDLESS, LABEL
from bindu.dspy.web.problems import problem_of

__all__ = ["Measured"]

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Measured:
    """Measures until the last byte, so that a stream counts as long as it lasts; answers what nobody expected.

    One that lasts as long as somebody looks on has no duration of its own, and is not counted.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, began_to_answer = perf_counter(), 500, False

        async def sending(message: Message) -> None:
            nonlocal status, began_to_answer
            if message["type"] == "http.response.start":
                status, began_to_answer = message["status"], True
                message.setdefault("headers", [])
                present = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in _HEADERS if one[0] not in present)]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if began_to_answer:
                raise
            await problem_of(error).response()(scope, receive, sending)
        finally:
            if not scope.get(ENDLESS):
                counted_request(scope.get(LABEL, "other"), scope["method"], status, perf_counter() - began)
