"""Every call is counted, capped and retried; a failing model stops the run even when nobody looks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import dspy
import pytest
from dspy import lm15
from dspy.utils.exceptions import LMError
from pydantic import SecretStr

from bindu.dspy.engine import CountingEngine, InnerEngine, ProviderEngine, Role
from bindu.dspy.errors import BinduError, BudgetExceededError, ModelUnavailableError
from bindu.dspy.simulation.server import Faults, SimulatedServer
from bindu.settings import DspySettings

MODELS: dict[Role, str] = {"agent": "scripted/a", "judge": "scripted/j", "reflector": "scripted/r"}


def answer(text: str) -> lm15.Response:
    message = lm15.Message.assistant(text)
    usage = lm15.Usage(input_tokens=3, output_tokens=1)
    return lm15.Response(id=None, model="scripted", message=message, finish_reason="stop", usage=usage)


def request(text: str = "Hello?", temperature: float | None = None) -> lm15.Request:
    config = lm15.Config(temperature=temperature)
    return lm15.Request(model="scripted/a", messages=(lm15.Message.user(text),), config=config)


class Script:
    """A model that does what the next line of its script says; the last line repeats."""

    def __init__(self, *lines: str | Exception) -> None:
        self.lines = list(lines)
        self.calls = 0
        self._lock = threading.Lock()

    def complete(self, request: lm15.Request) -> lm15.Response:
        with self._lock:
            self.calls += 1
            line = self.lines.pop(0) if len(self.lines) > 1 else self.lines[0]
        if isinstance(line, Exception):
            raise line
        return answer(line)


def counting(inner: InnerEngine, *, max_calls: int = 1_000, max_error_rate: float = 0.25) -> CountingEngine:
    return CountingEngine(
        inner, models=MODELS, max_calls=max_calls, max_error_rate=max_error_rate, attempts=3, backoff=0.001
    )


def test_calls_are_counted_by_role_with_their_tokens() -> None:
    engine = counting(Script("yes"))
    for role, times in (("agent", 3), ("judge", 2)):
        for _ in range(times):
            assert engine.lm(role)("Hello?") == ["yes"]  # type: ignore[arg-type]
    assert dict(engine.calls) == {"agent": 3, "judge": 2}
    assert (engine.used, engine.tokens["input"], engine.tokens["output"]) == (5, 15, 5)


def test_the_cap_holds_for_many_threads_at_once() -> None:
    inner = Script("yes")
    engine = counting(inner, max_calls=100)

    def call(number: int) -> bool:
        try:
            engine.complete("agent", request(str(number)))
        except BudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        served = sum(pool.map(call, range(400)))
    assert served == inner.calls == engine.used == 100


def test_a_swallowed_failure_is_latched_and_raised_by_check() -> None:
    engine = counting(Script("yes"), max_calls=1)
    lm = engine.lm("agent")
    lm("one")
    for _ in range(3):
        with pytest.raises(LMError):
            lm("two")
    with pytest.raises(BudgetExceededError, match="limit of 1 model calls"):
        engine.check()


@pytest.mark.parametrize(
    "error",
    [
        lm15.ServerError("502"),
        lm15.RateLimitError("429", retry_after=0.001),
        lm15.TransportError("reset"),
        ConnectionResetError(),
    ],
    ids=["server", "rate", "transport", "connection"],
)
def test_what_passes_is_tried_again(error: Exception) -> None:
    engine = counting(Script(error, error, "yes"))
    assert engine.complete("agent", request()).text == "yes"
    assert engine.used == 3
    engine.check()


@pytest.mark.parametrize("error", [lm15.InvalidRequestError("bad"), lm15.AuthError("no"), KeyError("bug")])
def test_what_stays_is_not_tried_again(error: Exception) -> None:
    inner = Script(error, "yes")
    with pytest.raises(type(error)):
        counting(inner).complete("agent", request())
    assert inner.calls == 1


def test_a_failing_model_stops_the_run_within_its_error_rate() -> None:
    inner = Script(lm15.InvalidRequestError("fell over"))
    engine = counting(inner)
    for _ in range(200):
        with pytest.raises((lm15.InvalidRequestError, ModelUnavailableError)):
            engine.complete("judge", request())
    assert inner.calls == 26
    with pytest.raises(ModelUnavailableError, match=r"26 of the last 26 model calls failed.*scripted/j.*fell over"):
        engine.check()


def test_a_rare_failure_does_not_stop_the_run() -> None:
    engine = counting(Script(*["yes"] * 9, lm15.InvalidRequestError("once"), *["yes"] * 200))
    for number in range(150):
        with suppress(lm15.InvalidRequestError):
            engine.complete("agent", request(str(number)))
    engine.check()
    assert engine.errors == {"InvalidRequestError": 1}


def test_rate_limits_that_pass_are_no_errors() -> None:
    lines: list[str | Exception] = []
    for _ in range(60):
        lines += [lm15.RateLimitError("slow down", retry_after=0.0), "yes"]
    engine = counting(Script(*lines, "yes"))
    for number in range(60):
        engine.complete("agent", request(str(number)))
    engine.check()


def test_unreadable_answers_count_as_failed_calls() -> None:
    engine = counting(Script("gibberish"))
    for _ in range(26):
        engine.complete("judge", request())
        engine.unreadable("judge", ValueError("no score"))
    with pytest.raises(ModelUnavailableError, match="no score"):
        engine.check()


def test_a_repeatable_request_is_paid_once_and_a_sampled_one_every_time() -> None:
    engine = counting(Script("one", "two", "three", "four"))
    assert [engine.complete("judge", request(temperature=0.0)).text for _ in range(3)] == ["one", "one", "one"]
    assert [engine.complete("agent", request(temperature=1.0)).text for _ in range(2)] == ["two", "three"]
    assert engine.complete("agent", request(temperature=0.0)).text == "four"  # another role, another model
    assert engine.used == 4
    assert engine.cached == 2


def test_preflight_asks_each_model_once() -> None:
    same, other = Script("ready"), Script("ready")
    engine = CountingEngine(
        {"agent": same, "judge": other, "reflector": same}, models=MODELS | {"reflector": "scripted/a"}, max_calls=9
    )
    engine.preflight()
    assert (same.calls, other.calls) == (1, 1)


@pytest.mark.parametrize("line", [lm15.AuthError("wrong key"), "  "])
def test_preflight_finds_a_dead_model_and_says_what_to_check(line: str | Exception) -> None:
    with pytest.raises(ModelUnavailableError, match=r"scripted/a.*[a-z]\. Nothing was.*Check DSPY__DEFAULT_MODEL"):
        counting(Script(line)).preflight()


def test_the_wrapper_costs_a_tenth_of_a_millisecond_at_most() -> None:
    response = answer("yes")

    class Instant:
        def complete(self, request: lm15.Request) -> lm15.Response:
            return response

    engine = counting(Instant(), max_calls=100_000)
    asked = request()
    best = min(_timed(engine, asked) for _ in range(5))
    assert best < 1e-4


def _timed(engine: CountingEngine, asked: lm15.Request, n: int = 500) -> float:
    start = time.process_time()
    for _ in range(n):
        engine.complete("agent", asked)
    return (time.process_time() - start) / n


class _Handler(BaseHTTPRequestHandler):
    statuses: ClassVar[list[int]] = []
    bodies: ClassVar[list[dict[str, object]]] = []
    keys: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        type(self).bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        type(self).keys.append(self.headers.get("Authorization"))
        status = self.statuses.pop(0) if self.statuses else 200
        choice = {"index": 0, "message": {"role": "assistant", "content": "ready"}, "finish_reason": "stop"}
        good = {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice]}
        body = json.dumps(good if status == 200 else {"error": {"message": "try later"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextmanager
def served(*statuses: int) -> Iterator[str]:
    _Handler.statuses, _Handler.bodies, _Handler.keys = list(statuses), [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_real_server_is_asked_as_the_settings_say_and_asked_again_when_it_stumbles() -> None:
    with served(500, 429) as base:
        settings = DspySettings(default_model="openai/tiny", api_base=base, api_key=SecretStr("k-1"))
        engine = CountingEngine.from_settings(settings)
        engine.backoff = 0.001
        system = "  exactly\n    this {x}"
        asked = lm15.Request(model="openai/tiny", system=system, messages=(lm15.Message.user("Hello?"),))
        assert engine.complete("agent", asked).text == "ready"
    assert engine.used == 3
    assert [body["messages"] for body in _Handler.bodies] == [
        [{"role": "system", "content": system}, {"role": "user", "content": "Hello?"}]
    ] * 3
    assert {body["model"] for body in _Handler.bodies} == {"tiny"}
    assert set(_Handler.keys) == {"Bearer k-1"}


def test_a_closed_port_is_a_dead_model() -> None:
    with served() as base:
        pass
    settings = DspySettings(default_model="openai/tiny", api_base=base, api_key=SecretStr("k-1"))
    engine = CountingEngine.from_settings(settings)
    engine.backoff = 0.001
    with pytest.raises(ModelUnavailableError, match="openai/tiny"):
        engine.preflight()


def test_a_provider_answers_from_many_threads() -> None:
    with served() as base:
        provider = ProviderEngine("openai/tiny", api_base=base, api_key="k")
        with ThreadPoolExecutor(8) as pool:
            texts = list(pool.map(lambda number: provider.complete(request(str(number))).text, range(40)))
    assert texts == ["ready"] * 40
    assert dspy.settings.lm is None


def test_a_stopped_engine_asks_nobody_and_keeps_its_first_reason() -> None:
    inner = Script("yes")
    engine = counting(inner)
    engine.stop(BinduError("The run was interrupted."))
    engine.stop(BinduError("Too late."))
    for _ in range(3):
        with pytest.raises(BinduError, match="was interrupted"):
            engine.complete("agent", request())
    with pytest.raises(BinduError, match="was interrupted"):
        engine.check()
    assert inner.calls == engine.used == 0


def test_stopping_ends_the_wait_for_a_slow_server_and_for_a_retry() -> None:
    with SimulatedServer(0, faults=Faults(latency_ms=30_000)) as server:
        settings = DspySettings(default_model="openai/tiny", api_base=server.base_url, api_key=SecretStr("k"))
        engine = CountingEngine.from_settings(settings)
        threading.Timer(0.3, engine.stop, [BinduError("Enough.")]).start()
        start = time.monotonic()
        with pytest.raises(BinduError, match="Enough"):
            engine.complete("agent", request())
        assert time.monotonic() - start < 5
