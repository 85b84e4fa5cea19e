"""No mix of models, failures, threads and deaths spends more than was allowed, and little of it is left unspent."""

from __future__ import annotations

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import get_args

import dspy
import pytest
from dspy import lm15
from hypothesis import given, settings
from hypothesis import strategies as st

from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.budget import Budget
from bindu.dspy.engine.journal import Journal
from bindu.dspy.engine.pricing import Price
from bindu.dspy.engine.requests import most_tokens
from bindu.dspy.errors import BinduError, BudgetExceededError
from bindu.settings import DspySettings, TrainingSettings
from providers import MODEL, PRICE, Deed, Mortal, Provider, Script, answer, asked_by_many, request, scripted, served

DEEDS: tuple[Deed, ...] = get_args(Deed)
WORST = 0.00045  # dollars of one of the calls below, at most


@given(
    worsts=st.lists(st.integers(1, 20), min_size=1, max_size=60),
    limit=st.integers(1, 100),
    threads=st.integers(1, 8),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_what_is_spent_and_what_may_be_spent_stay_within_the_limit(
    worsts: list[int], limit: int, threads: int, seed: int
) -> None:
    budget = Budget(max_calls=50, max_cost=limit)
    draw, lock = Random(seed), threading.Lock()
    spent, flying, most = [0.0], [0.0], [0.0]

    def call(worst: int) -> None:
        with suppress(BudgetExceededError):
            budget.reserve(worst)
            with lock:
                flying[0] += worst
                most[0] = max(most[0], spent[0] + flying[0])
                used = draw.uniform(0, worst)
            with lock:
                flying[0] -= worst
                spent[0] += used
            budget.settle(worst, used)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(call, worsts))
    assert most[0] <= limit + 1e-6
    assert budget.calls <= 50
    assert budget.cost == pytest.approx(spent[0])


def test_a_call_that_does_not_fit_yet_waits_for_what_others_give_back() -> None:
    budget = Budget(max_calls=9, max_cost=10)
    budget.reserve(8)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.reserve, 8)
        assert not waiting.done()
        budget.settle(8, 1)
        waiting.result(timeout=5)
    assert (budget.calls, budget.cost) == (2, 1)


def test_a_run_does_not_end_at_its_last_call_before_that_is_answered() -> None:
    budget = Budget(max_calls=1)
    budget.reserve(1)
    with ThreadPoolExecutor(1) as pool:
        beyond = pool.submit(budget.reserve, 1)
        with pytest.raises(TimeoutError):
            beyond.result(timeout=0.3)
        budget.settle(1, 1)
        with pytest.raises(BudgetExceededError, match="limit of 1 model calls"):
            beyond.result(timeout=5)


def test_a_closed_budget_lets_everybody_go_and_counts_none_of_them() -> None:
    budget = Budget(max_calls=9, max_cost=10)
    budget.reserve(10)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(budget.reserve, 10) for _ in range(4)]
        budget.close()
        for one in waiting:
            one.result(timeout=5)
    assert budget.calls == 1


@given(limit=st.integers(1, 60), threads=st.integers(1, 16), asked=st.integers(1, 120))
@settings(max_examples=25, deadline=None)
def test_the_cap_on_calls_is_reached_and_never_passed(limit: int, threads: int, asked: int) -> None:
    inner = Script("yes")
    engine = scripted(inner, max_calls=limit)
    got = asked_by_many(engine, map(str, range(asked)), threads=threads)
    assert len(got) == inner.calls == engine.used == sum(engine.calls.values()) == min(limit, asked)


