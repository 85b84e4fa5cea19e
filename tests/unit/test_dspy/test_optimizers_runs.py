"""Every optimizer, ours and a user's instance, finds a better instruction, within its plan, whatever happens to it."""

from __future__ import annotations

import dspy
import pytest
from dspy import lm15
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice import ALL, BETTER, START, Apprentice, Restless, compiled, luck, of, rows, run
from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import BudgetExceededError, ModelUnavailableError, RunCancelledError, TrainingRefusedError
from bindu.dspy.objective import PythonMetric
from bindu.dspy.optimizer import Optimizer
from bindu.dspy.optimizers import GepaOptimizer, MiproOptimizer, SimbaOptimizer
from providers import text_of

every_optimizer = pytest.mark.parametrize("name", ALL)


@every_optimizer
def test_it_finds_the_better_instruction_and_returns_it_first(name: str) -> None:
    found = run(name).found
    assert found[0].text == BETTER
    assert found[0].score == pytest.approx(1.0)
    assert START in [one.text for one in found]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len({one.text for one in found}) == len(found)
    assert all(0 <= one.score <= 1 for one in found)


@every_optimizer
def test_one_thread_or_eight_find_the_same_by_the_same_seed(name: str) -> None:
    once, again = (run(name, Restless(), luck, threads=threads, seed=5) for threads in (1, 8))
    assert len(once.found) > 1
    assert once.found == again.found
    assert once.engine.calls == again.engine.calls


@every_optimizer
def test_what_was_scored_is_what_will_be_served(name: str) -> None:
    done = run(name)
    assert {one.text for one in done.found} == set(done.inner.prompts) == {START, BETTER}


@every_optimizer
@pytest.mark.parametrize("calls", [1, 4, 30])
@pytest.mark.parametrize("threads", [1, 8])
def test_a_budget_that_runs_out_inside_is_raised(name: str, calls: int, threads: int) -> None:
    with pytest.raises(BudgetExceededError, match=f"limit of {calls} model calls"):
        run(name, max_calls=calls, threads=threads)


@every_optimizer
def test_a_model_that_dies_inside_is_raised(name: str) -> None:
    class Dying(Apprentice):
        def complete(self, request: lm15.Request) -> lm15.Response:
            if self.asked.total() >= 20:
                raise lm15.AuthError("The key was revoked.")
            return super().complete(request)

    with pytest.raises(ModelUnavailableError, match="The key was revoked"):
        run(name, Dying(), luck, threads=8)


@every_optimizer
def test_a_run_that_a_person_stops_says_so(name: str) -> None:
    class Stopping(Apprentice):
        engine: CountingEngine

        def complete(self, request: lm15.Request) -> lm15.Response:
            if self.asked.total() == 25:
                self.engine.stop(RunCancelledError("enough"))
            return super().complete(request)

    with pytest.raises(RunCancelledError, match="enough"):
        run(name, Stopping())


@every_optimizer
@pytest.mark.parametrize("score", [7.0, -1, float("nan"), "good", None])
def test_a_bad_score_ends_the_run_with_the_metric_s_name(name: str, score: object) -> None:
    def metric(example: dspy.Example, prediction: dspy.Prediction, *others: object) -> object:
        return score

    with pytest.raises(TrainingRefusedError, match="The metric 'metric' "):
        run(name, None, metric, threads=4)


@every_optimizer
def test_a_metric_that_breaks_in_the_middle_ends_the_run(name: str) -> None:
    seen: list[object] = []

    def fragile(example: dspy.Example, prediction: dspy.Prediction, *others: object) -> float:
        seen.append(example)
        return 1.0 / (len(seen) != 20)

    with pytest.raises(TrainingRefusedError, match="The metric 'fragile' failed with ZeroDivisionError"):
        run(name, Restless(), fragile)


@every_optimizer
def test_answers_that_fail_now_and_then_do_not_end_the_run(name: str) -> None:
    class Moody(Apprentice):
        def complete(self, request: lm15.Request) -> lm15.Response:
            number = text_of(request).removeprefix("Question ").removesuffix("?")
            if number.isdigit() and int(number) % 13 == 3:
                raise lm15.InvalidRequestError("not this one")
            return super().complete(request)

    assert run(name, Moody(), threads=4).found[0].text == BETTER


@every_optimizer
@pytest.mark.parametrize("advice", ["", "  ", "\x00"])
def test_proposals_that_are_no_prompt_are_left_out(name: str, advice: str) -> None:
    class Empty(Apprentice):
        def writes(self, fields: list[str], *, as_json: bool) -> str:
            return super().writes(fields, as_json=as_json).replace(START, "").replace("\\n", "")

    found = run(name, Empty(advice)).found
    assert {one.text.strip() for one in found} == {START}


@every_optimizer
def test_too_few_rows_are_refused_with_a_sentence(name: str) -> None:
    optimizer = of(name)
    needed = optimizer.min_rows
    sentence = f"{optimizer.name} needs at least {needed} training examples and there are {needed - 1}"
    with pytest.raises(TrainingRefusedError, match=sentence):
        compiled(optimizer, examples=rows(needed - 1))


def assert_within_plan(optimizer: Optimizer, train: int, select: int, seed: int) -> None:
    done = compiled(optimizer, examples=rows(train), select=select, inner=Restless(), objective=PythonMetric(luck),
                    seed=seed)  # fmt: skip
    plan = optimizer.plan(train, select)
    assert done.engine.calls["agent"] <= plan.evaluations
    assert done.engine.calls["reflector"] <= plan.reflections


sizes = {"train": st.integers(8, 24), "select": st.integers(1, 14), "seed": st.integers(0, 99)}


@given(st.integers(4, 8), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_simba_never_asks_more_than_it_planned(batch: int, candidates: int, steps: int) -> None:
    assert_within_plan(SimbaOptimizer(bsize=batch, num_candidates=candidates, max_steps=steps), 17, 5, batch + steps)


@given(limit=st.integers(1, 90), **sizes)
@settings(max_examples=20, deadline=None)
def test_gepa_never_asks_more_than_it_planned(limit: int, train: int, select: int, seed: int) -> None:
    assert_within_plan(GepaOptimizer(max_metric_calls=limit), train, select, seed)


@given(**sizes)
@settings(max_examples=10, deadline=None)
def test_miprov2_never_asks_more_than_it_planned(train: int, select: int, seed: int) -> None:
    assert_within_plan(MiproOptimizer(), train, select, seed)
