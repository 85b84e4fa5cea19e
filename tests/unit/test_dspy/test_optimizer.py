"""Optimizers that rewrite instructions are let in, all others are refused before anything is spent."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from threading import Lock
from typing import Any

import dspy
import pytest
from dspy import lm15
from dspy.teleprompt import SIMBA, BootstrapFewShot, LabeledFewShot, MIPROv2

from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import BudgetExceededError, TrainingRefusedError, UnsupportedOptimizerError
from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import PythonMetric
from bindu.dspy.optimizer import Optimizer, Plan, SimbaOptimizer, answer_all, resolve_optimizer, running

ROWS = [dspy.Example(input=f"Question {n}?", output="x").with_inputs("input") for n in range(40)]
START = "Answer."


class Apprentice:
    """Says sorry once its prompt tells it to, and now and then by itself; reflects by advising to say sorry."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def complete(self, request: lm15.Request) -> lm15.Response:
        system, last = str(request.system), request.messages[-1].text or ""
        if "module_advice" in system:
            kind, text = (
                "reflection",
                (
                    "[[ ## discussion ## ]]\nd\n\n[[ ## module_advice ## ]]\n"
                    '{"answer": "Say sorry at once."}\n\n[[ ## completed ## ]]'
                ),
            )
        else:
            with self._lock:
                self._seen[system, last] += 1
                lucky = (len(last) * 7 + self._seen[system, last] * 3 + int(last[9:-1])) % 5 == 0
            kind, text = "answer", "sorry, yes" if "sorry" in system or lucky else "yes"
        with self._lock:
            self.asked[kind] += 1
        message = lm15.Message.assistant(text)
        return lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=lm15.Usage())


def regret(example: dspy.Example, prediction: dspy.Prediction | None, trace: object = None) -> float:
    return 0.0 if prediction is None else float("sorry" in prediction.output)


def compiled(
    optimizer: Optimizer,
    *,
    rows: Sequence[dspy.Example] = ROWS,
    seed: int = 0,
    threads: int = 1,
    max_calls: int = 9_999,
) -> tuple[list[PromptCandidate], Apprentice, CountingEngine]:
    apprentice = Apprentice()
    models: Any = dict.fromkeys(("agent", "judge", "reflector"), "scripted/x")
    engine = CountingEngine(apprentice, models=models, max_calls=max_calls)
    with running(engine, num_threads=threads):
        objective = optimizer.objective or PythonMetric(regret)
        found = optimizer.compile(START, rows, objective=objective, engine=engine, seed=seed)
    return found, apprentice, engine


@pytest.mark.parametrize("given", ["simba", " SIMBA ", SIMBA, SIMBA(metric=regret), SimbaOptimizer(max_steps=2)])
def test_simba_is_taken_by_name_by_class_and_as_an_instance(given: object) -> None:
    chosen = resolve_optimizer(given)
    assert chosen.name == "simba"
    assert (chosen.objective is not None) == isinstance(given, SIMBA)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("bootstrap", "bootstrap"),
        (BootstrapFewShot(metric=regret), "BootstrapFewShot"),
        (LabeledFewShot, "LabeledFewShot"),
        (MIPROv2, "MIPROv2"),
        ("gepa", "gepa"),
        (None, "NoneType"),
        (SimbaOptimizer, "SimbaOptimizer"),
    ],
)
def test_others_are_refused_by_name(given: object, named: str) -> None:
    with pytest.raises(UnsupportedOptimizerError, match=f"'{named}'.*only SIMBA") as refused:
        resolve_optimizer(given)
    assert isinstance(refused.value, ValueError)


def test_simba_finds_the_better_instruction_and_returns_it_first() -> None:
    found, _, _ = compiled(SimbaOptimizer(bsize=16, num_candidates=3, max_steps=2))
    assert "Say sorry at once." in found[0].text
    assert found[0].text.startswith(START)
    assert found[0].score == 1.0
    assert START in [one.text for one in found]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len({one.text for one in found}) == len(found)


@pytest.mark.parametrize(("size", "candidates", "steps", "rows"), [(32, 6, 2, 40), (16, 3, 4, 32), (8, 9, 1, 33)])
def test_simba_makes_no_more_calls_than_planned(size: int, candidates: int, steps: int, rows: int) -> None:
    optimizer = SimbaOptimizer(bsize=size, num_candidates=candidates, max_steps=steps)
    _, apprentice, engine = compiled(optimizer, rows=ROWS[:rows] if rows <= 40 else ROWS)
    plan = optimizer.plan(rows)
    sampled = steps * size * (candidates + min(candidates + 1, size))
    assert plan.evaluations == sampled + min(candidates + 1, steps + 1) * rows
    assert apprentice.asked["answer"] == plan.evaluations
    assert 0 < apprentice.asked["reflection"] <= plan.reflections
    assert engine.calls["reflector"] == apprentice.asked["reflection"]


