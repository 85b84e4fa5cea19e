"""The doctor's look at the model: whose key is there, and whether it answers."""

from __future__ import annotations

import pytest

from bindu.dspy.cli.checkup import model
from bindu.dspy.simulation.server import SimulatedServer
from bindu.settings import app_settings


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.dspy, "default_model", "openai/simulated/desk")
    monkeypatch.setattr(app_settings.dspy, "api_key", "none")


def test_a_model_that_answers_is_well_and_one_that_is_away_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    with SimulatedServer(0) as server:
        monkeypatch.setattr(app_settings.dspy, "api_base", server.base_url)
        assert model.asked_model().state == "ok"
        assert server.requests == 1
    assert model.asked_model().state == "problem"


def test_a_model_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(model, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(app_settings.dspy, "api_base", f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
        found = model.asked_model()
    assert (found.state, "said nothing" in found.text) == ("problem", True)


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai/gpt-4o-mini", "OPENAI_API_KEY"),
        ("anthropic/claude", "ANTHROPIC_API_KEY"),
        ("gemini/flash", "GOOGLE_API_KEY"),
        ("bedrock/nova", "AWS_PROFILE"),
    ],
)
def test_the_key_is_looked_for_where_the_provider_looks(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    monkeypatch.setattr(app_settings.dspy, "default_model", name)
    monkeypatch.setattr(app_settings.dspy, "api_key", None)
    monkeypatch.delenv(variable, raising=False)
    missing = model.model_finding()
    monkeypatch.setenv(variable, "sk-hidden")
    there = model.model_finding()
    assert (missing.state, there.state) == ("warning", "ok")
    assert variable in missing.advice
    assert variable in there.text
    assert "hidden" not in there.text


def test_a_server_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.dspy, "api_key", None)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(app_settings.dspy, "api_base", "http://127.0.0.1:9/v1")
    assert model.model_finding().state == "ok"
