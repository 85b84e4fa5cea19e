"""Agno: ``instructions=handle``."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from agno.agent import Agent
from agno.models.openai import OpenAIChat
from attribution import CONVERSATIONS, Stored, check_attribution, check_example, misattributed

from bindu.dspy.integrations import PromptHandle, last_task_id, prompt_handle, recorded, recorded_async, turn
from fake_model import FakeModel


@pytest.fixture
def handle(stored: Stored) -> PromptHandle:
    return prompt_handle("support", default="You are prompt-default.")


@pytest.fixture
def agent(model: FakeModel, handle: PromptHandle) -> Agent:
    return Agent(model=OpenAIChat(id="gpt-4o-mini", base_url=model.base_url), instructions=handle)


async def test_every_exchange_counts_for_the_prompt_that_the_model_saw(
    agent: Agent, stored: Stored, model: FakeModel
) -> None:
    await check_attribution(lambda question: recorded_async(agent.arun, question), stored, model)


async def test_setting_the_instructions_of_a_shared_agent_mis_attributes(
    handle: PromptHandle, stored: Stored, model: FakeModel
) -> None:
    agent, waits = Agent(model=OpenAIChat(id="gpt-4o-mini", base_url=model.base_url)), random.Random(1)

    async def one(number: int) -> None:
        with turn(f"conversation-{number}") as opened:
            await asyncio.sleep(waits.random() / 50)
            agent.instructions = handle()
            await asyncio.sleep(waits.random() / 50)  # such as a look-up of the customer
            answer = await agent.arun(f"Question {number}?")
            opened.record(f"Question {number}?", str(answer.content))

    await asyncio.gather(*map(one, range(CONVERSATIONS)))
    tasks = await stored.tasks()
    assert len(tasks) == CONVERSATIONS
    assert misattributed(tasks) > CONVERSATIONS / 10


async def test_a_synchronous_run_is_recorded_and_can_be_voted_on(
    agent: Agent, stored: Stored, handle: PromptHandle
) -> None:
    await asyncio.to_thread(_talk, agent, handle)
    [task] = await stored.tasks()
    assert misattributed([task]) == 0


def _talk(agent: Agent, handle: PromptHandle) -> None:
    recorded(agent.run, "Where?")
    task_id = last_task_id()
    assert task_id is not None
    handle.feedback(task_id, {"thumbs_up": True}).result(10)


async def test_the_example_runs(stored: Stored, model: FakeModel, tmp_path: Path) -> None:
    await check_example("agno", tmp_path, stored, model)
