"""Every optimizer, ours and a user's instance, finds a better instruction within its plan and in silence."""

from __future__ import annotations

import logging
import sys

import dspy
import pytest
from dspy import lm15
from dspy.dsp.utils.settings import DEFAULT_CONFIG
from dspy.evaluate.metrics import f1_score

from apprentice import ADVICE, ALL, BETTER, START, Apprentice, Restless, compiled, luck, of, rows
from bindu.dspy.errors import BudgetExceededError, ModelUnavailableError, TrainingRefusedError
from bindu.dspy.objective import PythonMetric
from bindu.dspy.optimizer import Optimizer
from providers import answer, text_of

every_optimizer = pytest.mark.parametrize("name", ALL)


@every_optimizer
def test_it_finds_the_better_instruction_and_returns_it_first(name: str) -> None:
    found = compiled(of(name)).found
    assert found[0].text == BETTER
    assert found[0].score == pytest.approx(1.0)
    assert START in [one.text for one in found]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len({one.text for one in found}) == len(found)
    assert all(0 <= one.score <= 1 for one in found)


@every_optimizer
def test_it_asks_no_more_than_it_planned(name: str) -> None:
    optimizer = of(name)
    done = compiled(optimizer)
    plan = optimizer.plan(40, 12)
    if name == "Rewriter":
        assert not plan.known
        return
    assert 0 < done.engine.calls["agent"] <= plan.evaluations
    assert 0 < done.engine.calls["reflector"] <= plan.reflections


@every_optimizer
def test_one_thread_or_eight_find_the_same_by_the_same_seed(name: str) -> None:
    once, again = (
        compiled(of(name), threads=threads, seed=5, inner=Restless(), objective=PythonMetric(luck))
        for threads in (1, 8)
    )
    assert once.found == again.found
    assert once.engine.calls == again.engine.calls


@every_optimizer
def test_what_was_scored_is_what_will_be_served(name: str) -> None:
    done = compiled(of(name), inner=(asked := Recording()))
    assert {one.text for one in done.found} <= set(asked.systems)
    assert set(asked.systems) <= {START, BETTER}


class Recording(Apprentice):
    """Remembers the prompts of all answers, a user's own model's included."""

    systems: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.systems = self.prompts


@every_optimizer
@pytest.mark.parametrize("calls", [1, 4, 30])
@pytest.mark.parametrize("threads", [1, 8])
def test_a_budget_that_runs_out_inside_is_raised(name: str, calls: int, threads: int) -> None:
    with pytest.raises(BudgetExceededError, match=f"limit of {calls} model calls"):
        compiled(of(name), max_calls=calls, threads=threads)


@every_optimizer
def test_a_model_that_dies_inside_is_raised(name: str) -> None:
    class Dying(Apprentice):
        def complete(self, request: lm15.Request) -> lm15.Response:
            if sum(self.asked.values()) >= 20:
                raise lm15.AuthError("the key was revoked")
            return super().complete(request)

    with pytest.raises(ModelUnavailableError, match="the key was revoked"):
        compiled(of(name), inner=Dying(), threads=8)


@every_optimizer
def test_a_run_that_is_stopped_from_outside_says_so(name: str) -> None:
    class Nervous(PythonMetric):
        pass

    def metric(example: dspy.Example, prediction: dspy.Prediction) -> float:
        return 7.0

    optimizer: Optimizer = of(name)
    optimizer.objective = Nervous(metric)
    with pytest.raises(TrainingRefusedError, match="'metric' gave the score 7.0, which is not a number from 0 to 1"):
        compiled(optimizer, threads=4)


@every_optimizer
def test_a_model_that_fails_now_and_then_does_not_end_the_run(name: str) -> None:
    class Moody(Apprentice):
        def complete(self, request: lm15.Request) -> lm15.Response:
            if text_of(request).startswith("Question") and int(text_of(request)[9:-1]) % 10 == 3:
                raise lm15.InvalidRequestError("not this one")
            return super().complete(request)

    assert compiled(of(name), inner=Moody(), threads=4).found[0].text == BETTER
