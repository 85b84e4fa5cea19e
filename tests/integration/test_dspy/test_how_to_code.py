"""The code of "Write an extraction strategy" and "Write an objective" does what the pages say."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import fmean
from typing import Any

import dspy
import pytest

from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.dataset import build_dataset
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.questions import questions
from bindu.dspy.train import run_training
from talks import talk

HOW_TOS = Path(__file__).parents[3] / "docs/how-to"


def saved(document: str) -> dict[str, Any]:
    """The names of the file that the reader is told to save."""
    text = (HOW_TOS / document).read_text(encoding="utf-8")
    [code] = re.findall(r"Save this as `\S+`:\n\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "saved"}
    exec(compile(code, document, "exec"), names)
    return names


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def mean_score(objective: Any, prompt: str) -> float:
    """Of answers to questions that training never saw."""
    model = SimulatedModel(0)
    asked = questions(60, seed=0, held_out=True)
    return fmean(
        objective(dspy.Example(), dspy.Prediction(output=model.reply(prompt, [("user", one)]))).score for one in asked
    )


async def test_the_strategy_finds_the_question_that_says_most(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    history = said("Hello?", "Hello.", "Where is my parcel, number 7?", "On its way.", "Ok?", "Ok.")
    await record_feedback(await record_task(history, context_id="c1"), {"rating": 5}, rater_id="ann")
    dataset = await build_dataset(strategy=saved("write-a-strategy.md")["LongestQuestion"]())
    [example] = dataset.golden
    assert (example.user_input, example.agent_output, example.turn) == (history[2]["content"], "On its way.", 1)


async def test_an_answer_of_an_earlier_task_is_not_given_a_later_ones_score(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    await record_task(said("Where is my parcel, number 7?", "On its way."), context_id="c1")
    later = await record_task(said("Ok?", "Ok."), context_id="c1")
    await record_feedback(later, {"rating": 1}, rater_id="ann")
    dataset = await build_dataset(strategy=saved("write-a-strategy.md")["LongestQuestion"]())
    assert not dataset.golden
    assert dataset.funnel.drops == {"without_feedback": 1, "earlier_answer": 1}


async def test_gepa_learns_from_the_objectives_words(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    objective = saved("write-an-objective.md")["says_how_long"]
    run = await run_training("gepa", engine=SimulatedEngine(0), objective=objective)
    assert run.outcome == "improved"
    serving = await storage.serving("default")
    assert serving is not None
    assert serving.candidate is not None
    before, after = (mean_score(objective, text) for text in (serving.active.text, serving.candidate.text))
    assert after > before + 0.2


@pytest.mark.parametrize(
    ("answer", "score"),
    [("It takes 3 days. Does that help?", 1.0), ("It takes 3 days.", 0.5), ("Soon.", 0.0)],
)
def test_the_objective_scores_as_its_docstring_says(answer: str, score: float) -> None:
    objective = saved("write-an-objective.md")["says_how_long"]
    verdict = objective(dspy.Example(input="How long?", output="").with_inputs("input"), dspy.Prediction(output=answer))
    assert verdict.score == score
    assert bool(verdict.critique) is (score < 1)
