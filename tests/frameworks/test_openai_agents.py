"""The OpenAI Agents SDK: ``instructions=handle``, on its responses API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agents import Agent, OpenAIResponsesModel, Runner, set_tracing_disabled
from attribution import Stored, check_attribution, check_example
from openai import AsyncOpenAI

from bindu.dspy.integrations import prompt_handle, recorded_async, turn
from fake_model import FakeModel


@pytest.fixture
async def agent(model: FakeModel, stored: Stored) -> AsyncIterator[Agent]:
    set_tracing_disabled(True)
    async with AsyncOpenAI() as client:  # the framework's own one would outlive the test's event loop
        yield Agent(
            name="Support",
            model=OpenAIResponsesModel("gpt-4o-mini", client),
            instructions=prompt_handle("support", default="You are prompt-default."),
        )


async def test_every_exchange_counts_for_the_prompt_that_the_model_saw(
    agent: Agent, stored: Stored, model: FakeModel
) -> None:
    await check_attribution(lambda question: recorded_async(Runner.run, agent, question), stored, model)


async def test_messages_are_recorded_as_they_were_sent(agent: Agent, stored: Stored) -> None:
    said = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Where?"},
    ]
    with turn("conversation-1"):
        result = await recorded_async(Runner.run, agent, input=said)
    [task] = await stored.tasks()
    assert task["history"] == [*said, {"role": "assistant", "content": result.final_output}]


async def test_the_example_runs(stored: Stored, model: FakeModel, tmp_path: Path) -> None:
    await check_example("openai_agents", tmp_path, stored, model)
