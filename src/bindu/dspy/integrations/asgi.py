"""ASGI middleware: each request is a turn. It needs no web framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from bindu.dspy.arguments import is_storable
from bindu.dspy.headers import CONVERSATION_ID, PROMPT_NAME, TASK_ID, usable
from bindu.dspy.integrations.handle import prompt_handle
from bindu.dspy.integrations.recorded import recorded, recorded_async
from bindu.dspy.integrations.turn import Turn, turn

__all__ = ["TurnMiddleware", "prompt_handle", "recorded", "recorded_async"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class TurnMiddleware:
    """Opens a turn of the conversation in ``X-Conversation-Id``; ``X-Prompt-Name`` says which of several agents that
    answered the exchange counts for. The answer says in ``X-Task-Id`` which exchange was recorded before it began.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        with turn(context_id=_header(scope, CONVERSATION_ID)) as opened:
            opened.agent = _header(scope, PROMPT_NAME)
            await self.app(scope, receive, _telling(opened, send))


def _header(scope: Scope, name: str) -> str | None:
    """An id, None when there is none, or one that cannot be."""
    wanted = name.lower().encode()
    text = usable(next((value.decode("latin-1").strip() for key, value in scope["headers"] if key == wanted), None))
    return text if text is not None and is_storable(text) else None


def _telling(opened: Turn, send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start" and opened.task_id is not None:
            told = (TASK_ID.lower().encode(), str(opened.task_id).encode())
            message = {**message, "headers": [*message.get("headers", ()), told]}
        await send(message)

    return sent
