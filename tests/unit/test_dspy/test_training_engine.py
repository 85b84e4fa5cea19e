"""Every call is counted, capped and retried; a failing model stops the run even when nobody looks."""

from __future__ import annotations

import copy
import logging
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import dspy
import pytest
from dspy import lm15
from dspy.utils.exceptions import LMError
from pydantic import SecretStr

from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.budget import Budget
from bindu.dspy.engine.journal import Journal
from bindu.dspy.engine.pricing import Price
from bindu.dspy.engine.provider import ProviderEngine
from bindu.dspy.engine.speakers import ROLES, Role, Speaker
from bindu.dspy.errors import BinduError, BudgetExceededError, ModelUnavailableError
from bindu.settings import DspySettings, TrainingSettings
from providers import MODEL, Deed, Provider, Script, answer, asked_by_many, request, scripted, served


def settings_for(provider: Provider, **fields: object) -> DspySettings:
    return DspySettings(default_model=MODEL, api_base=provider.url, api_key=SecretStr("k-1"), **fields)  # type: ignore[arg-type]


def until(condition: Callable[[], object]) -> None:
    for _ in range(5_000):
        if condition():
            return
        threading.Event().wait(0.002)
    raise AssertionError("it never came")


def test_calls_are_counted_by_role_with_their_tokens() -> None:
    engine = scripted(Script("yes"))
    wanted: tuple[tuple[Role, int], ...] = (("agent", 3), ("judge", 2))
    for role, times in wanted:
        for number in range(times):
            assert engine.lm(role)(f"Hello, {role} {number}?") == ["yes"]
    assert dict(engine.calls) == {"agent": 3, "judge": 2}
    assert (engine.used, engine.tokens["input"], engine.tokens["output"]) == (5, 15, 5)


def test_the_roles_are_played_by_the_models_of_the_settings() -> None:
    settings = DspySettings(default_model="openai/a", judge_model="openai/j", reflection_model="openai/r")
    engine = CountingEngine.from_settings(settings)
    assert [engine.speaker(role).model for role in ROLES] == ["openai/a", "openai/j", "openai/r", "openai/j"]
    own = CountingEngine.from_settings(settings.model_copy(update={"gate_judge_model": "openai/g"}))
    assert own.speaker("gatekeeper").model == "openai/g"


def test_a_swallowed_failure_is_latched_and_raised_by_check() -> None:
    engine = scripted(Script("yes"), max_calls=1)
    lm = engine.lm("agent")
    lm("one")
    for text in ("two", "two", "one"):  # memory does not answer a run that is over either
        with pytest.raises(LMError):
            lm(text)
    with pytest.raises(BudgetExceededError, match="limit of 1 model calls"):
        engine.check()


def test_a_failure_that_is_told_a_thousand_times_does_not_grow() -> None:
    engine = scripted(Script("yes"))
    engine.stop(BinduError("Enough."))
    for _ in range(1_000):
        with pytest.raises(BinduError) as caught:
            engine.complete("agent", request())
    assert len(traceback.extract_tb(caught.value.__traceback__)) < 10


@pytest.mark.parametrize(
    "error",
    [
        lm15.ServerError("502"),
        lm15.RateLimitError("429", retry_after=0.001),
        lm15.TransportError("reset"),
        lm15.TimeoutError("late"),
        ConnectionResetError(),
    ],
    ids=["server", "rate", "transport", "timeout", "connection"],
)
def test_what_passes_is_tried_again(error: Exception) -> None:
    engine = scripted(Script(error, error, "yes"))
    assert engine.complete("agent", request()).text == "yes"
    assert engine.used == 3
    engine.check()


@pytest.mark.parametrize("error", [lm15.InvalidRequestError("bad"), lm15.AuthError("no"), KeyError("bug")])
def test_what_stays_is_not_tried_again(error: Exception) -> None:
    inner = Script(error, "yes")
    with pytest.raises(type(error)):
        scripted(inner).complete("agent", request())
    assert inner.calls == 1


def test_a_failing_model_stops_the_run_within_its_error_rate() -> None:
    inner = Script(lm15.InvalidRequestError("fell over"))
    engine = scripted(inner)
    for number in range(200):
        with pytest.raises((lm15.InvalidRequestError, ModelUnavailableError)):
            engine.complete("judge", request(str(number)))
    assert inner.calls == 26
    with pytest.raises(ModelUnavailableError, match=r"26 of the last 26 model calls failed.*scripted/a.*fell over"):
        engine.check()


