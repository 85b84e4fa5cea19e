"""DSPy's GEPA: reflects on a few judged answers at a time and keeps a Pareto front of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import dspy
from dspy.teleprompt import GEPA
from dspy.teleprompt.gepa.gepa import AUTO_RUN_SETTINGS
from dspy.teleprompt.gepa.gepa_utils import ScoreWithFeedback

from bindu.dspy.engine import CountingEngine
from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import Objective
from bindu.dspy.optimizers.base import Plan, candidates_of, refuse_few
from bindu.dspy.program import AgentProgram

__all__ = ["GepaOptimizer", "gepa_candidates", "gepa_plan", "with_feedback"]

_MINIBATCH: Final = 3  # answers that it reflects on at a time
_MERGED: Final = 5  # answers that it tries a merged prompt on
_FEWEST: Final = 8


class GepaOptimizer:
    """Recommended where users write comments: the quality of SIMBA for a fraction of its calls."""

    name = "gepa"
    selects = True
    objective: Objective | None = None

    def __init__(self, max_metric_calls: int = 300) -> None:
        self.max_metric_calls = max_metric_calls
        self.min_rows = _FEWEST

    def plan(self, rows: int, select: int) -> Plan:
        del rows
        return _plan(self.max_metric_calls, _MINIBATCH, select)

    def compile(
        self,
        prompt: str,
        examples: Sequence[dspy.Example],
        *,
        select: Sequence[dspy.Example],
        objective: Objective,
        engine: CountingEngine,
        seed: int,
    ) -> list[PromptCandidate]:
        refuse_few(self, examples)
        gepa = GEPA(
            metric=with_feedback(objective),
            max_metric_calls=self.max_metric_calls,
            reflection_minibatch_size=_MINIBATCH,
            reflection_lm=engine.lm("reflector"),
            num_threads=dspy.settings.num_threads,
            track_stats=True,
            warn_on_score_mismatch=False,
            seed=seed,
        )
        best = gepa.compile(AgentProgram(prompt), trainset=list(examples), valset=list(select))
        engine.check()
        return gepa_candidates(best)


def gepa_plan(gepa: GEPA, rows: int, select: int) -> Plan:
    """What a user's own instance will do; how often a proposer of theirs asks, nobody knows."""
    if gepa.auto is not None:
        calls = gepa.auto_budget(1, AUTO_RUN_SETTINGS[gepa.auto]["n"], select)
    elif gepa.max_full_evals is not None:
        calls = gepa.max_full_evals * (rows + select)
    else:
        calls = gepa.max_metric_calls
    stock = gepa.custom_instruction_proposer is None and not gepa.gepa_kwargs
    return _plan(calls, gepa.reflection_minibatch_size or _MINIBATCH, select, known=stock)


def _plan(calls: int, minibatch: int, select: int, *, known: bool = True) -> Plan:
    """It stops after the step that passes the limit: one minibatch twice or one merger, and all it selects on."""
    last_step = max(2 * minibatch, _MERGED) + select
    return Plan(calls + last_step, calls // (2 * minibatch) + 1, known=known)


def gepa_candidates(best: dspy.Module) -> list[PromptCandidate]:
    """All prompts of its pool, by their scores on what it selected on."""
    found = best.detailed_results
    return candidates_of(zip(found.candidates, found.val_aggregate_scores, strict=True))


class with_feedback:  # noqa: N801 - a function with a name that shows in DSPy's errors
    """An objective as GEPA calls a metric: five arguments, and the critique as feedback."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def __call__(
        self,
        gold: dspy.Example,
        pred: dspy.Prediction,
        trace: object = None,
        pred_name: str | None = None,
        pred_trace: object = None,
    ) -> ScoreWithFeedback:
        del trace, pred_name, pred_trace
        verdict = self._objective(gold, pred)
        return ScoreWithFeedback(score=float(verdict.score), feedback=str(verdict.critique))
