"""A model server on loopback that speaks OpenAI's chat completions and responses and says which prompt it got."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
from collections.abc import Mapping
from itertools import count
from types import TracebackType
from typing import Any

MARK = re.compile(r"\bprompt-[a-z]+\b")
QUESTION = re.compile(r"Question \d+\?")  # whatever a framework puts around it


class FakeModel:
    """Answers ``saw prompt-x``: the mark of the system prompt that came with the request, after a short random wait.

    ``asked`` holds every request's mark with the last user message. A message that holds "fail" gets a 400.
    """

    def __init__(self, seed: int = 0, longest: float = 0.03) -> None:
        self.asked: list[tuple[str, str]] = []
        self._random = random.Random(seed)
        self._longest = longest
        self._numbers = count(1)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.base_url = ""

    def __enter__(self) -> FakeModel:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find it."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_BASE": self.base_url, "OPENAI_API_KEY": "fake"}

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=512))
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode()
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(length.group(1)) if length else 0)
                await asyncio.sleep(self._random.random() * self._longest)
                status, kind, answer = self._answer(path, json.loads(body or b"{}"))
                writer.write(
                    f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(answer)}\r\n\r\n".encode()
                    + answer
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the client is done, or we are
        finally:
            writer.close()

    def _answer(self, path: str, asked: Mapping[str, Any]) -> tuple[int, str, bytes]:
        said = _said(asked)
        system = "\n".join(text for role, text in said if role in {"system", "developer"})
        question = next((text for role, text in reversed(said) if role == "user"), "")
        if "fail" in question:
            refusal = {"message": "asked to fail", "type": "invalid_request_error", "param": None, "code": None}
            return 400, "application/json", json.dumps({"error": refusal}).encode()
        marks = MARK.findall(system)
        mark = marks[0] if marks else "nothing"
        asked_for = QUESTION.search(question)
        self.asked.append((mark, asked_for.group() if asked_for else question))
        text = f"saw {mark}"
        if "[[ ## " in system:  # DSPy reads fields
            thoughts = "[[ ## reasoning ## ]]\nIt says so.\n\n" if "[[ ## reasoning ## ]]" in system else ""
            text = f"{thoughts}[[ ## answer ## ]]\n{text}\n\n[[ ## completed ## ]]"
        number, model = next(self._numbers), asked.get("model", "fake")
        if path.endswith("/responses"):
            return 200, "application/json", json.dumps(_response(number, model, text)).encode()
        if asked.get("stream"):
            return 200, "text/event-stream", _chunks(number, model, text)
        return 200, "application/json", json.dumps(_completion(number, model, text)).encode()


def _said(asked: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = asked.get("messages") or asked.get("input") or []
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
    said = [(str(message.get("role")), _text(message.get("content"))) for message in messages]
    return [("system", str(asked["instructions"])), *said] if asked.get("instructions") else said


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


def _completion(number: int, model: str, text: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def _chunks(number: int, model: str, text: str) -> bytes:
    def event(delta: Mapping[str, str], finish: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1, "model": model}
        return f"data: {json.dumps(chunk | {'choices': [choice]})}\n\n"

    return (event({"role": "assistant", "content": text}, None) + event({}, "stop") + "data: [DONE]\n\n").encode()


def _response(number: int, model: str, text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": model,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        },
    }
