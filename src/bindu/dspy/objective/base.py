"""What "better" means when all we have is clicks and comments: the shapes that an objective can have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, get_args

import dspy
from dspy.utils.exceptions import AdapterParseError, DSPyError

from bindu.dspy.dataset import convert_to_dspy_examples
from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import TrainingRefusedError
from bindu.dspy.models import Interaction

__all__ = [
    "OBJECTIVES",
    "UNREADABLE",
    "Metric",
    "Objective",
    "ObjectiveName",
    "PythonMetric",
    "TrustedObjective",
]

ObjectiveName = Literal["judge", "reward_model", "correction", "imitation"]
OBJECTIVES: Final[tuple[ObjectiveName, ...]] = get_args(ObjectiveName)
UNREADABLE: Final = (AdapterParseError, RecursionError, TypeError, ValueError)  # what an answer of no use raises
Metric = Callable[..., Any]  # (example, prediction, trace=None) -> float or a Prediction with a score


class Objective(Protocol):
    """What the optimizer maximises and the gate compares."""

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> dspy.Prediction:
        """Score one answer: ``score`` in [0, 1] and a ``critique`` for the optimizer's reflection."""


class TrustedObjective:
    """An objective as a run uses it: no answer scores 0, every score is a number in [0, 1], a defect ends the run.

    Optimizers swallow what an objective raises; a defect is therefore told to the engine, which ends the run.
    """

    def __init__(self, objective: Objective, engine: CountingEngine) -> None:
        self.objective = objective
        self._engine = engine

    def __call__(
        self, example: dspy.Example, prediction: dspy.Prediction | None, trace: object = None
    ) -> dspy.Prediction:
        del trace
        if prediction is None:
            return dspy.Prediction(score=0.0, critique="There is no answer.")
        try:
            verdict = self.objective(example, prediction)
            if not 0 <= verdict.score <= 1:
                name = _name(getattr(self.objective, "metric", self.objective))
                raise TrainingRefusedError(
                    f"The metric '{name}' gave the score {verdict.score}, which is not a number from 0 to 1. "
                    "Nothing was deployed. Correct it, then train again.",
                    cause="metric",
                )
        except TrainingRefusedError as error:
            self._engine.stop(error)
            raise
        except DSPyError as error:
            if isinstance(self.objective, PythonMetric):  # a model that it asked by itself; the judge's are counted
                self._engine.unreadable("judge", error)
            raise
        return verdict

    def probe(self, row: Interaction) -> None:
        """Score one logged answer. Raises TrainingRefusedError for a defect, before anything is spent."""
        (example,) = convert_to_dspy_examples([row])
        self(example, dspy.Prediction(output=row.agent_output))


class PythonMetric:
    """A callable of the user's, or an optimizer's own metric, as an objective."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._padding = _padding(metric)

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> dspy.Prediction:
        del trace
        try:
            result = self.metric(example, prediction, *self._padding)
            if isinstance(result, dspy.Prediction):
                critique = result.get("critique") or result.get("feedback") or ""
                return dspy.Prediction(score=float(result.score), critique=critique)
            return dspy.Prediction(score=float(result), critique="")
        except DSPyError:
            raise  # a model that the metric asked: no defect of the metric
        except Exception as error:
            raise TrainingRefusedError(
                f"The metric '{_name(self.metric)}' failed with {type(error).__name__}: {error}. "
                "Nothing was deployed. Correct it, then train again.",
                cause="metric",
            ) from error


def _padding(metric: Metric) -> tuple[None, ...]:
    """What a metric wants besides an example and a prediction: nothing, a trace, or GEPA's three."""
    try:
        signature = inspect.signature(metric)
    except (TypeError, ValueError):
        return ()
    for extra in ((), (None,), (None, None, None)):
        try:
            signature.bind(None, None, *extra)
        except TypeError:
            continue
        return extra
    return ()


def _name(metric: object) -> str:
    return str(getattr(metric, "__name__", type(metric).__name__))
