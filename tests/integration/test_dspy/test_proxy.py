"""The proxy between the official OpenAI client and a provider on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import SecretStr

from bindu.dspy import access
from bindu.dspy.access import create_key
from bindu.dspy.storage import Storage, close_storage, get_storage
from bindu.dspy.web.app import create_app
from bindu.settings import app_settings
from browsing import listening
from conftest import fetch, until, value
from relay import Relay
from samples import open_trial
from serving import serving
from upstream import Provider

TEXT = "Be kind."  # what agents begin with
STRANGER = {"X-Forwarded-For": "203.0.113.5"}  # a reverse proxy on this machine says who asks
HELLO = [{"role": "system", "content": TEXT}, {"role": "user", "content": "Hello"}]
NAMED = {"X-Prompt-Name": "support"}
COUNT = "SELECT count(*) FROM bindu_dspy.tasks"


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider().listening() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.came.clear()
    running.goes_on.clear()
    return running


@pytest.fixture
async def storage(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Storage]:
    """This event loop's own: the server has another one."""
    monkeypatch.setattr(app_settings.storage, "postgres_url", postgres_url)
    yield await get_storage()
    await close_storage()


@pytest.fixture
def serve(postgres_url: str, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Serves the application in a thread, with more settings of the proxy: its origin."""
    monkeypatch.setattr(app_settings.storage, "postgres_url", postgres_url)

    @contextmanager
    def serving(**more: Any) -> Iterator[str]:
        for name, setting in {"upstream": provider.url, "spool_folder": str(tmp_path), **more}.items():
            monkeypatch.setattr(app_settings.dspy.proxy, name, setting)
        with listening(create_app(), "on") as origin:
            yield origin

    return serving


@pytest.fixture
async def origin(serve: Callable[..., Any], storage: Storage) -> AsyncIterator[str]:
    await storage.bootstrap("support", TEXT)
    with serve() as origin:
        yield origin


def client(origin: str, **options: Any) -> OpenAI:
    return OpenAI(base_url=f"{origin}/v1", api_key="sk-provider", max_retries=0, timeout=20, **options)


def client_async(origin: str, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{origin}/v1", api_key="sk-provider", max_retries=0, timeout=20, **options)


async def ask(client: AsyncOpenAI, *said: str, prompt: str = TEXT, **more: Any) -> Any:
    messages: Any = [{"role": "system", "content": prompt}]
    for place, text in enumerate(said):
        messages.append({"role": "assistant" if place % 2 else "user", "content": text})
    return await client.chat.completions.create(model="tiny", messages=messages, **more)


def told_by_us(caplog: pytest.LogCaptureFixture) -> str:
    """All of the log but the caller's own."""
    theirs = ("openai", "httpx", "httpcore")
    records = [record for record in caplog.records if not record.name.startswith(theirs)]
    assert records
    return "\n".join(map(logging.Formatter().format, records))


async def tasks(url: str) -> list[dict[str, Any]]:
    query = (
        "SELECT t.id, t.agent_id, t.prompt_id, t.state, t.unit_id, t.context_id, t.history, t.usage, t.latency_ms, "
        "p.prompt_text AS text, k.external_id FROM bindu_dspy.tasks t JOIN bindu_dspy.prompts p "
        "ON p.agent_id = t.agent_id AND p.id = t.prompt_id LEFT JOIN bindu_dspy.task_keys k "
        "ON k.agent_id = t.agent_id AND k.task_id = t.id ORDER BY t.id"
    )
    return [
        {**row, "history": json.loads(row["history"]), "usage": json.loads(row["usage"] or "null")}
        for row in await fetch(url, query)
    ]


async def recorded(url: str, number: int = 1) -> list[dict[str, Any]]:
    await until(url, COUNT, number)
    return await tasks(url)


@pytest.fixture
async def improved(serve: Callable[..., Any], storage: Storage) -> AsyncIterator[str]:
    """An agent whose candidate answers nearly all requests: what is sent is not what the caller wrote."""
    await open_trial(storage, "support", 0.999999)
    with serve() as origin:
        yield origin


# the prompt is put in, the exchange is recorded


async def test_a_chat_is_answered_with_the_better_prompt_and_recorded_once(
    improved: str, postgres_url: str, provider: Provider
) -> None:
    with client(improved) as ai:
        raw = ai.chat.completions.with_raw_response.create(model="tiny", messages=HELLO, temperature=0.1)
    answer = raw.parse()
    better = "Be kinder than prompt 1."
    assert answer.choices[0].message.content == f"{better}|Hello"
    assert (raw.headers["x-prompt-name"], raw.headers["x-prompt-version"]) == ("support", "2")
    assert provider.last.body == {
        "messages": [{"role": "system", "content": better}, HELLO[1]],
        "model": "tiny",
        "temperature": 0.1,
    }
    [task] = await recorded(postgres_url)
    assert (task["agent_id"], task["prompt_id"], task["text"]) == ("support", 2, better)
    assert task["history"] == [HELLO[1], {"role": "assistant", "content": f"{better}|Hello"}]
    assert (task["state"], task["external_id"]) == ("completed", answer.id)
    assert task["usage"]["total_tokens"] == 5
    assert 0 < task["latency_ms"] < 10_000


async def test_a_stream_passes_piece_by_piece_and_is_recorded_as_one_answer(
    improved: str, postgres_url: str, provider: Provider
) -> None:
    said = "pauses, then goes on"
    with client(improved) as ai:
        stream = ai.chat.completions.create(
            model="tiny", messages=[HELLO[0], {"role": "user", "content": said}], stream=True
        )
        pieces = []
        for event in stream:
            pieces += [choice.delta.content or "" for choice in event.choices]
            if sum(map(bool, pieces)) == 2:
                provider.goes_on.set()  # two came while the provider still held back the rest
    whole = f"Be kinder than prompt 1.|{said}"
    assert "".join(pieces) == whole
    [task] = await recorded(postgres_url)
    assert task["history"][-1] == {"role": "assistant", "content": whole}
    assert (task["state"], task["usage"]["total_tokens"]) == ("completed", 5)


@pytest.mark.parametrize("streams", [False, True])
async def test_a_tool_call_is_recorded_as_it_was_made(origin: str, postgres_url: str, streams: bool) -> None:
    messages: Any = [HELLO[0], {"role": "user", "content": "use a tool"}]
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    with client(origin) as ai:
        if streams:
            with ai.chat.completions.stream(model="tiny", messages=messages, tools=tools) as stream:
                call = stream.get_final_completion().choices[0].message.tool_calls[0]  # type: ignore[index]
        else:
            done = ai.chat.completions.create(model="tiny", messages=messages, tools=tools)
            call = done.choices[0].message.tool_calls[0]  # type: ignore[index]
    assert (call.function.name, call.function.arguments) == ("look", '{"at": "it"}')
    [task] = await recorded(postgres_url)
    [made] = task["history"][-1]["tool_calls"]
    assert made == {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("asked", ["Hello", [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]])
async def test_a_response_is_answered_with_the_better_prompt_and_recorded_once(
    improved: str, postgres_url: str, provider: Provider, streams: bool, asked: Any
) -> None:
    with client(improved) as ai:
        if streams:
            with ai.responses.stream(model="tiny", instructions=TEXT, input=asked) as stream:
                answer = stream.get_final_response()
        else:
            answer = ai.responses.create(model="tiny", instructions=TEXT, input=asked)
    better = "Be kinder than prompt 1."
    assert answer.output_text == f"{better}|Hello"
    assert provider.last.body["instructions"] == better
    assert provider.last.body["input"] == asked
    [task] = await recorded(postgres_url)
    assert (task["prompt_id"], task["state"], task["external_id"]) == (2, "completed", answer.id)
    assert task["history"] == [HELLO[1], {"role": "assistant", "content": f"{better}|Hello"}]


async def test_the_async_client_gets_the_same(improved: str, postgres_url: str) -> None:
    async with client_async(improved) as ai:
        answer = await ask(ai, "Hello")
        stream = await ask(ai, "Hello", stream=True)
        text = "".join([event.choices[0].delta.content or "" async for event in stream if event.choices])
    assert answer.choices[0].message.content == text == "Be kinder than prompt 1.|Hello"
    assert [task["prompt_id"] for task in await recorded(postgres_url, 2)] == [2, 2]


async def test_the_first_text_of_a_named_agent_becomes_its_prompt(
    serve: Callable[..., Any], postgres_url: str, provider: Provider
) -> None:
    with serve() as origin:
        async with client_async(origin, default_headers={"X-Prompt-Name": "new"}) as ai:
            answers = await asyncio.gather(*(ask(ai, f"Hello {n}", prompt="You are new.") for n in range(10)))
        assert {answer.choices[0].message.content.split("|")[0] for answer in answers} == {"You are new."}
        done = await recorded(postgres_url, 10)
    assert {(task["agent_id"], task["prompt_id"], task["text"]) for task in done} == {("new", 1, "You are new.")}
    assert await value(postgres_url, "SELECT count(*) FROM bindu_dspy.prompts") == 1


async def test_a_text_that_nobody_has_passes_untouched_and_unrecorded(
    origin: str, postgres_url: str, provider: Provider
) -> None:
    messages = b'[{"role":"system","content":"A stranger\'s."},{"role":"user","content":"\\u0041"}]'
    body = b'{ "model":"tiny",\n"messages" : ' + messages + b"}"
    async with httpx.AsyncClient(base_url=origin) as http:
        answer = await http.post("/v1/chat/completions", content=body)
    assert answer.json()["choices"][0]["message"]["content"] == "A stranger's.|A"
    assert provider.last.raw == body
    assert "x-prompt-name" not in answer.headers
    async with client_async(origin) as ai:
        await ask(ai, "Hello")
    assert len(await recorded(postgres_url)) == 1


async def test_the_text_of_two_agents_needs_a_name(
    serve: Callable[..., Any], storage: Storage, postgres_url: str
) -> None:
    for agent in ("a", "b"):
        await storage.bootstrap(agent, TEXT)
    with serve() as origin:
        async with client_async(origin) as ai:
            await ask(ai, "Whose?")
            await ask(ai, "Of b.", extra_headers={"X-Prompt-Name": "b"})
        [task] = await recorded(postgres_url)
    assert task["agent_id"] == "b"


# conversations


async def test_a_conversation_keeps_its_prompt_over_turns_without_any_id_and_arms_have_their_shares(
    serve: Callable[..., Any], storage: Storage, postgres_url: str
) -> None:
    await open_trial(storage, "support", 0.3)
    many, turns = 200, 2
    with serve() as origin:
        async with client_async(origin) as ai:

            async def talk(number: int) -> set[str]:
                said, prompts = [f"I am {number}."], set()
                for turn in range(turns):
                    answer = (await ask(ai, *said)).choices[0].message.content
                    prompts.add(answer.split("|")[0])
                    said += [answer, f"Turn {turn} of {number}."]
                return prompts

            talks = await asyncio.gather(*map(talk, range(many)))
        done = await recorded(postgres_url, many * turns)
    assert all(len(prompts) == 1 for prompts in talks)
    assert all(task["history"][-1]["content"].startswith(f"{task['text']}|") for task in done)  # none mis-attributed
    by_unit: dict[str, list[dict[str, Any]]] = {}
    for task in done:
        by_unit.setdefault(task["unit_id"], []).append(task)
    assert sorted(Counter(map(len, by_unit.values())).items()) == [(turns, many)]
    assert all(len({task["history"][0]["content"] for task in unit}) == 1 for unit in by_unit.values())
    candidates = sum(unit[0]["prompt_id"] == 2 for unit in by_unit.values())
    assert 30 <= candidates <= 90  # of 200 at 30 %: beyond 4.6 standard deviations
    units = await fetch(postgres_url, "SELECT arm, count(*) FROM bindu_dspy.units GROUP BY arm ORDER BY arm")
    assert [tuple(row) for row in units] == [("active", many - candidates), ("candidate", candidates)]


@pytest.mark.parametrize(
    "more",
    [
        {"extra_headers": {"X-Conversation-Id": "c-7"}},
        {"metadata": {"conversation_id": "c-7"}, "store": True},
    ],
)
async def test_a_conversation_that_the_caller_names_is_the_unit(
    origin: str, postgres_url: str, provider: Provider, more: dict[str, Any]
) -> None:
    async with client_async(origin) as ai:
        await ask(ai, "Hello", **more)
    [task] = await recorded(postgres_url)
    assert (task["unit_id"], task["context_id"]) == ("c-7", "c-7")
    assert "x-conversation-id" not in provider.last.headers


async def test_a_conversation_with_too_long_a_name_is_known_by_what_was_said(origin: str, postgres_url: str) -> None:
    async with client_async(origin) as ai:
        for end in ("1", "2"):
            await ask(ai, "Hello", extra_headers={"X-Conversation-Id": "c" * 200 + end})
    units = {task["unit_id"] for task in await recorded(postgres_url, 2)}
    assert len(units) == 2
    assert all(len(unit) <= 36 for unit in units)


async def test_a_chain_of_responses_is_one_conversation(origin: str, postgres_url: str) -> None:
    async with client_async(origin) as ai:
        last = None
        for turn in range(3):
            more = {} if last is None else {"previous_response_id": last}
            last = (await ai.responses.create(model="tiny", instructions=TEXT, input=f"Turn {turn}", **more)).id
    done = await recorded(postgres_url, 3)
    assert len({task["unit_id"] for task in done}) == 1


# feedback


async def test_feedback_by_the_answers_id_right_after_it_is_stored(origin: str, postgres_url: str) -> None:
    async with client_async(origin) as ai, httpx.AsyncClient(base_url=origin) as http:

        async def rated(number: int) -> int:
            streams = bool(number % 2)
            answer = await ask(ai, f"Hello {number}", stream=streams)
            if streams:
                ids = {event.id async for event in answer}
                [answer_id] = ids
            else:
                answer_id = answer.id
            vote = {"response_id": answer_id, "rating": 5, "agent": "support"}
            return (await http.post("/v1/feedback", json=vote)).status_code

        assert await asyncio.gather(*map(rated, range(60))) == [201] * 60
    votes = await fetch(
        postgres_url,
        "SELECT count(DISTINCT f.task_id) FROM bindu_dspy.task_feedback f JOIN bindu_dspy.task_keys USING (task_id)",
    )
    assert votes[0][0] == 60


# what passes through


async def test_models_and_embeddings_and_all_else_pass_through(
    origin: str, postgres_url: str, provider: Provider
) -> None:
    with client(origin) as ai:
        assert [model.id for model in ai.models.list()] == ["tiny"]
        assert provider.last.headers["authorization"] == "Bearer sk-provider"
        made = ai.embeddings.create(model="tiny", input="x", encoding_format="float")
        assert made.data[0].embedding == [0.25, -1.5]
        ai.models.retrieve("org/model é?")
        assert provider.last.path == "/v1/models/org%2Fmodel%20%C3%A9%3F"
        ai.files.list(limit=3)
        assert (provider.last.path, provider.last.query) == ("/v1/files", "limit=3")
        raw = ai.models.with_raw_response.delete("ft:x")
        assert (provider.last.method, provider.last.path) == ("DELETE", "/v1/models/ft:x")
        assert raw.headers["x-request-id"] == "req_7"
    async with httpx.AsyncClient(base_url=origin) as http:
        head = await http.head("/v1/files")
    assert (head.status_code, head.content, provider.last.method) == (200, b"", "HEAD")
    assert len(head.headers.get_list("date")) == 1
    assert await value(postgres_url, COUNT) == 0


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/files/..%2f..%2fadmin",
        "/v1/x%0d%0aEvil:%201",
        "/v1/x%3fa=b",
        "/v1//e.example/",
    ],
)
async def test_a_path_never_leads_out_of_the_providers_and_carries_nothing_else(
    origin: str, provider: Provider, path: str
) -> None:
    host, port = origin.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    status = int((await reader.read()).split()[1])
    writer.close()
    await writer.wait_closed()
    if status == 200:
        assert provider.last.path == path
        assert "evil" not in provider.last.headers
    else:
        assert status == 404
        assert provider.came == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"messages": "x"}',
        b'{"model": "tiny"}',
        b'{"messages": [3]}',
        b'{"messages":' + b"[" * 50_000,
    ],
)
async def test_what_is_no_request_is_the_providers_to_refuse(
    origin: str, provider: Provider, postgres_url: str, body: bytes
) -> None:
    async with httpx.AsyncClient(base_url=origin) as http:
        answer = await http.post("/v1/chat/completions", content=body, headers=NAMED)
    assert answer.text == "Internal Server Error"  # this provider's, which does not expect it
    assert await value(postgres_url, COUNT) == 0