def test_the_batch_shrinks_with_few_rows() -> None:
    assert SimbaOptimizer(bsize=64).plan(40).evaluations == SimbaOptimizer(bsize=40).plan(40).evaluations


def test_too_few_rows_are_refused_with_a_sentence() -> None:
    with pytest.raises(TrainingRefusedError, match="needs at least 32 training examples and there are 31"):
        compiled(SimbaOptimizer(), rows=ROWS[:31])


def test_one_thread_and_one_seed_give_one_result() -> None:
    optimizer = SimbaOptimizer(bsize=8, num_candidates=3, max_steps=2)
    assert compiled(optimizer, seed=5)[0] == compiled(optimizer, seed=5)[0]


def test_an_instance_brings_its_own_metric_and_parameters_and_is_left_alone() -> None:
    instance = SIMBA(
        metric=lambda example, prediction: 1.0 - regret(example, prediction), bsize=8, max_steps=1, max_demos=0
    )
    found, _, engine = compiled(resolve_optimizer(instance), threads=4)
    assert found[0].text == START
    assert engine.calls["reflector"] > 0
    assert (instance.prompt_model, instance.num_threads) == (None, None)


def test_demos_are_folded_when_somebody_wants_them() -> None:
    found, _, _ = compiled(SimbaOptimizer(bsize=16, num_candidates=4, max_steps=3, max_demos=2), seed=1)
    assert any("Examples of good answers:" in one.text for one in found)


def test_a_budget_that_runs_out_inside_simba_is_raised_afterwards() -> None:
    with pytest.raises(BudgetExceededError):
        compiled(SimbaOptimizer(bsize=16, num_candidates=3, max_steps=2), max_calls=50)


def test_nothing_is_printed_and_dspys_own_settings_stay(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "bindu.dspy.optimizer"):
        compiled(SimbaOptimizer(bsize=8, num_candidates=2, max_steps=1), threads=2)
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")
    assert any("Starting batch 1" in record.getMessage() for record in caplog.records)
    assert dspy.settings.lm is None
    dspy.Parallel(num_threads=1)([(lambda question: question, {"question": 1})])
    assert "Processed 1 / 1" in capfd.readouterr().out  # an application's own DSPy talks as before


def test_answers_come_in_order_and_a_failed_one_is_none() -> None:
    class Fragile(Apprentice):
        def complete(self, request: lm15.Request) -> lm15.Response:
            if request.messages[-1].text == "Question 3?":
                raise lm15.InvalidRequestError("not this one")
            return super().complete(request)

    models: Any = dict.fromkeys(("agent", "judge", "reflector"), "scripted/x")
    engine = CountingEngine(Fragile(), models=models, max_calls=99)
    with running(engine, num_threads=4):
        answers = answer_all(
            "Say sorry.", ROWS[:6], PythonMetric(lambda example, prediction: int(example.input[9]) / 10)
        )
    assert [None if one is None else one.score for one in answers] == [0.0, 0.1, 0.2, None, 0.4, 0.5]
    assert {one.length for one in answers if one is not None} == {len("sorry, yes")}


def test_an_optimizer_of_ones_own_is_taken_by_its_shape() -> None:
    class Mine:
        name = "mine"
        min_rows = 1
        objective = None

        def plan(self, rows: int) -> Plan:
            return Plan(rows, 0)

        def compile(self, prompt: str, examples: Sequence[dspy.Example], **seam: Any) -> list[PromptCandidate]:
            return []

    mine = Mine()
    assert resolve_optimizer(mine) is mine


@pytest.mark.parametrize(("size", "needed"), [(8, 8), (32, 32), (64, 32)])
def test_simba_needs_one_batch_of_rows_and_32_at_most(size: int, needed: int) -> None:
    instance = resolve_optimizer(SIMBA(metric=regret, bsize=size, max_steps=1, num_candidates=2))
    assert instance.min_rows == SimbaOptimizer(bsize=size).min_rows == needed
    found, _, _ = compiled(instance, rows=ROWS[:needed])
    assert found
    with pytest.raises(TrainingRefusedError, match=f"at least {needed} training examples"):
        compiled(instance, rows=ROWS[: needed - 1])
