"""LangChain: ``dynamic_prompt(handle)``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from attribution import Stored, check_attribution, check_example, misattributed
from langchain.agents import create_agent
from langchain.agents.middleware import dynamic_prompt
from langchain_core.messages import HumanMessage

from bindu.dspy.integrations import prompt_handle, recorded, recorded_async
from fake_model import FakeModel


@pytest.fixture
def agent(model: FakeModel, stored: Stored) -> Any:
    return create_agent(
        "openai:gpt-4o-mini",
        middleware=[dynamic_prompt(prompt_handle("support", default="You are prompt-default."))],
    )


def asked(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]}


async def test_every_exchange_counts_for_the_prompt_that_the_model_saw(
    agent: Any, stored: Stored, model: FakeModel
) -> None:
    await check_attribution(lambda question: recorded_async(agent.ainvoke, asked(question)), stored, model)


async def test_a_synchronous_run_with_message_objects_is_recorded(agent: Any, stored: Stored) -> None:
    await asyncio.to_thread(recorded, agent.invoke, {"messages": [HumanMessage("Where?")]})
    [task] = await stored.tasks()
    assert task["history"][0] == {"role": "user", "content": "Where?"}
    assert misattributed([task]) == 0


async def test_the_example_runs(stored: Stored, model: FakeModel, tmp_path: Path) -> None:
    await check_example("langchain", tmp_path, stored, model)
