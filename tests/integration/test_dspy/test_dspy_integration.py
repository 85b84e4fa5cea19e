"""A DSPy program follows the prompt that is served, also when many ask it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import dspy
import pytest

from bindu.dspy.integrations import turn
from bindu.dspy.integrations.dspy import ServedProgram, recorded, recorded_async, served
from fake_model import FakeModel
from handles import begin_trial, handles_on, recorded_tasks

ACTIVE, CANDIDATE = "You are prompt-active.", "You are prompt-candidate."
SIGNATURE = dspy.Signature("question -> answer", ACTIVE)


@pytest.fixture
def url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    with handles_on(postgres_url, tmp_path):
        yield postgres_url


@pytest.fixture
def program(url: str) -> Iterator[ServedProgram]:
    with FakeModel() as model:
        lm = dspy.LM("openai/fake", api_base=model.base_url, api_key="fake", cache=False, num_retries=0)
        with dspy.context(lm=lm):
            yield served(dspy.ChainOfThought(SIGNATURE), "support")


def test_the_signatures_instructions_become_version_1_and_are_served(program: ServedProgram, url: str) -> None:
    result = recorded(program, question="Where?")
    assert result.answer == "saw prompt-active"
    [task] = recorded_tasks(url)
    assert [message["content"] for message in task["history"]] == ["Where?", "saw prompt-active"]
    assert program.program.predictors()[0].signature.instructions == ACTIVE  # the program is not changed


def test_of_40_conversations_at_once_none_counts_for_another_prompt(program: ServedProgram, url: str) -> None:
    begin_trial(texts=(ACTIVE, CANDIDATE))

    async def talk(number: int) -> None:
        with turn(f"conversation-{number}"):
            await recorded_async(program.acall, question=f"Question {number}?")

    async def talks() -> None:
        await asyncio.gather(*map(talk, range(40)))

    asyncio.run(talks())
    tasks = recorded_tasks(url)
    assert len(tasks) == 40
    said = {(task["prompt_id"], task["history"][-1]["content"]) for task in tasks}
    assert said == {(1, "saw prompt-active"), (2, "saw prompt-candidate")}
