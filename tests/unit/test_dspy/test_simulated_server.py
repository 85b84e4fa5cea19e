"""The simulated model over real HTTP, with the faults of real ones."""

import json
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import dspy
import httpx
import pytest
from dspy import lm15

from bindu.dspy.simulation.desk import START_PROMPT
from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.server import MODEL, Faults, SimulatedServer

MESSAGES = [{"role": "system", "content": START_PROMPT}, {"role": "user", "content": "Where is my refund?"}]


@pytest.fixture(scope="module")
def running() -> SimulatedServer:
    with SimulatedServer(seed=1) as server:
        yield server


@pytest.fixture
def server(running: SimulatedServer) -> SimulatedServer:
    running.faults = Faults()
    running.model = SimulatedModel(1)
    running.requests = 0
    running.billed.clear()
    return running


def ask(server: SimulatedServer, **body: object) -> httpx.Response:
    return httpx.post(f"{server.base_url}/chat/completions", json={"model": MODEL, "messages": MESSAGES, **body})


def test_a_completion_is_the_model_s_own_answer_with_usage(server: SimulatedServer) -> None:
    response = ask(server)
    assert response.status_code == 200
    told = response.json()
    expected = SimulatedModel(1).reply(START_PROMPT, [("user", "Where is my refund?")])
    assert told["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": expected}, "finish_reason": "stop"}
    ]
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"] > 50
    assert httpx.get(f"{server.base_url}/models").json()["data"][0]["id"] == MODEL


def test_a_stream_adds_up_to_the_same_answer_and_ends_with_usage_and_done(server: SimulatedServer) -> None:
    plain = ask(server, temperature=0).json()["choices"][0]["message"]["content"]
    body = {
        "model": MODEL,
        "messages": MESSAGES,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with httpx.stream("POST", f"{server.base_url}/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    events = [json.loads(line) for line in lines]
    assert "".join(c["delta"].get("content", "") for event in events for c in event["choices"]) == plain
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] > 10
    assert len(events) > 20


def test_content_in_parts_and_developer_messages_are_read_as_well(server: SimulatedServer) -> None:
    parts = [{"type": "text", "text": "Where is my "}, {"type": "text", "text": "refund?"}]
    messages = [{"role": "developer", "content": START_PROMPT}, {"role": "user", "content": parts}]
    assert (
        ask(server, temperature=0).json()["choices"] == ask(server, temperature=0, messages=messages).json()["choices"]
    )


@pytest.mark.parametrize("body", [{"messages": []}, {"messages": [{"role": "user"}]}, {"messages": 3}, []])
def test_a_malformed_request_is_a_sentence_and_400(server: SimulatedServer, body: object) -> None:
    response = httpx.post(f"{server.base_url}/chat/completions", json=body)
    assert response.status_code == 400
    assert "not a chat completion request" in response.json()["error"]["message"]


def test_dead_is_503_busy_is_429_with_retry_after_and_malformed_is_half_a_document(server: SimulatedServer) -> None:
    server.faults = Faults(dead=1.0)
    assert ask(server).status_code == 503
    server.faults = Faults(rate_limited=1.0, retry_after=7)
    busy = ask(server)
    assert (busy.status_code, busy.headers["retry-after"], busy.json()["error"]["type"]) == (
        429,
        "7",
        "rate_limit_error",
    )
    server.faults = Faults(malformed=1.0)
    broken = ask(server)
    assert broken.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        broken.json()
    assert server.requests == 3
    assert server.model.calls == {}


def test_half_dead_fails_that_share_of_requests_and_the_same_ones_in_every_run(server: SimulatedServer) -> None:
    server.faults = Faults(dead=0.5)
    with httpx.Client() as client:

        def statuses() -> list[int]:
            server.requests = 0
            url, body = f"{server.base_url}/chat/completions", {"messages": MESSAGES}
            return [client.post(url, json=body).status_code for _ in range(100)]

        first = statuses()
        assert first == statuses()
    assert 30 < first.count(503) < 70
    assert first.count(200) == 100 - first.count(503)


def test_an_echo_repeats_the_user_and_a_flood_is_fifty_kilobytes(server: SimulatedServer) -> None:
    server.faults = Faults(echo=1.0)
    assert ask(server).json()["choices"][0]["message"]["content"] == "Where is my refund?"
    server.faults = Faults(flood=1.0)
    told = ask(server).json()
    assert len(told["choices"][0]["message"]["content"]) == 50_000
    assert told["usage"]["completion_tokens"] > 12_000
    assert server.model.calls == {}


def test_what_is_billed_is_what_was_answered_useless_answers_included(server: SimulatedServer) -> None:
    usage = ask(server).json()["usage"]
    assert server.billed == {"input": usage["prompt_tokens"], "output": usage["completion_tokens"]}
    server.faults = Faults(malformed=1.0)
    ask(server)
    assert server.billed["input"] == 2 * usage["prompt_tokens"]
    assert server.billed["output"] > usage["completion_tokens"]


def test_a_stream_is_billed_from_its_first_word_on(server: SimulatedServer) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "stream": True}
    with httpx.stream("POST", f"{server.base_url}/chat/completions", json=body) as response:
        next(response.iter_lines())
    assert server.billed["output"] > 10


def test_refusals_and_bad_requests_are_not_billed(server: SimulatedServer) -> None:
    for faults in (Faults(dead=1.0), Faults(rate_limited=1.0)):
        server.faults = faults
        ask(server)
    server.faults = Faults()
    ask(server, messages=3)
    assert server.billed == {}


def test_a_request_with_a_seed_gets_the_same_answer_on_every_server_at_any_time(server: SimulatedServer) -> None:
    first = ask(server, seed=7).content.partition(b"choices")[2]
    others = {ask(server, seed=number).json()["choices"][0]["message"]["content"] for number in range(6)}
    assert ask(server, seed=7).content.partition(b"choices")[2] == first
    assert len(others) >= 3


def test_latency_is_waited_for_by_each_and_by_all_at_once(server: SimulatedServer) -> None:
    server.faults = Faults(latency_ms=200)
    started = perf_counter()
    with ThreadPoolExecutor(8) as pool:
        assert {response.status_code for response in pool.map(lambda _: ask(server), range(8))} == {200}
    assert 0.2 <= perf_counter() - started < 1.2


def test_dspy_speaks_to_it_as_to_any_openai_compatible_server(server: SimulatedServer) -> None:
    model = dspy.LM(f"openai/{MODEL}", api_base=server.base_url, api_key="none", cache=False, num_retries=0)
    asked = lm15.Request(model=model.model, system=START_PROMPT, messages=(lm15.Message.user("Where is my refund?"),))
    assert model(asked).text == SimulatedModel(1).reply(START_PROMPT, [("user", "Where is my refund?")])


def test_after_the_with_block_nothing_listens_any_more() -> None:
    with SimulatedServer() as server:
        assert httpx.get(f"{server.base_url}/models").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.base_url}/models")