# errors


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_an_error_of_the_provider_passes_and_only_its_own_faults_are_recorded(
    origin: str, postgres_url: str, status: int, error: type[openai.APIStatusError]
) -> None:
    async with client_async(origin) as ai:
        with pytest.raises(error, match="As you wished") as refused:
            await ask(ai, f"status {status}")
        await ask(ai, "Hello")
    assert refused.value.status_code == status
    assert refused.value.code == "wish"
    assert refused.value.response.headers["retry-after"] == "7"
    assert refused.value.request_id == "req_7"
    states = [task["state"] for task in await recorded(postgres_url, 1 + (status == 500))]
    assert states == (["failed", "completed"] if status == 500 else ["completed"])


async def test_a_provider_that_is_down_is_a_502_in_words(
    serve: Callable[..., Any], storage: Storage, postgres_url: str
) -> None:
    await storage.bootstrap("support", TEXT)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{taken.getsockname()[1]}"
        with serve(upstream=f"http://ann:secret@{nowhere}/v1") as origin:
            async with client_async(origin) as ai:
                with pytest.raises(openai.InternalServerError) as refused:
                    await ask(ai, "Hello")
            [task] = await recorded(postgres_url)
    assert refused.value.status_code == 502
    assert nowhere in refused.value.message
    assert "secret" not in refused.value.message
    assert task["state"] == "failed"
    assert task["history"] == [HELLO[1]]


