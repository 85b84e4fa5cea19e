"""Any DSPy optimizer that a caller made and that rewrites instructions."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final

import dspy
from dspy.teleprompt import COPRO, GEPA, MIPROv2
from dspy.teleprompt.teleprompt import Teleprompter

from bindu.dspy.engine import CountingEngine
from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import Objective, PythonMetric
from bindu.dspy.optimizers.base import Plan, candidates_of, refuse_few
from bindu.dspy.optimizers.copying import copied, refuse_uncounted
from bindu.dspy.optimizers.gepa import gepa_candidates, gepa_plan, with_feedback
from bindu.dspy.optimizers.miprov2 import as_number, mipro_plan, mipro_trials, refuse_mipro
from bindu.dspy.program import AgentProgram

__all__ = ["InstanceOptimizer"]

_FEWEST: Final = 8
_FULL_MARKS: Final = 100  # DSPy's averages are percentages


class InstanceOptimizer:
    """Its metric is the objective; whichever models it brings, their calls are counted and capped like ours."""

    def __init__(self, instance: Teleprompter) -> None:
        refuse_uncounted(instance)
        if isinstance(instance, MIPROv2):
            refuse_mipro(instance)
        self._instance = instance
        self.name = type(instance).__name__.lower()
        self.selects = isinstance(instance, GEPA | MIPROv2)
        self.min_rows = _FEWEST
        metric = getattr(instance, "metric_fn", None) or getattr(instance, "metric", None)
        self.objective: Objective | None = PythonMetric(metric) if metric is not None else None

    def plan(self, rows: int, select: int) -> Plan:
        """What can be counted of DSPy's own optimizers; of others nothing is known."""
        match self._instance:
            case GEPA() as gepa:
                return gepa_plan(gepa, rows, select)
            case MIPROv2() as mipro:
                return mipro_plan(mipro, rows, select)
            case COPRO() as copro:
                return Plan(copro.breadth * copro.depth * rows, copro.breadth * copro.depth)
            case _:
                return Plan(0, 0, known=False)

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
        ready = self._prepared(objective, engine, seed)
        best = ready.compile(AgentProgram(prompt), **self._given(ready, examples, select, seed))
        engine.check()
        return self._found(best)

    def _prepared(self, objective: Objective, engine: CountingEngine, seed: int) -> Any:
        """A copy with our objective and with models that speak through our door."""
        ready = copied(self._instance, engine)
        if hasattr(ready, "metric_fn"):
            ready.metric_fn = with_feedback(objective)
        elif hasattr(ready, "metric"):
            ready.metric = as_number(objective)
        for name, ours in {"num_threads": dspy.settings.num_threads, "track_stats": True, "seed": seed}.items():
            if hasattr(ready, name):
                setattr(ready, name, ours)
        return ready

    def _given(
        self, ready: Any, examples: Sequence[dspy.Example], select: Sequence[dspy.Example], seed: int
    ) -> dict[str, Any]:
        """What its ``compile`` can be told."""
        known: dict[str, Any] = {
            "valset": list(select),
            "seed": seed,
            "minibatch": False,
            "eval_kwargs": {"num_threads": dspy.settings.num_threads},
        }
        if isinstance(ready, MIPROv2) and ready.auto is None:
            known["num_trials"] = mipro_trials(ready)
        wanted = inspect.signature(ready.compile).parameters
        return {"trainset": list(examples), **{name: one for name, one in known.items() if name in wanted}}

    def _found(self, best: dspy.Module) -> list[PromptCandidate]:
        """All prompts that the optimizer tells of, else the one that it returned."""
        if hasattr(best, "detailed_results"):
            return gepa_candidates(best)
        told = getattr(best, "candidate_programs", None) or []
        scored = [(one["program"], float(one["score"])) for one in told if isinstance(one, dict) and "program" in one]
        if isinstance(self._instance, COPRO | MIPROv2) or any(score > 1 for _, score in scored):
            scored = [(program, score / _FULL_MARKS) for program, score in scored]
        return candidates_of(scored or [(best, 0.0)])
