"""SIMBA: rules only by default, a batch that fits the rows, and a plan that counts its loop."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Sequence

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice import BETTER, START, Apprentice, Restless, a_simba, compiled, luck, regret, rows
from bindu.dspy.errors import TrainingRefusedError
from bindu.dspy.objective import PythonMetric
from bindu.dspy.optimizer import SimbaOptimizer, resolve_optimizer


@pytest.mark.parametrize(("size", "candidates", "steps", "train"), [(32, 6, 2, 40), (16, 3, 4, 32), (8, 9, 1, 33)])
def test_its_plan_counts_every_evaluation_of_its_loop(size: int, candidates: int, steps: int, train: int) -> None:
    judged: list[dspy.Example] = []

    def counting(example: dspy.Example, prediction: dspy.Prediction) -> float:
        judged.append(example)
        return luck(example, prediction)

    optimizer = SimbaOptimizer(bsize=size, num_candidates=candidates, max_steps=steps)
    done = compiled(optimizer, examples=rows(train), inner=Restless(), objective=PythonMetric(counting))
    plan = optimizer.plan(train, 12)
    sampled = steps * size * (candidates + min(candidates + 1, size))
    assert plan.evaluations == sampled + min(candidates + 1, steps + 1) * train == len(judged)
    assert done.engine.calls["agent"] <= plan.evaluations
    assert 0 < done.engine.calls["reflector"] <= plan.reflections == steps * min(candidates + 1, size)


@given(st.integers(1, 200), st.integers(1, 200))
def test_the_batch_shrinks_to_the_rows(size: int, train: int) -> None:
    optimizer = SimbaOptimizer(bsize=size)
    assert optimizer.plan(train, 0) == SimbaOptimizer(bsize=min(size, train)).plan(train, 0)
    assert 1 <= optimizer.min_rows <= 32


@pytest.mark.parametrize(("size", "needed"), [(8, 8), (32, 32), (64, 32)])
def test_it_needs_one_batch_of_rows_and_32_at_most(size: int, needed: int) -> None:
    instance = resolve_optimizer(a_simba(bsize=size, max_steps=1, num_candidates=2))
    assert instance.min_rows == SimbaOptimizer(bsize=size).min_rows == needed
    assert compiled(instance, examples=rows(needed)).found
    with pytest.raises(TrainingRefusedError, match=f"simba needs at least {needed} training examples"):
        compiled(instance, examples=rows(needed - 1))


def test_no_customer_s_text_is_copied_into_the_prompt_by_default() -> None:
    done = compiled(SimbaOptimizer(bsize=16, num_candidates=3, max_steps=3))
    assert {one.text for one in done.found} == {START, BETTER}


def test_demos_are_folded_when_somebody_wants_them_and_scored_as_they_are_served() -> None:
    optimizer = SimbaOptimizer(bsize=16, num_candidates=4, max_steps=3, max_demos=2)
    done = compiled(optimizer, inner=Restless(), objective=PythonMetric(luck), seed=1)
    texts = {one.text for one in done.found}
    assert any("Examples of good answers:\n\nUser: Question " in text for text in texts)
    assert texts <= set(done.inner.prompts)


def test_a_seed_decides_the_run() -> None:
    optimizer = SimbaOptimizer(bsize=8, num_candidates=3, max_steps=2)

    def texts(seed: int) -> list[str]:
        return [
            one.text for one in compiled(optimizer, seed=seed, inner=Restless(), objective=PythonMetric(luck)).found
        ]

    assert texts(5) == texts(5) != texts(6)


def test_an_instance_brings_its_own_metric_and_parameters() -> None:
    instance = a_simba(lambda example, prediction: 1.0 - regret(example, prediction), bsize=8, max_steps=1)
    optimizer = resolve_optimizer(instance)
    assert optimizer.plan(40, 12).reflections == 4
    done = compiled(optimizer, threads=4)
    assert done.found[0].text == START
    assert done.engine.calls["reflector"] > 0
    assert (instance.prompt_model, instance.num_threads) == (None, None)


def test_a_reflector_that_nobody_can_read_leaves_the_prompt_as_it_is() -> None:
    class Mumbling(Apprentice):
        def writes(self, fields: object, *, as_json: bool) -> str:
            return "Hm."

    done = compiled(SimbaOptimizer(bsize=8, num_candidates=2, max_steps=1), inner=Mumbling())
    assert [one.text for one in done.found] == [START]


def test_reflections_think_side_by_side_and_read_the_program_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 fails at random when two threads parse a source at once."""
    reading, thinking = Crowd(0.01), Crowd(0.5)
    getsource = inspect.getsource

    def read(program: type) -> str:
        with reading:
            return getsource(program)

    class Thinker(Restless):
        def writes(self, fields: Sequence[str], *, as_json: bool) -> str:
            with thinking:
                return super().writes(fields, as_json=as_json)

    monkeypatch.setattr("dspy.teleprompt.simba_utils.inspect.getsource", read)
    optimizer = SimbaOptimizer(bsize=12, num_candidates=4, max_steps=1)
    compiled(optimizer, inner=Thinker(), objective=PythonMetric(luck), threads=8)
    assert reading.most == 1
    assert thinking.most > 1


class Crowd:
    """How many threads were in here at once, each for so many seconds."""

    def __init__(self, stay: float) -> None:
        self.most = 0
        self._stay = stay
        self._now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self._stay)

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._now -= 1
