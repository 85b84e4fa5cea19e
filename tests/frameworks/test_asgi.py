"""Starlette behind the middleware, with OpenAI's own client: the application of ``examples/asgi_hello.py``."""

from __future__ import annotations

import asyncio
from importlib import util
from uuid import UUID

import httpx
from attribution import CONVERSATIONS, EXAMPLES, Stored, answers, misattributed

from fake_model import FakeModel


async def test_every_exchange_counts_for_the_prompt_that_the_model_saw(stored: Stored, model: FakeModel) -> None:
    spec = util.spec_from_file_location("asgi_hello", EXAMPLES / "asgi_hello.py")
    assert spec is not None
    assert spec.loader is not None
    example = util.module_from_spec(spec)
    spec.loader.exec_module(example)
    transport = httpx.ASGITransport(app=example.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:

        async def ask(number: int) -> UUID:
            headers = {"X-Conversation-Id": f"conversation-{number}"}
            answer = await client.get("/", params={"question": f"Question {number}?"}, headers=headers)
            return UUID(answer.headers["x-task-id"])

        told = await asyncio.gather(*map(ask, range(CONVERSATIONS)))
    tasks = await stored.tasks()
    assert {task["id"] for task in tasks} == set(told)
    assert {question: said for question, (_, said) in answers(tasks).items()} == {
        question: f"saw {mark}" for mark, question in model.asked
    }
    assert misattributed(tasks) == 0
    assert {task["context_id"] for task in tasks} == {f"conversation-{number}" for number in range(CONVERSATIONS)}