@pytest.mark.parametrize(
    ("every", "rate", "ends"), [(4, 0.25, False), (3, 0.25, True), (3, 0.4, False), (2, 0.4, True)]
)
def test_a_run_ends_when_more_than_its_error_rate_fails(every: int, rate: float, ends: bool) -> None:
    lines = [lm15.InvalidRequestError("no") if number % every == 0 else "yes" for number in range(300)]
    engine = scripted(Script(*lines), max_error_rate=rate)
    for number in range(299):
        with suppress(lm15.InvalidRequestError, ModelUnavailableError):
            engine.complete("agent", request(str(number)))
    assert (engine.used < 299) is ends
    assert (engine.faults["refused"] == 100 * rate + 1) is ends


def test_a_rare_failure_does_not_stop_the_run() -> None:
    engine = scripted(Script(*["yes"] * 9, lm15.InvalidRequestError("once"), *["yes"] * 200))
    for number in range(150):
        with suppress(lm15.InvalidRequestError):
            engine.complete("agent", request(str(number)))
    engine.check()
    assert engine.faults == {"refused": 1}
    assert str(engine.last_error) == "once"


def test_rate_limits_that_pass_are_no_errors() -> None:
    lines: list[str | BaseException | lm15.Response] = []
    for _ in range(60):
        lines += [lm15.RateLimitError("slow down", retry_after=0.0), "yes"]
    engine = scripted(Script(*lines, "yes"))
    for number in range(60):
        engine.complete("agent", request(str(number)))
    engine.check()


@pytest.mark.parametrize("rate", [0.25, 0.9])
def test_unreadable_answers_count_as_failed_calls(rate: float) -> None:
    engine = scripted(Script("gibberish"), max_error_rate=rate)
    for number in range(int(100 * rate) + 1):
        engine.check()
        engine.complete("judge", request(str(number)))
        engine.unreadable("judge", ValueError("no score"))
    with pytest.raises(ModelUnavailableError, match=r"26 of the last 26.*no score|91 of the last 91") as caught:
        engine.check()
    assert caught.value.cause == "model_unreadable"


def refusal(_: int) -> lm15.Response:
    message = lm15.Message(role="assistant", parts=(lm15.RefusalPart(text="I will not."),))
    return lm15.Response(id=None, model="m", message=message, finish_reason="stop", usage=lm15.Usage())


def test_a_model_that_declines_in_its_own_words_refuses() -> None:
    engine = scripted(Script(refusal(0)))
    asked_by_many(engine, map(str, range(60)), threads=1)
    with pytest.raises(ModelUnavailableError) as caught:
        engine.check()
    assert (caught.value.cause, engine.used) == ("model_refuses", 26)


DEEDS: dict[str, tuple[list[Deed], str]] = {
    "dead": (["broken"], "model_dead"),
    "silent": (["hang_up"], "model_dead"),
    "dead after a while": (["answer"] * 40 + ["broken"] * 400, "model_dead"),
    "half dead": (["answer", "broken"], "model_failing"),
    "filtered": (["filtered"], "model_refuses"),
    "refused": (["refused"], "model_refuses"),
    "no JSON": (["malformed"], "model_unreadable"),
    "JSON of another kind": (["nonsense"], "model_unreadable"),
    "busy": (["busy"], "model_rate_limited"),
}


@pytest.mark.parametrize(("deeds", "cause"), DEEDS.values(), ids=DEEDS)
def test_every_way_to_fail_ends_the_run_with_its_own_cause(deeds: list[Deed], cause: str) -> None:
    with Provider(lambda number: deeds[number % len(deeds)]) as one:
        engine = served(one, attempts=2)
        asked_by_many(engine, map(str, range(300)), threads=4)
        with pytest.raises(ModelUnavailableError, match=r"of the last \d+ model calls failed.*openai/tiny") as caught:
            engine.check()
    assert caught.value.cause == cause
    failed = sum(engine.faults.values())
    assert failed <= (2 if cause == "model_rate_limited" else 1) * 26 + 4


