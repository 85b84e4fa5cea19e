"""GEPA: reflects on critiques within a limit of metric calls, and tells of all prompts in its pool."""

from __future__ import annotations

import json

import dspy
import pytest
from dspy import lm15

from apprentice import BETTER, START, Apprentice, Restless, compiled, luck, rows
from bindu.dspy.objective import PythonMetric
from bindu.dspy.optimizer import Plan
from bindu.dspy.optimizers import GepaOptimizer


class Judged(PythonMetric):
    """Tells a critique with each score."""

    def __init__(self) -> None:
        super().__init__(lambda gold, pred: dspy.Prediction(score="sorry" in pred.output, critique="Not one sorry."))


def test_the_critique_reaches_the_reflector_as_feedback_on_an_answer() -> None:
    read: list[str] = []

    class Reading(Apprentice):
        def complete(self, request: lm15.Request) -> lm15.Response:
            read.append(request.messages[-1].text or "")
            return super().complete(request)

    compiled(GepaOptimizer(60), objective=Judged(), inner=Reading())
    shown = next(one for one in read if "examples_with_feedback" in one)
    examples = json.loads(shown.split("[[ ## examples_with_feedback ## ]]\n")[1].split("\n\nRespond")[0])
    assert len(examples) == 3
    assert {one["Feedback"] for one in examples} == {"Not one sorry."}
    assert all(one["Inputs"]["input"].startswith("Question ") for one in examples)


def test_it_selects_among_its_prompts_itself_on_the_rows_kept_for_that() -> None:
    optimizer = GepaOptimizer(60)
    assert optimizer.selects
    judged: list[str] = []

    def counting(example: dspy.Example, prediction: dspy.Prediction) -> float:
        judged.append(example.input)
        return luck(example, prediction)

    done = compiled(optimizer, objective=PythonMetric(counting), inner=Restless(), select=7)
    assert len(done.found) > 1
    kept = {row.input for row in rows(7, first=1_000)}
    assert sum(one in kept for one in judged) == 7 * len(done.found)


@pytest.mark.parametrize(("limit", "select", "most"), [(300, 16, Plan(322, 51)), (5, 40, Plan(51, 1))])
def test_its_plan_is_the_limit_and_one_last_step(limit: int, select: int, most: Plan) -> None:
    assert GepaOptimizer(limit).plan(96, select) == most


def test_reflections_that_nobody_can_read_cost_a_step_and_nothing_more() -> None:
    class Stumbling(Apprentice):
        said = 0

        def writes(self, fields: object, *, as_json: bool) -> str:
            self.said += 1
            return "Hm." if self.said <= 2 else super().writes(fields, as_json=as_json)  # type: ignore[arg-type]

    assert compiled(GepaOptimizer(60), inner=Stumbling()).found[0].text == BETTER


def test_a_reflector_that_nobody_can_read_leaves_the_prompt_as_it_is() -> None:
    class Mumbling(Apprentice):
        def writes(self, fields: object, *, as_json: bool) -> str:
            return "Hm."

    assert [one.text for one in compiled(GepaOptimizer(60), inner=Mumbling()).found] == [START]


def test_a_limit_that_allows_no_step_leaves_the_prompt_as_it_is() -> None:
    done = compiled(GepaOptimizer(1))
    assert [one.text for one in done.found] == [START]
    assert done.engine.calls["agent"] == 12
