"""``tasks/feedback`` on the official A2A server, asked by the official A2A client over loopback."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn
from a2a.client import A2ACardResolver, Client, ClientCallContext, ClientConfig, ClientFactory
from a2a.client.service_parameters import ServiceParametersFactory, with_a2a_extensions
from a2a.client.transports.http_helpers import get_http_args
from a2a.extensions.common import find_extension_by_uri
from a2a.helpers import new_text_message
from a2a.types import AgentCard, GetTaskRequest, Role, SendMessageRequest, StreamResponse, TaskState
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp

from bindu.dspy.collector import Exchange, record_task, store_exchanges
from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.recorder import Recorder
from bindu.dspy.spool import Spool
from bindu.dspy.storage import close_storage
from bindu.dspy.web.a2a import FEEDBACK_EXTENSION, feedback_routes
from bindu.settings import app_settings
from conftest import fetch, value

DOCUMENT = Path(__file__).parents[3] / "docs/how-to/connect-a2a.md"
LABELS = {"agent": "support", "kind": "rating"}
TALK = [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "On its way."}]


@asynccontextmanager
async def listening(app: ASGIApp | None = None, **more: Any) -> AsyncIterator[tuple[str, Any]]:
    """An application on loopback in this event loop: its URL and, of the documented agent, its module's names."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        names: dict[str, Any] = {}
        if app is None:
            [code] = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
            exec(code.replace('os.environ.get("AGENT_URL", "http://127.0.0.1:9000/")', repr(url)), names)
            app = names["app"]
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with asyncio.timeout(10):
                while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(0.002)
            yield url, names
        finally:
            server.should_exit = True
            await running


class Caller:
    """The official client, and the same connection for ``tasks/feedback``."""

    def __init__(self, url: str, card: AgentCard, http: httpx.AsyncClient, names: Any) -> None:
        self.url, self.card, self.http, self.names = url, card, http, names
        self.client: Client = ClientFactory(ClientConfig(httpx_client=http)).create(card)

    async def ask(self, question: str) -> list[StreamResponse]:
        message = new_text_message(question, role=Role.ROLE_USER)
        return [event async for event in self.client.send_message(SendMessageRequest(message=message))]

    async def task(self) -> str:
        return (await self.ask("Where is my parcel?"))[0].task.id

    async def feedback(self, params: Any, *extensions: str, **call: Any) -> httpx.Response:
        body = {"jsonrpc": "2.0", "id": str(uuid4()), "method": "tasks/feedback", "params": params, **call}
        parameters = ServiceParametersFactory.create([with_a2a_extensions(list(extensions))])
        context = ClientCallContext(service_parameters=parameters | {"Content-Type": "application/json"})
        response = await self.http.post(self.url, content=json.dumps(body), **get_http_args(context))
        assert response.status_code == 200
        return response


@pytest.fixture
async def caller(storage: PostgresStorage) -> AsyncIterator[Caller]:
    await bootstrap_prompt("You are a friendly support agent.", agent_id="support")
    async with listening() as (url, names), httpx.AsyncClient() as http:
        yield Caller(url, await A2ACardResolver(http, url).get_agent_card(), http, names)
    await stop_prompt_refresh()


async def votes(url: str) -> list[dict[str, Any]]:
    columns = "kind, score, rater_id, comment, superseded_by IS NULL AS current"
    return [
        dict(row) for row in await fetch(url, f"SELECT {columns} FROM bindu_dspy.task_feedback ORDER BY created_at, id")
    ]


async def rows_of_feedback(url: str) -> int:
    query = "SELECT (SELECT count(*) FROM bindu_dspy.task_feedback) + (SELECT count(*) FROM bindu_dspy.remarks)"
    return int(await value(url, query))


async def test_the_card_declares_the_extension_with_the_schema_of_its_parameters(caller: Caller) -> None:
    extension = find_extension_by_uri(caller.card, FEEDBACK_EXTENSION)
    assert extension is not None
    declared = MessageToDict(extension.params)
    assert (extension.required, declared["method"]) == (False, "tasks/feedback")
    assert declared["params"]["required"] == ["taskId"]
    assert declared["params"]["properties"]["rating"] == {"type": "number", "minimum": 1, "maximum": 5}


