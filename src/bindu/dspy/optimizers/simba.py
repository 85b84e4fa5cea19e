"""DSPy's SIMBA: samples answers, contrasts good with bad ones, appends the advice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import dspy
from dspy.teleprompt import SIMBA

from bindu.dspy.engine import CountingEngine
from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import Objective, PythonMetric
from bindu.dspy.optimizers.base import Plan, candidates_of, refuse_few
from bindu.dspy.optimizers.copying import copied, refuse_uncounted
from bindu.dspy.program import AgentProgram

__all__ = ["SimbaOptimizer"]

_DEFAULTS: Final = {"bsize": 32, "num_candidates": 6, "max_steps": 8, "max_demos": 0}


class SimbaOptimizer:
    """Rules only by default: no customer's text is copied into a prompt that everybody is shown."""

    name = "simba"
    selects = False

    def __init__(self, instance: SIMBA | None = None, **parameters: int) -> None:
        """``parameters`` are SIMBA's bsize, num_candidates, max_steps, max_demos; an instance brings its own.

        It needs as many rows as one batch has; a batch above 32 shrinks to the rows there are.
        """
        self._instance = instance
        self._given = _DEFAULTS | parameters
        if instance is not None:
            refuse_uncounted(instance)
            self._given = {name: getattr(instance, name) for name in _DEFAULTS}
        self.min_rows = min(self._given["bsize"], _DEFAULTS["bsize"])
        self.objective: Objective | None = PythonMetric(instance.metric) if instance is not None else None

    def _parameters(self, rows: int) -> dict[str, int]:
        return {**self._given, "bsize": min(self._given["bsize"], rows)}

    def plan(self, rows: int, select: int) -> Plan:
        """DSPy's loop, counted: sampling and trying candidates each step, then the winners on all rows."""
        del select
        size = self._parameters(rows)
        batch, candidates, steps = size["bsize"], size["num_candidates"], size["max_steps"]
        tried = min(candidates + 1, batch)
        evaluations = steps * (batch * candidates + batch * tried) + min(candidates + 1, steps + 1) * rows
        return Plan(evaluations, steps * tried)

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
        del select
        refuse_few(self, examples)
        parameters = self._parameters(len(examples))
        if self._instance is None:
            simba = SIMBA(metric=objective, prompt_model=engine.lm("reflector"), **parameters)
        else:
            simba = copied(self._instance, engine)
            simba.metric, simba.bsize = objective, parameters["bsize"]
        simba.num_threads = dspy.settings.num_threads
        best = simba.compile(AgentProgram(prompt), trainset=list(examples), seed=seed)
        engine.check()
        return candidates_of((one["program"], one["score"]) for one in best.candidate_programs)
