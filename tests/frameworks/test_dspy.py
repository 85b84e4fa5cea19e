"""DSPy: a program whose signatures carry the served prompt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dspy
import pytest
from attribution import Stored, check_attribution, check_example

from bindu.dspy.integrations.dspy import ServedProgram, recorded_async, served
from fake_model import FakeModel

SIGNATURE = dspy.Signature("question -> answer", "You are prompt-default.")


@pytest.fixture
def program(model: FakeModel, stored: Stored) -> Iterator[ServedProgram]:
    lm = dspy.LM("openai/gpt-4o-mini", api_base=model.base_url, api_key="fake", cache=False)
    with dspy.context(lm=lm):
        yield served(dspy.Predict(SIGNATURE), "support")


async def test_every_exchange_counts_for_the_prompt_that_the_model_saw(
    program: ServedProgram, stored: Stored, model: FakeModel
) -> None:
    await check_attribution(lambda question: recorded_async(program.acall, question=question), stored, model)


async def test_the_example_runs(stored: Stored, model: FakeModel, tmp_path: Path) -> None:
    await check_example("dspy", tmp_path, stored, model)