async def test_feedback_reaches_the_prompt_that_answered(caller: Caller, postgres_url: str) -> None:
    task_id = await caller.task()
    counted = REGISTRY.get_sample_value("bindu_feedback_total", LABELS) or 0
    told = await caller.feedback({"taskId": task_id, "feedback": "Quick", "rating": 5, "metadata": {"source": "web"}})
    assert REGISTRY.get_sample_value("bindu_feedback_total", LABELS) == counted + 1
    assert told.json()["result"] == {"message": "Feedback submitted successfully", "task_id": task_id}
    [task] = await fetch(
        postgres_url,
        "SELECT agent_id, prompt_id, external_id FROM bindu_dspy.task_keys AS k"
        " JOIN bindu_dspy.tasks AS t USING (agent_id) WHERE k.task_id = t.id",
    )
    assert tuple(task) == ("support", 1, task_id)
    assert await votes(postgres_url) == [
        {"kind": "rating", "score": 1.0, "rater_id": "", "comment": "Quick", "current": True}
    ]


async def test_the_other_methods_and_streams_work_as_before(caller: Caller) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow_model(system: str, question: str) -> str:
        asked.set()
        await release.wait()
        return f"{system} {question}"

    caller.names["ask_model"] = slow_model
    message = new_text_message("My feedback?", role=Role.ROLE_USER)
    stream = aiter(caller.client.send_message(SendMessageRequest(message=message)))
    first = await anext(stream)  # arrives while the agent is still at work
    await asked.wait()
    release.set()
    rest = [event async for event in stream]
    assert first.task.status.state == TaskState.TASK_STATE_SUBMITTED
    assert rest[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    done = await caller.client.get_task(GetTaskRequest(id=first.task.id))
    assert done.artifacts[0].parts[0].text == "You are a friendly support agent. My feedback?"
    plain = ClientFactory(ClientConfig(httpx_client=caller.http, streaming=False)).create(caller.card)
    [answer] = [event async for event in plain.send_message(SendMessageRequest(message=message))]
    assert answer.task.status.state == TaskState.TASK_STATE_COMPLETED


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"rating": 4}, ("rating", 0.8, None)),
        ({"rating": "4", "metadata": None}, ("rating", 0.8, None)),
        ({"thumbs_up": True, "feedback": "fine"}, ("thumbs_up", 1.0, "fine")),
        ({"thumbsUp": False}, ("thumbs_up", 0.0, None)),
        ({"metadata": {"thumbs_up": "false"}, "feedback": ""}, ("thumbs_up", 0.0, None)),
        ({"score": 0.7, "metadata": {"thumbs_up": False}}, ("thumbs_up", 0.7, None)),
        ({"label": "good"}, ("thumbs_up", 1.0, None)),
        ({"rating": 2, "correction": "On Friday.", "feedback": "late \ud83d"}, ("rating", 0.4, "late \ufffd")),
    ],
)
async def test_every_shape_of_a_vote_is_taken(
    caller: Caller, postgres_url: str, said: dict[str, Any], expected: tuple[str, float, str | None]
) -> None:
    told = await caller.feedback({"taskId": await caller.task(), **said})
    assert "result" in told.json(), told.text
    [vote] = await votes(postgres_url)
    assert (vote["kind"], vote["score"], vote["comment"]) == expected


async def test_words_alone_are_kept_and_join_the_raters_vote(caller: Caller, postgres_url: str) -> None:
    task_id = await caller.task()
    assert "result" in (await caller.feedback({"taskId": task_id, "feedback": "Hm."})).json()
    assert (await votes(postgres_url), await rows_of_feedback(postgres_url)) == ([], 1)
    alice = {"rater_id": "alice"}
    await caller.feedback({"taskId": task_id, "rating": 3, "metadata": alice})
    await caller.feedback({"taskId": task_id, "feedback": "Too long.", "metadata": alice})
    [vote] = [vote for vote in await votes(postgres_url) if vote["current"]]
    assert (vote["rater_id"], vote["score"], vote["comment"]) == ("alice", 0.6, "Too long.")


