"""Google ADK: ``instruction=handle``, with LiteLlm as its model."""

from __future__ import annotations

from pathlib import Path

import pytest
from attribution import Stored, check_attribution, check_example, misattributed
from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.genai.types import Content, Part

from bindu.dspy.integrations import prompt_handle, recorded_async, turn
from fake_model import FakeModel


@pytest.fixture
def runner(model: FakeModel, stored: Stored) -> InMemoryRunner:
    agent = LlmAgent(
        name="support",
        model=LiteLlm(model="openai/gpt-4o-mini", api_base=model.base_url),
        instruction=prompt_handle("support", default="You are prompt-default."),
    )
    return InMemoryRunner(agent=agent)


async def test_every_exchange_counts_for_the_prompt_that_the_model_saw(
    runner: InMemoryRunner, stored: Stored, model: FakeModel
) -> None:
    async def ask(question: str) -> object:
        session = question.removesuffix("?").replace(" ", "-")
        return await recorded_async(runner.run_debug, question, session_id=session, quiet=True)

    await check_attribution(ask, stored, model)


async def test_a_stream_of_events_is_recorded_by_hand(runner: InMemoryRunner, stored: Stored) -> None:
    session = await runner.session_service.create_session(app_name=runner.app_name, user_id="alice")
    asked = Content(role="user", parts=[Part(text="Where?")])
    with turn("conversation-1") as opened:
        said = ""
        async for event in runner.run_async(user_id="alice", session_id=session.id, new_message=asked):
            if event.is_final_response() and event.content:
                said = event.content.parts[0].text
        opened.record("Where?", said)
    assert misattributed(await stored.tasks()) == 0


async def test_the_example_runs(stored: Stored, model: FakeModel, tmp_path: Path) -> None:
    await check_example("google_adk", tmp_path, stored, model)
