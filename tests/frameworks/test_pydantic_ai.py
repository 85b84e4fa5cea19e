"""Pydantic AI: ``instructions=handle``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attribution import Stored, check_attribution, check_example, misattributed
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError

from bindu.dspy.integrations import prompt_handle, recorded, recorded_async, turn
from fake_model import FakeModel


@pytest.fixture
def agent(model: FakeModel, stored: Stored) -> Agent:
    return Agent("openai-chat:gpt-4o-mini", instructions=prompt_handle("support", default="You are prompt-default."))


async def test_every_exchange_counts_for_the_prompt_that_the_model_saw(
    agent: Agent, stored: Stored, model: FakeModel
) -> None:
    await check_attribution(lambda question: recorded_async(agent.run, question), stored, model)


async def test_it_is_a_system_prompt_as_well(stored: Stored, model: FakeModel) -> None:
    agent = Agent("openai-responses:gpt-4o-mini")
    agent.system_prompt(prompt_handle("support", default="You are prompt-default."))
    await check_attribution(lambda question: recorded_async(agent.run, question), stored, model, count=20)


async def test_a_failed_call_is_recorded_as_failed_and_raised(agent: Agent, stored: Stored) -> None:
    with pytest.raises(ModelHTTPError):
        await recorded_async(agent.run, "Please fail.")
    [task] = await stored.tasks()
    assert (task["state"], [message["role"] for message in task["history"]]) == ("failed", ["user"])


async def test_a_synchronous_run_is_recorded(agent: Agent, stored: Stored) -> None:
    result = await asyncio.to_thread(recorded, agent.run_sync, "Where?")
    [task] = await stored.tasks()
    assert task["history"][-1]["content"] == result.output
    assert misattributed([task]) == 0


async def test_without_a_turn_a_conversation_keeps_its_prompt(agent: Agent, stored: Stored, model: FakeModel) -> None:
    for number in range(10):
        result = await agent.run("Where?", conversation_id=f"conversation-{number}")
        await agent.run("And now?", message_history=result.all_messages())
    seen = [mark for mark, _ in model.asked]
    assert seen[::2] == seen[1::2]
    assert len(set(seen)) == 2


async def test_a_streamed_answer_is_recorded_by_hand(agent: Agent, stored: Stored) -> None:
    with turn("conversation-1") as opened:
        async with agent.run_stream("Where?") as answer:
            said = await answer.get_output()
        opened.record("Where?", said)
    assert misattributed(await stored.tasks()) == 0


async def test_the_example_runs(stored: Stored, model: FakeModel, tmp_path: Path) -> None:
    await check_example("pydantic_ai", tmp_path, stored, model)
