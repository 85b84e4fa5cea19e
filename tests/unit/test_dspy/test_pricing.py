"""What tokens cost is known without a network, or given, or said to be unknown before anything is spent."""

from __future__ import annotations

import json
import re
import socket
from datetime import UTC, datetime, timedelta

import dspy
import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.budget import Budget
from bindu.dspy.engine.pricing import Price, _listed, price_of
from bindu.dspy.errors import BudgetExceededError
from bindu.settings import DspySettings, TrainingSettings
from providers import Script, scripted


@pytest.mark.parametrize(
    "model",
    [
        "openai/gpt-4o-mini",
        "openai/gpt-5-mini",
        "anthropic/claude-sonnet-4-5",
        "anthropic/claude-3-5-haiku-20241022",
        "gemini/gemini-2.5-flash",
        "vertex_ai/gemini-2.5-flash",
        "mistral/mistral-large-latest",
        "groq/llama-3.3-70b-versatile",
        "xai/grok-3",
        "azure/gpt-4o",
        "bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0",
        "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "openrouter/openai/gpt-4o-mini",
        "gpt-4o-mini",
    ],
)
def test_models_of_many_providers_have_a_price_by_their_names_in_dspy(model: str) -> None:
    price = price_of(model, {})
    assert price is not None
    assert 0 < price.input <= price.output < 1e-4


def test_a_listed_price_is_per_token() -> None:
    price = price_of("openai/gpt-4o-mini", {})
    assert price is not None
    assert price.of(1_000_000, 1_000_000) == pytest.approx(0.15 + 0.60)


@pytest.mark.parametrize(
    "model",
    ["openai/tiny", "ollama_chat/llama3", "azure/my-deployment", "nobody/gpt-4o", "openai/", "/x", "", "openai"],
)
def test_what_nobody_knows_has_no_price(model: str) -> None:
    assert price_of(model, {}) is None


def test_a_fee_for_each_request_is_not_taken_for_a_price_of_tokens() -> None:
    assert price_of("perplexity/sonar", {}) is None
    assert price_of("perplexity/sonar", {"perplexity/sonar": (12, 12)}) is not None


def test_a_price_that_depends_on_the_hour_is_the_dearest() -> None:
    price = price_of("deepseek/deepseek-chat", {})
    assert price is not None
    for hour in range(24):
        when = datetime.now(UTC) + timedelta(hours=hour)
        usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
        at = calc_price(usage, "deepseek-chat", provider_id="deepseek", genai_request_timestamp=when)
        assert float(at.total_price) <= price.of(1_000_000, 1_000_000) + 1e-9


def test_prices_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    _listed.cache_clear()
    assert price_of("anthropic/claude-sonnet-4-5", {}) is not None


@given(read=st.floats(0, 1_000), written=st.floats(0, 1_000), model=st.sampled_from(["openai/gpt-4o", "mine/own", "x"]))
def test_a_given_price_overrules_the_list(read: float, written: float, model: str) -> None:
    price = price_of(model, {model: (read, written)})
    assert price == Price(read / 1e6, written / 1e6)
    assert price.of(3_000_000, 2_000_000) == pytest.approx(3 * read + 2 * written)


def limited(model: str, **training: object) -> DspySettings:
    return DspySettings(default_model=model, training=TrainingSettings(max_cost=1, **training))  # type: ignore[arg-type]


def test_a_limit_on_cost_with_an_unknown_price_is_refused_in_a_sentence_that_helps() -> None:
    with pytest.raises(
        BudgetExceededError, match=r"nobody knows what 'openai/tiny' costs. Nothing was spent"
    ) as caught:
        CountingEngine.from_settings(limited("openai/tiny"))
    advice = re.search(r"Set DSPY__TRAINING__PRICES='(\{.*?\})'", str(caught.value))
    assert advice
    engine = CountingEngine.from_settings(limited("openai/tiny", prices=json.loads(advice[1])))
    assert engine.speaker("agent").price == Price(0.15 / 1e6, 0.6 / 1e6)


@pytest.mark.parametrize("name", ["judge_model", "reflection_model", "gate_judge_model"])
def test_the_price_of_every_role_has_to_be_known(name: str) -> None:
    settings = limited("openai/gpt-4o-mini").model_copy(update={name: "openai/tiny"})
    with pytest.raises(BudgetExceededError, match="openai/tiny"):
        CountingEngine.from_settings(settings)


def test_an_engine_that_is_made_by_hand_refuses_alike() -> None:
    with pytest.raises(BudgetExceededError, match="scripted/a"):
        scripted(Script("yes"), budget=Budget(max_calls=9, max_cost=1))


def test_a_model_that_a_user_brings_to_a_limited_run_must_have_a_price() -> None:
    engine = CountingEngine.from_settings(limited("openai/gpt-4o-mini", prices={"openai/known": (1, 2)}))
    with pytest.raises(BudgetExceededError, match="'openai/tiny'"):
        engine.adopt(dspy.LM("openai/tiny", api_key="k"), "reflector")
    assert engine.adopt(dspy.LM("openai/known", api_key="k"), "reflector").model == "openai/known"


def test_without_a_limit_an_unknown_price_is_no_obstacle() -> None:
    engine = CountingEngine.from_settings(DspySettings(default_model="openai/tiny"))
    assert engine.speaker("agent").price is None


def test_a_model_in_the_process_costs_what_the_settings_say_and_nothing_else() -> None:
    priced = CountingEngine.from_settings(limited("openai/gpt-4o", prices={"openai/gpt-4o": (1, 2)}), Script("yes"))
    assert priced.speaker("judge").price == Price(1e-6, 2e-6)
    free = CountingEngine.from_settings(DspySettings(default_model="openai/gpt-4o"), Script("yes"))
    assert free.speaker("judge").price is None