def test_a_rate_limit_makes_everybody_wait_as_long_as_it_says() -> None:
    with (
        Provider(lambda number: "busy" if number == 0 else "answer", retry_after="0.4") as one,
        ThreadPoolExecutor(1) as pool,
    ):
        engine = served(one)
        first = pool.submit(asked_by_many, engine, ["first"], threads=1)
        until(lambda: engine.faults["rate_limited"])
        assert len(asked_by_many(engine, map(str, range(8)), threads=8)) == 8
        assert first.result() == {"first": "ready"}
        assert min(one.arrivals[1:]) >= one.arrivals[0] + 0.4


def test_a_server_that_says_when_it_is_back_is_not_asked_before() -> None:
    times: list[float] = []

    class Overloaded:
        def complete(self, request: lm15.Request) -> lm15.Response:
            times.append(time.monotonic())
            if len(times) < 3:
                raise lm15.ServerError("overloaded", status=503, retry_after=0.2)
            return answer("yes")

    assert scripted(Overloaded()).complete("agent", request()).text == "yes"
    assert times[1] - times[0] >= 0.2
    assert times[2] - times[1] >= 0.2


def test_preflight_asks_each_model_once() -> None:
    same, other = Script("ready"), Script("ready")
    one, two = Speaker("scripted/a", same), Speaker("scripted/j", other)
    speakers: dict[Role, Speaker] = {"agent": one, "judge": two, "reflector": one, "gatekeeper": two}
    engine = CountingEngine(speakers, budget=Budget(max_calls=9))
    engine.preflight()
    assert (same.calls, other.calls) == (1, 1)


@pytest.mark.parametrize("line", [lm15.AuthError("wrong key"), "  ", ""])
def test_preflight_finds_a_dead_model_and_says_what_to_check(line: str | Exception) -> None:
    with pytest.raises(
        ModelUnavailableError, match=r"scripted/a.*[a-z]\. Nothing was.*Check DSPY__DEFAULT_MODEL"
    ) as caught:
        scripted(Script(line)).preflight()
    assert caught.value.cause == "model_dead"


def test_a_copied_program_speaks_through_the_same_door(caplog: pytest.LogCaptureFixture) -> None:
    engine = scripted(Script("yes"))
    program = dspy.Predict("question -> answer")
    program.lm = engine.lm("agent")
    with caplog.at_level(logging.WARNING):
        assert program.deepcopy().lm("Hello?") == copy.deepcopy(program.lm)("Hello?") == ["yes"]
    assert engine.used == 1
    assert not caplog.records


def test_a_users_own_model_keeps_its_client_and_its_manner_and_is_counted() -> None:
    with Provider() as mine, Provider() as theirs:
        engine = CountingEngine.from_settings(settings_for(mine))
        given = dspy.LM(
            MODEL, api_base=theirs.url, api_key="k-2", temperature=0.3, top_p=0.9, max_tokens=50, stop=["."]
        )
        adopted = engine.adopt(given, "reflector")
        assert adopted("Hello?") == engine.lm("reflector", temperature=0.3)("Hello?") == ["ready"]
        assert (len(mine.bodies), len(theirs.bodies)) == (1, 1)
    assert engine.calls == {"reflector": 2}
    assert theirs.keys == ["Bearer k-2"]
    (body,) = theirs.bodies
    assert {"temperature": 0.3, "top_p": 0.9, "max_completion_tokens": 50, "stop": ["."]}.items() <= body.items()
    assert engine.adopt(adopted, "reflector") is adopted


def test_a_users_reasoning_model_can_be_adopted() -> None:
    engine = CountingEngine.from_settings(DspySettings())
    given = dspy.LM("openai/gpt-5-mini", api_key="k", temperature=1.0, max_tokens=20_000, reasoning_effort="low")
    kept = {"temperature": 1.0, "max_completion_tokens": 20_000, "reasoning_effort": "low"}
    assert engine.adopt(given, "reflector").kwargs == kept


def test_a_failing_model_of_the_users_is_the_one_that_is_named() -> None:
    with Provider() as gone:
        pass
    engine = scripted(Script("yes"))
    lm = engine.adopt(dspy.LM(MODEL, api_base=gone.url, api_key="k"), "reflector")
    for number in range(26):
        with suppress(LMError):
            lm(str(number))
    with pytest.raises(ModelUnavailableError, match="The reflector model 'openai/tiny' cannot be used"):
        engine.check()


