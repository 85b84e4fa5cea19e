"""MIPROv2: instructions only, proposed from a description of the data, and tried on the rows kept for that."""

from __future__ import annotations

import pytest
from dspy import lm15

from apprentice import BETTER, START, Apprentice, Restless, compiled, luck, rows
from bindu.dspy.errors import ModelUnavailableError
from bindu.dspy.objective import PythonMetric
from bindu.dspy.optimizers import MiproOptimizer


def test_no_customer_s_text_is_copied_into_the_prompt() -> None:
    done = compiled(MiproOptimizer(), inner=Restless(), objective=PythonMetric(luck))
    assert len(done.found) > 2
    assert all(one.text == START or one.text.startswith(f"{START}\n\nSay ") for one in done.found)


def test_it_selects_among_its_prompts_itself() -> None:
    done = compiled(MiproOptimizer(), inner=Restless(), objective=PythonMetric(luck), select=9)
    assert MiproOptimizer.selects
    assert done.found[0].score == max(one.score for one in done.found)


@pytest.mark.parametrize(("train", "select"), [(8, 12), (40, 4), (96, 1)])
def test_its_plan_holds_even_when_no_answer_is_good_enough_to_be_an_example(train: int, select: int) -> None:
    bad = PythonMetric(lambda *_: 0.0)
    done = compiled(MiproOptimizer(), examples=rows(train), select=select, objective=bad, inner=Restless())
    plan = MiproOptimizer().plan(train, select)
    assert train < done.engine.calls["agent"] <= plan.evaluations
    assert done.engine.calls["reflector"] <= plan.reflections == 29


def test_customers_comments_reach_whoever_describes_the_data() -> None:
    read: list[str] = []

    class Reading(Apprentice):
        def complete(self, request: lm15.Request) -> lm15.Response:
            read.append(request.messages[-1].text or "")
            return super().complete(request)

    told = [row.copy(comments=("Never sorry!",)).with_inputs("input") for row in rows()]
    compiled(MiproOptimizer(), examples=told, inner=Reading())
    assert any("[[ ## examples ## ]]" in one and "Never sorry!" in one for one in read)


def test_a_reflector_that_nobody_can_read_ends_the_run_with_a_sentence() -> None:
    class Mumbling(Apprentice):
        def writes(self, fields: object, *, as_json: bool) -> str:
            return "Hm."

    with pytest.raises(ModelUnavailableError, match="A model failed where nothing could go on without it: "):
        compiled(MiproOptimizer(), inner=Mumbling())


def test_a_description_that_nobody_can_read_is_done_without() -> None:
    class Terse(Apprentice):
        def writes(self, fields: list[str], *, as_json: bool) -> str:  # type: ignore[override]
            return super().writes(fields, as_json=as_json) if "proposed_instruction" in fields else "Hm."

    assert compiled(MiproOptimizer(), inner=Terse()).found[0].text == BETTER