async def test_a_rater_has_one_vote_and_a_repeated_attempt_adds_none(caller: Caller, postgres_url: str) -> None:
    task_id = await caller.task()
    keyed = {"user_id": 7, "idempotencyKey": "click-1"}
    for rating in (5, 1):  # the second repeats the first's key, so it is the same vote
        await caller.feedback({"task_id": task_id, "rating": rating, "metadata": keyed}, id=1)
    await caller.feedback({"taskId": task_id, "rating": 2, "metadata": {"raterId": "7"}}, id=1)
    found = [(vote["rater_id"], vote["score"], vote["current"]) for vote in await votes(postgres_url)]
    assert found == [("7", 1.0, False), ("7", 0.4, True)]


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"rating": 99}, "A rating of 99 is not a number from 1 to 5"),
        ({"rating": True}, "A rating of True is not"),
        ({"rating": [5]}, "A rating of list is not"),
        ({"thumbs_up": "maybe"}, "neither true nor false"),
        ({"metadata": {"thumbs_up": 2}}, "neither true nor false"),
        ({"rating": 5, "metadata": "web"}, "metadata is an object, not 'web'"),
        ({"rating": 5, "feedback": {"text": "hm"}}, '"feedback" is a text, not dict'),
        ({"rating": 5, "correction": 7}, "A correction is a text, not int"),
        ({"rating": 5, "metadata": {"rater_id": ["alice"]}}, "rater_id is a text"),
        ({"feedback": " "}, "Feedback without a rating or a thumb"),
        ({"stars": 5}, "Feedback without a rating or a thumb"),
        ({"rating": 5, "taskId": None}, 'give the id of its task as "taskId"'),
        ({"rating": 5, "taskId": {}}, "task_id is a text"),
    ],
)
async def test_what_is_no_feedback_is_refused_with_a_sentence_and_not_stored(
    caller: Caller, postgres_url: str, params: dict[str, Any], sentence: str
) -> None:
    told = (await caller.feedback({"taskId": await caller.task(), **params}, id="seven")).json()
    assert (told["id"], told["error"]["code"]) == ("seven", -32602)
    assert sentence in told["error"]["message"]
    assert await rows_of_feedback(postgres_url) == 0


async def test_the_official_client_reads_our_errors_as_its_own(caller: Caller, postgres_url: str) -> None:
    transport = caller.client._transport

    async def call(params: object) -> None:
        await transport._send_request({"jsonrpc": "2.0", "id": "1", "method": "tasks/feedback", "params": params})

    with pytest.raises(TaskNotFoundError, match="no task nobody"):
        await call({"taskId": "nobody", "rating": 5})
    with pytest.raises(InvalidParamsError, match="not list"):
        await call(["nobody", 5])
    assert await rows_of_feedback(postgres_url) == 0


@pytest.mark.parametrize("broken", [{"jsonrpc": "1.0"}, {"id": [1]}, {"id": True}, {"id": 1.5}])
async def test_a_request_that_is_no_json_rpc_is_refused(
    caller: Caller, postgres_url: str, broken: dict[str, Any]
) -> None:
    told = (await caller.feedback({"taskId": await caller.task(), "rating": 5}, **broken)).json()
    assert told["error"]["code"] == -32600
    assert await rows_of_feedback(postgres_url) == 0


async def test_activation_is_confirmed_and_not_required(caller: Caller) -> None:
    said = {"taskId": await caller.task(), "rating": 5}
    assert "a2a-extensions" not in (await caller.feedback(said)).headers
    told = await caller.feedback(said, "https://example.com/other", FEEDBACK_EXTENSION)
    assert told.headers["a2a-extensions"] == FEEDBACK_EXTENSION


async def test_without_its_database_it_says_when_to_try_again_and_not_where_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(app_settings.storage, "postgres_url", f"postgresql://bindu:secret@127.0.0.1:{port}/bindu")
    try:
        async with listening() as (url, _), httpx.AsyncClient() as http:
            call = {"jsonrpc": "2.0", "id": 1, "method": "tasks/feedback", "params": {"taskId": "a", "rating": 5}}
            told = (await http.post(url, json=call)).json()
    finally:
        await close_storage()
    assert told["error"]["code"] == -32603
    assert "Send it again in 2 seconds" in told["error"]["message"]
    assert told["error"]["data"] == [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}]
    assert str(port) not in json.dumps(told)
    assert f"127.0.0.1:{port}" in caplog.text
    assert "secret" not in caplog.text


