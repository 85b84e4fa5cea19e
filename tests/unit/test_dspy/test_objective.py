"""A metric in Python is an objective, and an objective that a run trusts ends it when it is broken."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import dspy
import pytest
from dspy.utils.exceptions import LMError
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import TrainingRefusedError
from bindu.dspy.models import Interaction
from bindu.dspy.objective import OBJECTIVES, Metric, PythonMetric, TrustedObjective
from bindu.dspy.objective.judge import Judge
from bindu.dspy.objective.references import Correction, Gold, Imitation
from bindu.dspy.optimizer import running
from bindu.dspy.rubric import Rubric
from providers import Script, scripted

ROW = Interaction(id=UUID(int=1), user_input="Question 1?", agent_output="Answer 1.", feedback_score=0.4)
EXAMPLE = dspy.Example(input="Question 1?", output="Answer 1.")


def test_the_objectives_have_the_names_that_the_command_takes() -> None:
    assert OBJECTIVES == ("judge", "reward_model", "correction", "imitation")


@pytest.mark.parametrize(
    ("result", "score"),
    [(True, 1.0), (False, 0.0), (0.5, 0.5), (1, 1.0), (dspy.Prediction(score=0.5, feedback="Half."), 0.5)],
)
def test_any_metric_of_dspys_kinds_is_an_objective(result: object, score: float) -> None:
    verdict = PythonMetric(lambda example, prediction, trace=None: result)(EXAMPLE, dspy.Prediction(output="x"))
    assert verdict.score == score
    assert verdict.critique == ("Half." if isinstance(result, dspy.Prediction) else "")


@pytest.mark.parametrize("field", ["critique", "feedback"])
def test_what_a_metric_says_of_an_answer_is_its_critique(field: str) -> None:
    verdict = PythonMetric(lambda *_: dspy.Prediction(score=1.0, **{field: "Fine."}))(EXAMPLE, dspy.Prediction())
    assert verdict.critique == "Fine."


class Callable:
    """A metric that is an object."""

    def __call__(self, gold: object, pred: object, trace: object) -> float:
        assert trace is None
        return 0.25


@pytest.mark.parametrize(
    "metric",
    [
        lambda gold, pred: 0.25,
        lambda gold, pred, trace: 0.25,
        lambda gold, pred, trace=None: 0.25,
        lambda gold, pred, trace, pred_name, pred_trace: 0.25,
        lambda gold, pred, trace=None, pred_name=None, pred_trace=None: 0.25,
        lambda *everything: 0.25,
        lambda gold, pred, **named: 0.25,
        Callable(),
        Callable().__call__,
    ],
)
def test_metrics_of_two_three_and_five_parameters_are_called_as_they_like(metric: Metric) -> None:
    assert PythonMetric(metric)(EXAMPLE, dspy.Prediction(output="x")).score == 0.25


def trusted(metric: Metric) -> tuple[TrustedObjective, CountingEngine, Script]:
    says = Script("fine")
    engine = scripted(says)
    return TrustedObjective(PythonMetric(metric), engine), engine, says


@given(st.floats() | st.integers() | st.booleans())
def test_a_score_is_taken_exactly_when_it_is_a_number_from_0_to_1(score: float) -> None:
    objective, engine, _ = trusted(lambda example, prediction, trace=None: score)
    if 0 <= score <= 1:
        objective.probe(ROW)
        engine.check()
    else:
        with pytest.raises(TrainingRefusedError, match=r"'<lambda>' (gave the score|failed with Overflow)"):
            objective.probe(ROW)
        with pytest.raises(TrainingRefusedError) as told:
            engine.check()
        assert told.value.cause == "metric"


@pytest.mark.parametrize("result", [None, "good", [1], dspy.Prediction(critique="no score"), 1j])
def test_a_metric_that_gives_no_score_is_named(result: object) -> None:
    objective, engine, _ = trusted(lambda example, prediction, trace=None: result)
    with pytest.raises(TrainingRefusedError, match="The metric '<lambda>' failed with"):
        objective.probe(ROW)
    with pytest.raises(TrainingRefusedError):
        engine.check()


def test_a_metric_with_four_parameters_is_named() -> None:
    objective, _, _ = trusted(lambda gold, pred, trace, more: 1.0)
    with pytest.raises(TrainingRefusedError, match=r"The metric '<lambda>' failed with TypeError: .*more"):
        objective.probe(ROW)


def test_a_metric_that_raises_is_named_and_no_model_is_asked_any_more() -> None:
    def shortness(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
        return 1 / (len(prediction.output) - len("Answer 1."))

    objective, engine, says = trusted(shortness)
    with pytest.raises(TrainingRefusedError, match=r"The metric 'shortness' failed with ZeroDivisionError: .*zero"):
        objective.probe(ROW)
    with pytest.raises(LMError):
        engine.lm("agent")("One more question?")
    assert says.calls == 0


def test_a_model_that_fails_within_a_metric_is_a_failed_call_and_not_a_defect() -> None:
    def asks(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
        raise LMError("busy")

    objective, engine, _ = trusted(asks)
    with pytest.raises(LMError):
        objective.probe(ROW)
    engine.check()
    assert engine.faults.total() == 1


def test_a_model_that_a_metric_asks_by_itself_is_the_agent_s_and_counted() -> None:
    objective, engine, says = trusted(lambda gold, pred: float(dspy.settings.lm("Is it good?") == ["fine"]))
    with running(engine, num_threads=1):
        objective.probe(ROW)
    assert engine.calls == {"agent": 1}
    assert says.calls == 1


def test_no_answer_scores_nothing_and_costs_nothing() -> None:
    says = Script("x")
    engine = scripted(says)
    judge, correction = Judge(engine, Rubric("Help.")), Correction(engine)
    for objective in (judge, correction, Gold(correction, judge), Imitation(), PythonMetric(lambda *_: 1.0)):
        verdict = TrustedObjective(objective, engine)(EXAMPLE, None)
        assert (verdict.score, verdict.critique) == (0.0, "There is no answer.")
    assert says.calls == 0


def test_a_probe_scores_a_logged_answer_with_all_that_is_known_of_it() -> None:
    seen: list[Any] = []
    objective, _, _ = trusted(lambda gold, pred: seen.append((gold, pred)) or 1.0)
    objective.probe(ROW)
    [(gold, pred)] = seen
    assert (gold.input, gold.output, gold.feedback_score, pred.output) == ("Question 1?", "Answer 1.", 0.4, "Answer 1.")
