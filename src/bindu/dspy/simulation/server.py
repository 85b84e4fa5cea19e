"""The simulated model as an OpenAI-compatible server on loopback, with the faults that real ones have."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.model import SimulatedModel, tokens
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.world import World

__all__ = ["MODEL", "Faults", "SimulatedServer", "create_app"]

MODEL = "simulated/desk"
_START_SECONDS = 10.0
_HALF = '{"id": "chatcmpl-broken", "choices": ['
_FLOOD = ("and so on " * 5_000).rstrip() + "."  # 50 kB
_PIECE = re.compile(r"\s*\S+|\s+$")  # a word with the space before it


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, as shares of requests in [0, 1]; the n-th request fares the same in every run."""

    dead: float = 0.0  # 503
    rate_limited: float = 0.0  # 429 with Retry-After
    retry_after: int = 1  # seconds
    malformed: float = 0.0  # 200 with half a JSON document
    echo: float = 0.0  # an answer that is the user's last message
    flood: float = 0.0  # an answer of 50 kB
    latency_ms: float = 0.0  # before anything is sent


class SimulatedServer:
    """Runs on a free port of 127.0.0.1 in a thread of its own, for as long as the ``with`` block lasts.

    ``base_url`` ends in ``/v1``; ``faults`` may be replaced at any time; ``requests`` counts those that came in,
    ``billed`` the "input" and "output" tokens of all answers that were sent or begun, useless ones included.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        model: SimulatedModel | None = None,
        faults: Faults | None = None,
        world: World = SHOP,
    ) -> None:
        self.model = model or SimulatedModel(seed, world=world)
        self.faults = faults or Faults()
        self.requests = 0
        self.billed: Counter[str] = Counter()
        self.base_url = ""

    def __enter__(self) -> SimulatedServer:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        config = uvicorn.Config(
            create_app(self), log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="simulated-model", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self._stop()
                raise RuntimeError(f"The simulated server did not start on {self.base_url}. Is loopback available?")
            time.sleep(0.002)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(_START_SECONDS)
        self._socket.close()


def create_app(server: SimulatedServer) -> Starlette:
    """``POST /v1/chat/completions`` (plain and streaming) and ``GET /v1/models``."""

    async def chat(request: Request) -> Response:
        number, faults = server.requests, server.faults
        server.requests += 1
        if faults.latency_ms:
            await asyncio.sleep(faults.latency_ms / 1000)
        draw = Draws("fault", server.model.seed, number)
        refusal = _refusal(faults, draw)
        if refusal is not None:
            return refusal
        try:
            asked = await request.json()
            system, messages = _conversation(asked)
        except (KeyError, TypeError, ValueError) as error:
            return _error(400, "invalid_request_error", f"The body is not a chat completion request: {error!r}")
        read = tokens(system, *(said for _, said in messages))
        nonsense = _nonsense(faults, messages, draw)
        text = nonsense
        if text is None:
            sampling = {"temperature": asked.get("temperature"), "sample": asked.get("seed")}
            text = server.model.reply(system, messages, **sampling)
        server.billed.update(input=read, output=tokens(text))
        if nonsense == _HALF:
            return Response(_HALF, media_type="application/json")
        return _answer(asked, text, read, number)

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "simulation"}]})

    return Starlette(
        routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/v1/models", models, methods=["GET"])]
    )


def _refusal(faults: Faults, draw: Draws) -> Response | None:
    if draw.chance(faults.dead):
        return _error(503, "server_error", "The simulated model is dead.")
    if draw.chance(faults.rate_limited):
        limited = _error(429, "rate_limit_error", "The simulated model is busy.")
        limited.headers["Retry-After"] = str(faults.retry_after)
        return limited
    return None


def _nonsense(faults: Faults, messages: Sequence[tuple[str, str]], draw: Draws) -> str | None:
    if draw.chance(faults.malformed):
        return _HALF
    if draw.chance(faults.echo):
        return messages[-1][1]
    if draw.chance(faults.flood):
        return _FLOOD
    return None


def _error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": None}}, status)


def _conversation(asked: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    said = [(str(message["role"]), _text(message["content"])) for message in asked["messages"]]
    system = "\n".join(text for role, text in said if role in {"system", "developer"})
    messages = [(role, text) for role, text in said if role in {"user", "assistant"}]
    if not messages:
        raise ValueError("no user message")
    return system, messages


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def _answer(asked: Mapping[str, Any], text: str, read: int, number: int) -> Response:
    written = tokens(text)
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    head = {"id": f"chatcmpl-simulated-{number}", "created": int(time.time()), "model": asked.get("model", MODEL)}
    if asked.get("stream"):
        with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        events = _events(head, text, usage if with_usage else None)
        return StreamingResponse(events, media_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _events(head: Mapping[str, Any], text: str, usage: Mapping[str, int] | None) -> AsyncIterator[str]:
    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': choices, **more})}\n\n"

    def choice(delta: Mapping[str, str], finish: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    yield event(choice({"role": "assistant", "content": ""}))
    for piece in _PIECE.findall(text):
        yield event(choice({"content": piece}))
    yield event(choice({}, "stop"))
    if usage is not None:
        yield event([], usage=usage)
    yield "data: [DONE]\n\n"