@pytest.mark.parametrize(("kept_in", "most"), [("memory", 0.15e-3), ("a file", 0.25e-3)])
def test_the_door_costs_little(kept_in: str, most: float, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "calls.jsonl" if kept_in == "a file" else None)
    response = answer("yes " * 50)

    class Instant:
        def complete(self, request: lm15.Request) -> lm15.Response:
            return response

    engine = scripted(Instant(), max_calls=100_000, journal=journal, price=Price(1e-6, 2e-6))
    best = min(
        _seconds(engine, [request(f"{run} {number}: " + 60 * "word ") for number in range(500)]) for run in range(5)
    )
    journal.close()
    assert best < most


def _seconds(engine: CountingEngine, asked: list[lm15.Request]) -> float:
    start = time.process_time()
    for one in asked:
        engine.complete("agent", one)
    return (time.process_time() - start) / len(asked)


def test_a_real_server_is_asked_as_the_settings_say_and_asked_again_when_it_stumbles() -> None:
    deeds: list[Deed] = ["broken", "busy", "answer"]
    with Provider(lambda number: deeds[number]) as one:
        engine = CountingEngine.from_settings(settings_for(one, training=TrainingSettings(max_output_tokens=100)))
        engine.backoff = 0.001
        system = "  exactly\n    this {x}"
        asked = lm15.Request(model=MODEL, system=system, messages=(lm15.Message.user("Hello?"),))
        assert engine.complete("agent", asked).text == "ready"
    assert engine.used == 3
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Hello?"}]
    assert [body["messages"] for body in one.bodies] == [messages] * 3
    assert {(body["model"], body["max_completion_tokens"]) for body in one.bodies} == {("tiny", 100)}
    assert len({body["seed"] for body in one.bodies}) == 1
    assert set(one.keys) == {"Bearer k-1"}


def test_a_closed_port_is_a_dead_model() -> None:
    with Provider() as gone:
        pass
    engine = CountingEngine.from_settings(settings_for(gone))
    engine.backoff = 0.001
    with pytest.raises(ModelUnavailableError, match="openai/tiny") as caught:
        engine.preflight()
    assert caught.value.cause == "model_dead"


def test_a_provider_answers_from_many_threads() -> None:
    with Provider() as one:
        provider = ProviderEngine(MODEL, api_base=one.url, api_key="k")
        asked = [request(str(number), max_tokens=9) for number in range(40)]
        with ThreadPoolExecutor(8) as pool:
            texts = list(pool.map(lambda each: provider.complete(each).text, asked))
    assert texts == ["ready"] * 40
    assert dspy.settings.lm is None


def test_a_stopped_engine_asks_nobody_and_keeps_its_first_reason() -> None:
    inner = Script("yes")
    engine = scripted(inner)
    engine.stop(BinduError("The run was interrupted."))
    engine.stop(BinduError("Too late."))
    for _ in range(3):
        with pytest.raises(BinduError, match="was interrupted"):
            engine.complete("agent", request())
    with pytest.raises(BinduError, match="was interrupted"):
        engine.check()
    assert inner.calls == engine.used == 0


def test_stopping_ends_the_wait_for_a_slow_server_and_what_it_may_cost_is_counted() -> None:
    with Provider(lambda number: "late") as one, ThreadPoolExecutor(1) as pool:
        engine = served(one)
        asking = pool.submit(engine.complete, "agent", request(model=MODEL))
        assert one.came.acquire(timeout=10)
        start = time.monotonic()
        engine.stop(BinduError("Enough."))
        with pytest.raises(BinduError, match="Enough"):
            asking.result(timeout=10)
        assert time.monotonic() - start < 5
    assert one.dollars <= engine.cost


def test_stopping_ends_the_wait_for_a_retry() -> None:
    inner = Script(lm15.ServerError("down"))
    engine = scripted(inner, backoff=50)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(engine.complete, "agent", request())
        until(lambda: engine.faults["dead"])
        engine.stop(BinduError("Enough."))
        with pytest.raises(BinduError, match="Enough"):
            asking.result(timeout=10)
    assert inner.calls == 1