async def test_a_provider_that_is_silent_is_a_504_when_patience_ends(
    serve: Callable[..., Any], storage: Storage, postgres_url: str
) -> None:
    await storage.bootstrap("support", TEXT)
    with serve(timeout=0.2) as origin:
        async with client_async(origin) as ai:
            with pytest.raises(openai.InternalServerError, match="did not answer in time") as refused:
                await ask(ai, "silent")
        [task] = await recorded(postgres_url)
    assert (refused.value.status_code, task["state"]) == (504, "failed")


async def test_a_stream_that_the_provider_breaks_off_is_seen_as_broken_and_recorded_as_failed(
    origin: str, postgres_url: str
) -> None:
    async with client_async(origin) as ai:
        stream = await ask(ai, "breaks off", stream=True)
        with pytest.raises((openai.APIError, httpx.RemoteProtocolError)):
            _ = [event async for event in stream]
    [task] = await recorded(postgres_url)
    assert task["state"] == "failed"
    assert "Be kind.|breaks off".startswith(task["history"][-1]["content"])


async def test_a_caller_that_leaves_in_mid_stream_is_recorded_as_canceled_with_what_was_said(
    origin: str, postgres_url: str, provider: Provider
) -> None:
    async with client_async(origin) as ai:
        stream = await ask(ai, "pauses for ever", stream=True)
        async for event in stream:
            if event.choices[0].delta.content:
                break
        await stream.close()
        provider.goes_on.set()
    [task] = await recorded(postgres_url)
    assert task["state"] == "canceled"
    assert "Be kind.|pauses for ever".startswith(task["history"][-1]["content"])


