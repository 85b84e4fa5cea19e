"""A user's own optimizer keeps its metric and parameters, speaks through our door, and is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy import lm15
from dspy.teleprompt import MIPROv2
from dspy.teleprompt.teleprompt import Teleprompter

from apprentice import (
    ADVICE,
    BETTER,
    INSTANCES,
    START,
    Apprentice,
    Restless,
    Rewriter,
    a_copro,
    a_gepa,
    a_mipro,
    a_simba,
    compiled,
    luck,
    own_lm,
    regret,
    regret_told,
    rows,
    run,
)
from bindu.dspy.engine.budget import Budget
from bindu.dspy.engine.pricing import Price
from bindu.dspy.errors import BudgetExceededError
from bindu.dspy.optimizer import resolve_optimizer
from bindu.dspy.optimizers import InstanceOptimizer

every_instance = pytest.mark.parametrize("name", INSTANCES)


@every_instance
def test_a_user_s_own_model_is_asked_through_our_door(name: str) -> None:
    own = Apprentice()
    optimizer = resolve_optimizer(INSTANCES[name](_metric(name), prompt_model=own_lm(own)))
    done = compiled(optimizer)
    assert own.asked["reflection"] == done.engine.calls["reflector"] > 0
    assert own.asked.total() + done.inner.asked.total() == done.engine.used
    assert done.inner.asked["reflection"] == 0


def test_a_user_s_task_model_answers_in_the_agent_s_place() -> None:
    own = Apprentice()
    done = compiled(resolve_optimizer(a_mipro(prompt_model=own_lm(own))))
    assert own.asked["answer"] == done.engine.calls["agent"] > 0
    assert done.inner.asked.total() == 0


@every_instance
def test_a_user_s_own_model_is_capped_with_ours(name: str) -> None:
    own = Apprentice()
    optimizer = resolve_optimizer(INSTANCES[name](_metric(name), prompt_model=own_lm(own)))
    with pytest.raises(BudgetExceededError):
        compiled(optimizer, max_calls=2)
    assert own.asked.total() <= 2


@every_instance
def test_a_user_s_own_model_must_have_a_price_where_money_is_limited(name: str) -> None:
    own = Apprentice()
    optimizer = resolve_optimizer(INSTANCES[name](_metric(name), prompt_model=own_lm(own)))
    with pytest.raises(BudgetExceededError, match="nobody knows what 'scripted/own' costs"):
        compiled(optimizer, price=Price(1e-6, 1e-6), budget=Budget(max_calls=99, max_cost=1.0))
    assert own.asked.total() == 0


@every_instance
def test_an_instance_is_left_as_it_was(name: str) -> None:
    lm = own_lm(temperature=0.5)
    instance = INSTANCES[name](_metric(name), prompt_model=lm)
    before, config, held = dict(vars(instance)), dict(lm.kwargs), dict(vars(lm))
    compiled(resolve_optimizer(instance), threads=4)
    assert vars(instance) == before
    assert all(vars(instance)[name] is value for name, value in before.items())
    assert (lm.kwargs, lm.history) == (config, [])
    assert dict(vars(lm)) == held


@every_instance
def test_an_instance_s_models_keep_their_temperature(name: str) -> None:
    asked: list[float | None] = []

    class Watching(Apprentice):
        def complete(self, request: lm15.Request) -> lm15.Response:
            if request.config.max_tokens == 77:
                asked.append(request.config.temperature)
            return super().complete(request)

    lm = own_lm(Watching(), temperature=0.25, max_tokens=77)
    compiled(resolve_optimizer(INSTANCES[name](_metric(name), prompt_model=lm)))
    assert asked
    assert (0.25 in asked) or name in ("COPRO", "MIPROv2")  # these have temperatures of their own


@pytest.mark.parametrize("make", [a_simba, a_copro, lambda: Rewriter(regret)])
def test_models_that_the_user_did_not_choose_are_ours(make: Callable[[], Teleprompter]) -> None:
    done = compiled(resolve_optimizer(make()))
    assert done.found[0].text == BETTER
    assert done.inner.asked.total() == done.engine.used


@pytest.mark.parametrize("make", [a_simba, a_mipro])
def test_a_teacher_s_model_is_asked_through_our_door_as_well(make: Callable[..., Teleprompter]) -> None:
    teacher = Apprentice()
    lm = own_lm(teacher)
    settings = {"lm": lm}
    done = compiled(resolve_optimizer(make(prompt_model=own_lm(Apprentice()), teacher_settings=settings)))
    assert 0 < teacher.asked["answer"] <= done.engine.calls["agent"]
    assert settings == {"lm": lm}
    assert "rollout_id" not in lm.kwargs
    with pytest.raises(BudgetExceededError):
        compiled(resolve_optimizer(make(teacher_settings={"lm": own_lm(Apprentice())})), max_calls=5)


def two(gold: dspy.Example, pred: dspy.Prediction) -> float:
    return regret(gold, pred)


def three(gold: dspy.Example, pred: dspy.Prediction, trace: object) -> float:
    return regret(gold, pred)


def boolean(gold: dspy.Example, pred: dspy.Prediction, trace: object = None) -> bool:
    return "sorry" in pred.output


def scored(gold: dspy.Example, pred: dspy.Prediction, trace: object = None) -> dspy.Prediction:
    return dspy.Prediction(score=regret(gold, pred))


def told(gold: dspy.Example, pred: dspy.Prediction, trace: object = None) -> dspy.Prediction:
    return dspy.Prediction(score=regret(gold, pred), feedback="It does not say sorry.")


def _metric(name: str) -> Callable[..., Any]:
    return regret_told if name == "GEPA" else regret


@pytest.mark.parametrize("metric", [two, three, regret_told, boolean, scored, told])
@pytest.mark.parametrize("name", ["SIMBA", "MIPROv2", "COPRO", "Rewriter"])
def test_metrics_may_have_two_three_or_five_parameters_and_tell_more_or_less(
    name: str, metric: Callable[..., Any]
) -> None:
    assert run(name, metric=metric).found[0].text == BETTER


@pytest.mark.parametrize("result", [float, bool, lambda one: dspy.Prediction(score=one, feedback="Say sorry.")])
def test_gepa_s_metric_may_return_a_number_or_a_prediction(result: Callable[[float], Any]) -> None:
    def metric(gold: dspy.Example, pred: dspy.Prediction, trace: Any, pred_name: Any, pred_trace: Any) -> Any:
        return result(regret(gold, pred))

    assert run("GEPA", metric=metric).found[0].text == BETTER


def test_the_feedback_of_an_instance_s_metric_reaches_the_reflector() -> None:
    read: list[str] = []

    class Reading(Apprentice):
        def complete(self, request: lm15.Request) -> lm15.Response:
            read.append(request.messages[-1].text or "")
            return super().complete(request)

    run("GEPA", Reading())
    run("SIMBA", Reading(), told)
    assert sum("It does not say sorry." in one for one in read) >= 2


@every_instance
def test_an_instance_s_own_metric_decides(name: str) -> None:
    def opposite(gold: dspy.Example, pred: dspy.Prediction, *others: object) -> float:
        return 1.0 - regret(gold, pred)

    assert run(name, metric=opposite).found[0].text == START


def test_an_optimizer_without_a_metric_gets_ours() -> None:
    optimizer = resolve_optimizer(Rewriter(None))  # type: ignore[arg-type]
    assert optimizer.objective is None
    assert compiled(optimizer).found[0].text == BETTER


def test_an_optimizer_that_calls_a_metric_like_gepa_does_is_understood() -> None:
    class Thorough(Rewriter):
        def compile(self, student: dspy.Module, *, trainset: list[dspy.Example]) -> dspy.Module:
            metric = self.metric
            self.metric = lambda gold, pred: metric(gold, pred, None, "answer", pred_trace=None)
            return super().compile(student, trainset=trainset)

    assert compiled(resolve_optimizer(Thorough(regret_told))).found[0].text == BETTER


def test_an_optimizer_that_tells_of_no_others_has_proposed_the_one_it_returned() -> None:
    class Silent(Rewriter):
        def compile(self, student: dspy.Module, *, trainset: list[dspy.Example]) -> dspy.Module:
            best = super().compile(student, trainset=trainset)
            del best.candidate_programs
            return best

    assert [one.text for one in compiled(resolve_optimizer(Silent(regret))).found] == [BETTER]


def test_whatever_compile_can_be_told_it_is_told() -> None:
    class Curious(Rewriter):
        given: dict[str, Any] = {}  # noqa: RUF012 - one for all copies

        def compile(
            self, student: dspy.Module, *, trainset: Any, valset: Any, seed: int, minibatch: bool = True
        ) -> dspy.Module:
            self.given.update(trainset=trainset, valset=valset, seed=seed, minibatch=minibatch)
            return super().compile(student, trainset=trainset)

    compiled(resolve_optimizer(Curious(regret)), seed=3)
    assert (len(Curious.given["trainset"]), len(Curious.given["valset"])) == (40, 12)
    assert (Curious.given["seed"], Curious.given["minibatch"]) == (3, False)


@pytest.mark.parametrize("make", [a_gepa, a_mipro])
def test_the_run_s_seed_decides_and_not_the_instance_s(make: Callable[..., Teleprompter]) -> None:
    limit = {"max_metric_calls": 60} if make is a_gepa else {}

    def found(own_seed: int, seed: int) -> list[str]:
        instance = make(luck, prompt_model=own_lm(Restless()), seed=own_seed, **limit)
        return [one.text for one in compiled(resolve_optimizer(instance), inner=Restless(), seed=seed).found]

    assert found(1, 5) == found(2, 5) != found(1, 6)


def test_percentages_are_told_from_shares_even_when_all_are_bad() -> None:
    def rarely(gold: dspy.Example, pred: dspy.Prediction, trace: object = None) -> float:
        return 0.4 * (gold.input == "Question 7?") * regret(gold, pred)

    found = run("COPRO", metric=rarely).found
    assert (found[0].text, found[0].score) == (BETTER, pytest.approx(0.01))


@pytest.mark.parametrize(
    "instance",
    [
        lambda: a_gepa(luck),
        lambda: a_gepa(luck, auto="light"),
        lambda: a_gepa(luck, max_full_evals=30),
        lambda: a_gepa(luck, max_metric_calls=11, reflection_minibatch_size=1),
        lambda: a_mipro(luck),
        lambda: a_mipro(luck, max_bootstrapped_demos=2, max_labeled_demos=3),
        lambda: a_mipro(lambda *_: 0.0, max_bootstrapped_demos=1, max_labeled_demos=3),
        lambda: a_mipro(lambda *_: 0.0),
        lambda: a_mipro(luck, auto="medium"),
        lambda: a_mipro(luck, auto=None, num_candidates=3),
        lambda: a_copro(luck, breadth=4, depth=3),
    ],
)
@pytest.mark.parametrize("select", [1, 12, 60])
def test_an_instance_asks_no_more_than_it_planned(instance: Callable[[], Teleprompter], select: int) -> None:
    one = instance()
    own = own_lm(Restless())
    for name in ("prompt_model", "reflection_lm", "task_model"):
        if hasattr(one, name):
            setattr(one, name, own)
    optimizer = resolve_optimizer(one)
    done = compiled(optimizer, inner=Restless(), select=select)
    plan = optimizer.plan(40, select)
    assert plan.known
    assert 0 < done.engine.calls["agent"] <= plan.evaluations
    assert done.engine.calls["reflector"] <= plan.reflections


@pytest.mark.parametrize(
    "instance",
    [lambda: Rewriter(regret), lambda: a_gepa(instruction_proposer=lambda **_: {}, max_metric_calls=9)],
)
def test_what_nobody_can_count_is_told_to_be_unknown(instance: Callable[[], Teleprompter]) -> None:
    assert not resolve_optimizer(instance()).plan(40, 12).known


def test_a_gepa_that_ran_before_plans_by_its_own_setting() -> None:
    gepa = a_gepa(auto="light")
    fresh = resolve_optimizer(gepa).plan(40, 12)
    gepa.max_metric_calls = 5  # as its own compile leaves it
    assert resolve_optimizer(gepa).plan(40, 12) == fresh


@pytest.mark.parametrize("labeled", [0, 2])
def test_demos_are_folded_into_what_was_scored(labeled: int) -> None:
    inner = Apprentice()
    mipro = a_mipro(prompt_model=own_lm(inner), max_bootstrapped_demos=2, max_labeled_demos=labeled)
    done = compiled(resolve_optimizer(mipro), inner=inner)
    texts = {one.text for one in done.found}
    assert any("Examples of good answers:\n\nUser: Question " in text for text in texts)
    assert texts <= set(inner.prompts)


def test_instances_of_subclasses_are_taken_like_their_kind() -> None:
    class Careful(MIPROv2):
        pass

    own = own_lm()
    optimizer = resolve_optimizer(Careful(metric=regret, prompt_model=own, task_model=own))
    assert isinstance(optimizer, InstanceOptimizer)
    assert optimizer.selects
    assert ADVICE in compiled(optimizer, examples=rows(9)).found[0].text
