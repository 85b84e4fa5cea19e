"""An OpenAI-compatible provider on loopback that shows what it was sent, for tests of the proxy."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from browsing import listening

USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
USED: Final = {
    "input_tokens": 3,
    "output_tokens": 2,
    "total_tokens": 5,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}


@dataclass(frozen=True, slots=True)
class Came:
    """One request as the provider got it."""

    method: str
    path: str  # not decoded
    query: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)  # type: ignore[no-any-return]


@dataclass
class Provider:
    """Answers with the prompt that it was sent and the last thing the user said.

    A user's word decides how it fares: ``status 429`` gives that error, ``silent`` says nothing before ``goes_on``,
    ``pauses`` and ``breaks off`` do so after two events of a stream, and ``use a tool`` calls one.
    """

    came: list[Came] = field(default_factory=list)
    goes_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def last(self) -> Came:
        return self.came[-1]

    @contextmanager
    def listening(self) -> Iterator[Provider]:
        with listening(self.app()) as origin:
            self.url = f"{origin}/v1"
            yield self
            self.goes_on.set()

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/responses", self._responses, methods=["POST"]),
                Route("/v1/embeddings", self._embeddings, methods=["POST"]),
                Route("/v1/{path:path}", self._anything, methods=["GET", "POST", "DELETE", "PUT", "PATCH"]),
            ]
        )

    async def _take(self, request: Request) -> Came:
        path = request.scope["raw_path"].decode()
        headers = dict(request.headers)
        came = Came(request.method, path, request.url.query, headers, await request.body())
        self.came.append(came)
        return came

    async def _chat(self, request: Request) -> Response:
        body = (await self._take(request)).body
        prompt, said = _asked(body["messages"])
        refusal = await self._refusal(said)
        if refusal is not None:
            return refusal
        head = {"id": f"chatcmpl-{next(self.numbers)}", "created": 1, "model": body["model"]}
        call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
        uses = said == "use a tool"
        text = None if uses else f"{prompt}|{said}"
        if body.get("stream"):
            deltas: list[dict[str, Any]] = [{"content": piece} for piece in _pieces(text or "")]
            if uses:
                named = {"name": "look", "arguments": ""}
                parts: list[dict[str, Any]] = [
                    call | {"function": named},
                    *({"function": {"arguments": part}} for part in ('{"at"', ': "it"}')),
                ]
                deltas = [{"tool_calls": [{"index": 0, **part}]} for part in parts]
            return StreamingResponse(self._chunks(head, said, deltas), media_type="text/event-stream")
        message = {"role": "assistant", "content": text, **({"tool_calls": [call]} if uses else {})}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if uses else "stop"}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": USAGE})

    async def _chunks(self, head: dict[str, Any], said: str, deltas: list[dict[str, Any]]) -> AsyncIterator[str]:
        def event(delta: dict[str, Any], finish: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

        yield event({"role": "assistant", "content": ""})
        for number, delta in enumerate(deltas):
            yield event(delta)
            if number == 1:
                await self._pause(said)
        yield event({}, "stop")
        yield f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [], 'usage': USAGE})}\n\n"
        yield "data: [DONE]\n\n"

    async def _responses(self, request: Request) -> Response:
        body = (await self._take(request)).body
        asked = body["input"]
        prompt, said = _asked([{"role": "user", "content": asked}] if isinstance(asked, str) else asked)
        refusal = await self._refusal(said)
        if refusal is not None:
            return refusal
        text = f"{body.get('instructions') or prompt}|{said}"
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        whole = {
            "id": f"resp_{next(self.numbers)}",
            "object": "response",
            "created_at": 1,
            "model": body["model"],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "status": "completed",
            "output": [item],
            "usage": USED,
        }
        if body.get("stream"):
            return StreamingResponse(self._events(whole, said, text), media_type="text/event-stream")
        return JSONResponse(whole)

    async def _events(self, whole: dict[str, Any], said: str, text: str) -> AsyncIterator[str]:
        numbers = count()

        def event(kind: str, **more: Any) -> str:
            data = {"type": kind, "sequence_number": next(numbers), **more}
            return f"event: {kind}\ndata: {json.dumps(data)}\n\n"

        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        empty = {"type": "output_text", "text": "", "annotations": []}
        begun = whole | {"status": "in_progress", "output": [], "usage": None}
        item = whole["output"][0]
        yield event("response.created", response=begun)
        yield event("response.output_item.added", output_index=0, item=item | {"status": "in_progress", "content": []})
        yield event("response.content_part.added", part=empty, **place)
        for number, piece in enumerate(_pieces(text)):
            yield event("response.output_text.delta", delta=piece, logprobs=[], **place)
            if number == 1:
                await self._pause(said)
        yield event("response.output_text.done", text=text, logprobs=[], **place)
        yield event("response.output_item.done", output_index=0, item=item)
        yield event("response.completed", response=whole)

    async def _embeddings(self, request: Request) -> Response:
        body = (await self._take(request)).body
        data = [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}]
        return JSONResponse({"object": "list", "model": body["model"], "data": data, "usage": USAGE})

    async def _anything(self, request: Request) -> Response:
        came = await self._take(request)
        if came.path == "/v1/models":
            return JSONResponse({"object": "list", "data": [_model("tiny")]})
        return JSONResponse(_model("whatever"), headers={"x-request-id": "req_7", "set-cookie": "a=b"})

    async def _refusal(self, said: str) -> Response | None:
        if said == "silent":
            await asyncio.to_thread(self.goes_on.wait, 20)
        if not said.startswith("status "):
            return None
        error = {"message": "As you wished.", "type": "wished", "param": None, "code": "wish"}
        headers = {"retry-after": "7", "x-request-id": "req_7"}
        return JSONResponse({"error": error}, int(said.split()[1]), headers)

    async def _pause(self, said: str) -> None:
        if said.startswith("pauses"):
            while not self.goes_on.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.01)
        if said.startswith("breaks off"):
            raise ConnectionAbortedError("as asked")


def _asked(messages: list[dict[str, Any]]) -> tuple[str, str]:
    prompt = "".join(_text(one) for one in messages if one["role"] in ("system", "developer"))
    return prompt, [_text(one) for one in messages if one["role"] == "user"][-1]


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _pieces(text: str) -> list[str]:
    size = max(1, len(text) // 4)
    return [text[at : at + size] for at in range(0, len(text), size)]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1, "owned_by": "us"}