# who may, and what is told to whom


async def test_strangers_need_a_key_and_the_provider_never_sees_it(
    origin: str, storage: Storage, provider: Provider, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, ours = await create_key("shop", ["select"], agent_id="support")
    _, foreign = await create_key("other", ["select"], agent_id="other")
    async with client_async(origin, default_headers=STRANGER) as ai:
        for headers in (
            {},
            {"X-Bindu-Key": "bindu_wrong"},
            {"X-Bindu-Key": foreign},
            {"Authorization": f"Bearer {foreign}"},
        ):
            with pytest.raises(openai.AuthenticationError):
                await ask(ai, "Hello", extra_headers=headers)
        with pytest.raises(openai.AuthenticationError):
            await ai.models.list()
        assert provider.came == []
        await ask(ai, "Hello", extra_headers={"X-Bindu-Key": ours})
        assert provider.last.headers["authorization"] == "Bearer sk-provider"
        await ask(ai, "Hello", extra_headers={"Authorization": f"Bearer {ours}"})
        assert "authorization" not in provider.last.headers
    assert ours not in json.dumps([came.headers for came in provider.came])
    assert [task["agent_id"] for task in await recorded(postgres_url, 2)] == ["support", "support"]
    assert not [secret for secret in (ours, foreign, "sk-provider") if secret in told_by_us(caplog)]


async def test_while_the_database_is_silent_callers_who_were_known_wait_once_at_most(
    serve: Callable[..., Any], storage: Storage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.bootstrap("support", TEXT)
    _, ours = await create_key("shop", ["select"], agent_id="support")
    monkeypatch.setattr(access, "_FRESH_SECONDS", 0.0)
    with Relay(postgres_url) as relay:
        monkeypatch.setattr(app_settings.storage, "postgres_url", relay.url)
        with serve() as origin:
            async with client_async(origin, default_headers=STRANGER | {"X-Bindu-Key": ours}) as ai:
                await ask(ai, "Before")
                await until(postgres_url, COUNT, 1)
                relay.stall()
                took = []
                for prompt in (TEXT, TEXT, "Unknown.", TEXT, "Unknown, too.", TEXT):
                    began = monotonic()
                    await ask(ai, "During", prompt=prompt)
                    took.append(monotonic() - began)
                relay.restore()
            await until(postgres_url, COUNT, 5)
    assert sum(took) < 3  # one second for the key, one for the first unknown text
    assert sorted(took)[-3] < 0.2


async def test_a_name_with_a_line_end_begins_no_header(serve: Callable[..., Any], storage: Storage) -> None:
    await storage.bootstrap("a\r\nSet-Cookie: b=c", TEXT)
    with serve() as origin:
        async with client_async(origin) as ai:
            raw = await ai.chat.completions.with_raw_response.create(model="tiny", messages=HELLO)
    assert raw.headers["x-prompt-name"] == "a??Set-Cookie: b=c"
    assert "set-cookie" not in raw.headers


async def test_a_key_without_the_right_to_write_does_not_make_a_named_agents_first_prompt(
    serve: Callable[..., Any], storage: Storage, provider: Provider, postgres_url: str
) -> None:
    _, reader = await create_key("reader", ["select"], agent_id="new")
    with serve() as origin:
        async with client_async(origin, default_headers=STRANGER | {"X-Bindu-Key": reader}) as ai:
            answer = await ask(ai, "Hello", prompt="Mine.", extra_headers={"X-Prompt-Name": "new"})
    assert answer.choices[0].message.content == "Mine.|Hello"
    assert await value(postgres_url, "SELECT count(*) FROM bindu_dspy.prompts") == 0


async def test_with_a_key_of_our_own_the_callers_is_replaced(
    serve: Callable[..., Any], provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(upstream_key=SecretStr("sk-house")) as origin:
        async with client_async(origin) as ai:
            await ask(ai, "Hello", extra_headers={"Cookie": "session=1"})
    assert provider.last.headers["authorization"] == "Bearer sk-house"
    assert "cookie" not in provider.last.headers
    assert not [secret for secret in ("sk-house", "sk-provider") if secret in told_by_us(caplog)]


async def test_a_connection_that_the_provider_closed_meanwhile_fails_no_request(storage: Storage) -> None:
    await storage.bootstrap("support", "Be kind.")
    connections = 0

    async def answers_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
        body = b'{"id": "a-%d", "choices": [{"message": {"role": "assistant", "content": "Yes."}}]}' % connections
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await reader.read(1)  # the next request comes, and is left alone
        writer.close()

    provider = await asyncio.start_server(answers_once, "127.0.0.1", 0)
    port = provider.sockets[0].getsockname()[1]
    asked = {"model": "m", "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hm?"}]}
    async with serving({"upstream": f"http://127.0.0.1:{port}/v1"}) as served:
        for _ in range(4):
            answer = await served.http.post("/v1/chat/completions", json=asked)
            assert answer.status_code == 200, answer.text
    assert connections == 4
    provider.close()
