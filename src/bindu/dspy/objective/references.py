"""Objectives that compare an answer with one that is known: the user's correction, or what was logged."""

from __future__ import annotations

import math

import dspy
from dspy.evaluate.auto_evaluation import SemanticRecallPrecision, f1_score
from dspy.evaluate.metrics import f1_score as shared_words

from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.speakers import Role
from bindu.dspy.objective.base import UNREADABLE, Objective
from bindu.dspy.objective.judge import plain

__all__ = ["Correction", "Gold", "Imitation"]


class Correction:
    """How much of the answer's meaning is that of the user's correction and the other way round (SemanticF1)."""

    def __init__(self, engine: CountingEngine, *, role: Role = "judge") -> None:
        self._engine = engine
        self._role: Role = role
        self._lm = engine.lm(role, temperature=0.0)
        self._compare = dspy.ChainOfThought(SemanticRecallPrecision)

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> dspy.Prediction:
        del trace
        asked = {
            "question": plain(example.input),
            "ground_truth": plain(example.correction),
            "system_response": plain(prediction.output),
        }
        try:
            with dspy.context(trace=None, adapter=dspy.ChatAdapter(), lm=self._lm):
                said = self._compare(**asked)
            if not math.isfinite(said.precision + said.recall):
                raise ValueError(f"The judge's precision is {said.precision} and its recall {said.recall}.")
        except UNREADABLE as error:
            self._engine.unreadable(self._role, error)
            raise
        score = f1_score(said.precision, said.recall)
        critique = f"It agrees to {score:.0%} with the answer that the user corrected: {example.correction}"
        return dspy.Prediction(score=score, critique=critique)


class Gold:
    """A user's correction where there is one, else another objective."""

    def __init__(self, correction: Objective, otherwise: Objective) -> None:
        self._correction = correction
        self._otherwise = otherwise

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> dspy.Prediction:
        chosen = self._correction if example.get("correction") else self._otherwise
        return chosen(example, prediction, trace)


class Imitation:
    """A baseline: how many words the answer shares with the logged one (token F1)."""

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> dspy.Prediction:
        del trace
        score = float(shared_words(prediction.output, example.output))
        return dspy.Prediction(score=score, critique=f"It shares {score:.0%} of its words with the logged answer.")
