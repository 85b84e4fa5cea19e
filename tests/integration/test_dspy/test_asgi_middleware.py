"""The ASGI middleware: each request is a turn of the conversation that its header names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from bindu.dspy.integrations import PromptHandle, current_turn
from bindu.dspy.integrations.asgi import TurnMiddleware, prompt_handle, recorded, recorded_async
from handles import ACTIVE, CANDIDATE, begin_trial, handles_on, recorded_tasks


@pytest.fixture
def url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    with handles_on(postgres_url, tmp_path):
        yield postgres_url


@pytest.fixture
def client(url: str) -> Iterator[TestClient]:
    begin_trial()
    support, sales = prompt_handle("support", default=ACTIVE), prompt_handle("sales", default="You sell.")
    with TestClient(TurnMiddleware(application(support, sales))) as opened:
        yield opened


def application(support: PromptHandle, sales: PromptHandle) -> Starlette:
    async def answer(question: str) -> str:
        return support()

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await recorded_async(answer, "Where?"))

    def in_a_thread(request: Request) -> PlainTextResponse:
        return PlainTextResponse(recorded(lambda question: support(), "Where?"))

    async def both(request: Request) -> PlainTextResponse:
        return PlainTextResponse(recorded(lambda question: support() + sales(), "Where?"))

    async def silent(request: Request) -> PlainTextResponse:
        return PlainTextResponse("Hello.")

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        turn = current_turn()
        await socket.send_text(str(turn and turn.context_id))
        await socket.close()

    paths = {"/": home, "/thread": in_a_thread, "/both": both, "/silent": silent}
    return Starlette(routes=[*(Route(path, end) for path, end in paths.items()), WebSocketRoute("/talk", talk)])


def test_a_conversation_keeps_its_prompt_and_the_answer_names_its_task(client: TestClient, url: str) -> None:
    told = []
    for number in range(20):
        headers = {"X-Conversation-Id": f"conversation-{number}"}
        first, second = client.get("/", headers=headers), client.get("/thread", headers=headers)
        assert first.text == second.text
        told += [UUID(answer.headers["x-task-id"]) for answer in (first, second)]
    tasks = recorded_tasks(url)
    assert [task["id"] for task in tasks] == told
    assert {task["context_id"] for task in tasks} == {f"conversation-{number}" for number in range(20)}
    texts = {1: ACTIVE, 2: CANDIDATE}
    assert [task["history"][-1]["content"] for task in tasks] == [texts[task["prompt_id"]] for task in tasks]
    assert {task["prompt_id"] for task in tasks} == {1, 2}


def test_an_answer_without_a_task_names_none(client: TestClient) -> None:
    assert "x-task-id" not in client.get("/silent").headers


def test_a_header_says_which_of_several_agents_the_exchange_counts_for(client: TestClient, url: str) -> None:
    client.get("/both", headers={"X-Prompt-Name": "sales"})
    client.get("/both", headers={"X-Prompt-Name": "stranger"})
    assert [task["agent_id"] for task in recorded_tasks(url)] == ["sales", "support", "sales"]


@pytest.mark.parametrize("header", [b"", b" ", b"a\x00b", b"a" * 201])
def test_a_conversation_that_cannot_be_is_none(client: TestClient, url: str, header: bytes) -> None:
    assert client.get("/", headers={b"X-Conversation-Id": header}).status_code == 200
    assert [task["context_id"] for task in recorded_tasks(url)] == [None]


def test_a_web_socket_is_a_turn_as_well(client: TestClient) -> None:
    with client.websocket_connect("/talk", headers={"X-Conversation-Id": "conversation-1"}) as socket:
        assert socket.receive_text() == "conversation-1"