@pytest.fixture
async def served(storage: PostgresStorage) -> AsyncIterator[httpx.AsyncClient]:
    """The route of ``bindu serve``."""
    await bootstrap_prompt("You help.", agent_id="support")
    transport = httpx.ASGITransport(Starlette(routes=feedback_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://bindu") as http:
        yield http


async def test_the_route_takes_feedback_for_the_agent_in_its_path(served: httpx.AsyncClient, postgres_url: str) -> None:
    task_id = str(await record_task(TALK, agent_id="support"))
    call = {"jsonrpc": "2.0", "id": 1, "method": "tasks/feedback", "params": {"taskId": task_id, "rating": 5}}
    other = (await served.post("/a2a/sales", json=call)).json()
    assert other["error"]["code"] == -32001
    assert (await served.post("/a2a/support", json=call)).json()["result"]["task_id"] == task_id
    assert len(await votes(postgres_url)) == 1


async def test_the_route_asks_who_is_calling_before_it_reads() -> None:
    async def nobody(request: Request, agent_id: str) -> None:
        raise HTTPException(403, f"Not for {agent_id}.")

    transport = httpx.ASGITransport(Starlette(routes=feedback_routes(authorise=nobody)))
    async with httpx.AsyncClient(transport=transport, base_url="http://bindu") as http:
        response = await http.post("/a2a/support", content=b"no JSON")
    assert (response.status_code, response.text) == (403, "Not for support.")


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b'{"jsonrpc": "2.0", "id": 1, "method": "SendMessage"}', "application/json", -32601),
        (b'{"jsonrpc": "2.0", "id": 1, "method": ', "application/json", -32700),
        (b"\xff\xfe", "application/json", -32700),
        (b"[" * 100_000, "application/json", -32700),
        (b"[]", "application/json", -32600),
        (b'{"jsonrpc": "2.0", "id": 1}', "application/json", -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/feedback"}', "application/json", -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/feedback"}', "text/plain", -32600),
    ],
)
async def test_the_route_refuses_everything_else(served: httpx.AsyncClient, body: bytes, kind: str, code: int) -> None:
    response = await served.post("/a2a/support", content=body, headers={"content-type": kind})
    assert (response.status_code, response.json()["error"]["code"]) == (200, code)


async def test_what_is_too_large_is_refused_as_everywhere_else(served: httpx.AsyncClient, postgres_url: str) -> None:
    async def parts() -> AsyncIterator[bytes]:  # without a length
        for _ in range(3):
            yield b" " * 1_000_000

    for body in (b" " * 2_000_001, parts()):
        response = await served.post("/a2a/support", content=body, headers={"content-type": "application/json"})
        assert (response.status_code, response.json()["error"]["type"]) == (413, "too_large")


async def test_a_task_that_waits_for_the_database_is_asked_for_again_and_not_unknown(
    storage: PostgresStorage, tmp_path: Path
) -> None:
    await bootstrap_prompt("You help.", agent_id="support")
    back = asyncio.Event()

    async def store(exchanges: Sequence[Exchange]) -> None:
        if not back.is_set():
            raise StorageUnavailableError("the database", OSError("away"))
        await store_exchanges(exchanges)

    recorder = Recorder(Spool(tmp_path / "spool", limit=1_000_000), store=store)
    transport = httpx.ASGITransport(Starlette(routes=feedback_routes(recorder=recorder)))
    async with httpx.AsyncClient(transport=transport, base_url="http://bindu") as http:

        async def vote(task_id: str) -> dict[str, Any]:
            call = {"jsonrpc": "2.0", "id": 1, "method": "tasks/feedback", "params": {"taskId": task_id, "rating": 5}}
            told: dict[str, Any] = (await http.post("/a2a/support", json=call)).json()
            return told

        recorder.record(TALK, task_id="late", agent_id="support")
        error = (await vote("late"))["error"]
        assert (error["code"], error["data"][0]["retryDelay"]) == (-32603, "2s")
        assert "Try again in a moment" in error["message"]
        back.set()
        async with asyncio.timeout(10):
            while recorder.is_behind:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        assert (await vote("late"))["result"]["task_id"] == "late"
        assert (await vote("nobody"))["error"]["code"] == -32001
    await recorder.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(categories=["Cs"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
PARAMS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("taskId", "rating", "thumbs_up", "score", "label", "feedback", "correction"), JSON)
    | {"metadata": JSON | st.fixed_dictionaries({}, optional={"thumbs_up": JSON, "rater_id": JSON})},
)
CALLS = JSON | st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | JSON, "method": st.just("tasks/feedback") | JSON},
    optional={"id": JSON, "params": PARAMS | JSON},
)


VOTE = {"jsonrpc": "2.0", "id": 1, "method": "tasks/feedback", "params": {"rating": 5}}


@example(calls=VOTE, known=True)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS, known=st.booleans())
async def test_arbitrary_json_is_answered_and_stored_only_when_it_is_said_so(
    served: httpx.AsyncClient, postgres_url: str, calls: Any, known: bool
) -> None:
    if known and isinstance(calls, dict) and isinstance(calls.get("params"), dict):
        calls = calls | {"params": calls["params"] | {"taskId": str(await record_task(TALK, agent_id="support"))}}
    before = await rows_of_feedback(postgres_url)
    body = json.dumps(calls)
    response = await served.post("/a2a/support", content=body, headers={"content-type": "application/json"})
    told = response.json()
    assert response.status_code == 200
    assert ("result" in told) != ("error" in told)
    assert await rows_of_feedback(postgres_url) - before == ("result" in told)
