"""CrewAI: a hook puts the served text in the place of the backstory."""

from __future__ import annotations

import asyncio
from pathlib import Path

from attribution import Stored, check_attribution, check_example, misattributed
from crewai import LLM, Agent, Crew, Task

from bindu.dspy.integrations.crewai import recorded, recorded_async, served_backstory
from fake_model import FakeModel

DEFAULT = "You are an agent of a shop."


def crew(model: FakeModel) -> Crew:
    agent = Agent(
        role="Support agent",
        goal="Answer customers",
        backstory=served_backstory("support", default=DEFAULT),
        llm=LLM(model="openai/gpt-4o-mini", base_url=model.base_url),
    )
    return Crew(agents=[agent], tasks=[Task(description="{question}", expected_output="An answer", agent=agent)])


async def test_every_exchange_counts_for_the_prompt_that_the_model_saw(stored: Stored, model: FakeModel) -> None:
    async def ask(question: str) -> object:
        return await recorded_async(crew(model).akickoff, inputs={"question": question})

    await check_attribution(ask, stored, model)


async def test_a_synchronous_kickoff_is_recorded(stored: Stored, model: FakeModel) -> None:
    result = await asyncio.to_thread(recorded, crew(model).kickoff, inputs={"question": "Where?"})
    [task] = await stored.tasks()
    assert [message["content"] for message in task["history"]] == ["Where?", result.raw]
    assert misattributed([task]) == 0


async def test_an_agent_on_its_own_is_recorded(stored: Stored, model: FakeModel) -> None:
    await asyncio.to_thread(recorded, crew(model).agents[0].kickoff, "Where?")
    [task] = await stored.tasks()
    assert task["history"][0]["content"] == "Where?"
    assert misattributed([task]) == 0


async def test_the_example_runs(stored: Stored, model: FakeModel, tmp_path: Path) -> None:
    await check_example("crewai", tmp_path, stored, model)
