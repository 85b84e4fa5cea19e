"""OpenFeature, with OpenAI's own client."""

from __future__ import annotations

from pathlib import Path

import asyncpg
from attribution import Stored, check_attribution, check_example
from openai import AsyncOpenAI
from openfeature import api
from openfeature.evaluation_context import EvaluationContext

from bindu.dspy.integrations import current_turn
from bindu.dspy.integrations.openfeature import PromptProvider, recorded_async
from fake_model import FakeModel


async def test_every_exchange_counts_for_the_prompt_that_the_model_saw(stored: Stored, model: FakeModel) -> None:
    api.set_provider(PromptProvider())
    flags, client = api.get_client(), AsyncOpenAI()

    async def answer(question: str) -> str:
        opened = current_turn()
        assert opened is not None
        conversation = EvaluationContext(targeting_key=opened.unit_id)
        prompt = await flags.get_string_value_async("support", "You are prompt-default.", conversation)
        messages = [{"role": "system", "content": prompt}, {"role": "user", "content": question}]
        answered = await client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        return answered.choices[0].message.content or ""

    await check_attribution(lambda question: recorded_async(answer, question), stored, model)


async def test_the_example_runs_and_its_vote_is_stored(stored: Stored, model: FakeModel, tmp_path: Path) -> None:
    await check_example("openfeature", tmp_path, stored, model)
    connection = await asyncpg.connect(stored.url)
    [vote] = await connection.fetch("SELECT score, rater_id FROM bindu_dspy.task_feedback")
    await connection.close()
    assert (vote["score"], vote["rater_id"]) == (1, "conversation-1")