@given(
    deeds=st.lists(st.sampled_from(DEEDS), min_size=1, max_size=12),
    threads=st.integers(1, 8),
    lives=st.lists(st.integers(1, 25), max_size=3),
    leave=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_no_provider_bills_more_than_the_limit_even_to_a_run_that_is_killed_and_gone_on_with(
    deeds: list[Deed], threads: int, lives: list[int], leave: bool
) -> None:
    limit = 20 * WORST
    with (
        tempfile.TemporaryDirectory() as folder,
        Provider(lambda number: deeds[number % len(deeds)], says=lambda body: "y" * (len(body["messages"]) * 7)) as one,
    ):
        for life in [*lives, 10_000]:
            journal = Journal(Path(folder) / "calls.jsonl")
            inner = Mortal(one, dies_at=life, timeout=0.1)
            engine = served(one, max_cost=limit, journal=journal, inner=inner, attempts=2, max_error_rate=1)
            if leave and life < 10_000:
                _leave_after(engine, one, 3)
            asked_by_many(engine, map(str, range(150)), threads=threads)
            assert engine.cost <= limit + 1e-9
            journal.close()
        one.goes_on.set()
        known = Journal(Path(folder) / "calls.jsonl")
        known.close()
    assert one.dollars <= known.cost + 1e-9
    assert known.cost <= limit + 1e-9
    assert known.calls.total() >= len(one.bodies)


def _leave_after(engine: CountingEngine, provider: Provider, calls: int) -> None:
    """Stop the run, with whatever is in flight, at a request to come."""

    def body() -> None:
        for _ in range(calls):
            provider.came.acquire(timeout=1)
        engine.stop(BinduError("Enough."))

    threading.Thread(target=body, daemon=True).start()


@pytest.mark.parametrize("threads", [1, 8])
def test_cheap_calls_use_up_nine_tenths_of_the_limit(threads: int) -> None:
    limit = 50 * WORST
    with Provider() as one:
        engine = served(one, max_cost=limit)
        asked_by_many(engine, map(str, range(2_000)), threads=threads)
        with pytest.raises(BudgetExceededError, match=r"The run spent \$0\.02.*--max-cost"):
            engine.check()
    assert 0.9 * limit <= one.dollars <= limit
    assert engine.cost == pytest.approx(one.dollars)


def test_calls_that_nobody_received_cost_nothing() -> None:
    with Provider() as gone:
        pass
    engine = served(gone, max_cost=10 * WORST)
    assert asked_by_many(engine, map(str, range(20)), threads=4) == {}
    assert engine.cost == 0
    with pytest.raises(BinduError, match="the last 26 model calls failed"):
        engine.check()


@pytest.mark.parametrize(
    "route", ["native", "litellm"], ids=["DSPy's own client", "the client that DSPy falls back to"]
)
def test_a_wait_that_ended_and_a_usage_that_was_not_told_are_billed_at_their_worst(
    route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    deeds: list[Deed] = ["late", "no_usage", "half_usage"]
    with Provider(lambda number: deeds[number]) as one:
        lm = dspy.LM(
            MODEL, api_base=one.url, api_key="k", timeout=0.5, engine="litellm" if route == "litellm" else "auto"
        )
        engine = CountingEngine.from_settings(
            DspySettings(
                default_model="openai/other", training=TrainingSettings(prices={MODEL: PRICE}, max_output_tokens=64)
            )
        )
        engine.attempts = 1
        adopted = engine.adopt(lm, "reflector")
        for number in range(3):
            before, billed = engine.cost, one.dollars
            with suppress(Exception):
                adopted(f"Question {number}")
            assert billed < one.dollars
            assert one.dollars - billed <= engine.cost - before <= WORST


def test_an_answer_of_no_tokens_to_a_question_of_none_is_billed_at_its_worst() -> None:
    engine = scripted(Script(answer("", usage=lm15.Usage(input_tokens=0, output_tokens=0))), price=Price(1, 1))
    engine.complete("agent", request())
    assert engine.cost > 4_096


@pytest.mark.parametrize("texts", ["a", "aa", "aabc"])
def test_minutes_end_a_run_whose_model_still_thinks(texts: str) -> None:
    with Provider(lambda number: "late") as one:
        engine = served(one, max_minutes=0.3 / 60)
        began = time.monotonic()
        assert asked_by_many(engine, texts, threads=4) == {}
        assert time.monotonic() - began < 5
        with pytest.raises(BudgetExceededError, match=r"limit of 0\.005 minutes.*what was paid for is kept"):
            engine.check()


@pytest.mark.parametrize("why", ["rate_limit", "backoff"])
def test_minutes_end_a_wait_for_another_attempt(why: str) -> None:
    busy = lm15.RateLimitError("busy", retry_after=50) if why == "rate_limit" else lm15.ServerError("down")
    engine = scripted(Script(busy), budget=Budget(max_calls=9, max_minutes=0.2 / 60), backoff=50)
    began = time.monotonic()
    with pytest.raises(BudgetExceededError, match="minutes"):
        engine.complete("agent", request())
    assert time.monotonic() - began < 5
    assert engine.used == 1


def test_minutes_end_a_wait_for_money() -> None:
    budget = Budget(max_calls=9, max_cost=1, max_minutes=0.2 / 60)
    budget.reserve(1)
    with pytest.raises(BudgetExceededError, match="minutes"):
        budget.reserve(1)


def test_a_process_that_goes_on_has_its_own_minutes() -> None:
    assert Budget(max_calls=9, max_minutes=1, calls=3, cost=0.5).check_time() is None
    with pytest.raises(BudgetExceededError):
        Budget(max_calls=9, max_minutes=0).check_time()


@pytest.mark.parametrize("provider", ["openai", "gemini"])
def test_what_a_model_thought_is_paid_for_like_what_it_said(provider: str) -> None:
    inside = lm15.Usage(input_tokens=10, output_tokens=50, total_tokens=60, reasoning_tokens=40)
    besides = lm15.Usage(input_tokens=10, output_tokens=10, total_tokens=60, reasoning_tokens=40)
    inner = Script(answer("yes", usage=inside if provider == "openai" else besides))
    engine = scripted(inner, price=Price(1, 2))
    engine.complete("agent", request())
    assert engine.cost == 10 + 2 * 50
    assert engine.tokens == {"input": 10, "output": 50}


@given(system=st.text(max_size=80), said=st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_no_tokenizer_makes_more_tokens_of_a_request_than_are_reserved(system: str, said: list[str]) -> None:
    tool = lm15.FunctionTool(name="find", description=10 * system or "Finds.")
    messages = tuple(lm15.Message.user(text) for text in said)
    asked = lm15.Request(
        model=MODEL, system=system or None, messages=messages, tools=(tool,), config=lm15.Config(max_tokens=7)
    )
    read = sum(8 + len(text.encode()) for text in [system, *said]) + 8 + len(tool.description.encode())
    assert most_tokens(asked)[0] >= read
    assert most_tokens(asked)[1] == 7
