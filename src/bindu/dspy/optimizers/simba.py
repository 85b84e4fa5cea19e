"""DSPy's SIMBA: samples answers, contrasts good with bad ones, appends the advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from threading import Event
from typing import Any, Final

import dspy
from dspy.teleprompt import SIMBA
from dspy.teleprompt.simba_utils import append_a_rule
from dspy.utils.callback import BaseCallback

from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.parallel import start_daemon
from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import Objective, PythonMetric
from bindu.dspy.optimizers.base import Plan, candidates_of, refuse_few
from bindu.dspy.optimizers.copying import copied, refuse_uncounted
from bindu.dspy.program import AgentProgram, rewriting
from bindu.utils.logging import get_logger

__all__ = ["SimbaOptimizer"]

# Seven batches of 24 found as good prompts as the eight of 32 of DSPy, for a quarter less (training-results.md)
_DEFAULTS: Final = {"bsize": 24, "num_candidates": 6, "max_steps": 7, "max_demos": 0}
_FEWEST: Final = 32  # rows, but for smaller batches that somebody asks for

logger = get_logger("bindu.dspy.optimizer")


class SimbaOptimizer:
    """Rules only by default: no customer's text is copied into a prompt that everybody is shown."""

    name = "simba"
    selects = False

    def __init__(self, instance: SIMBA | None = None, **parameters: int) -> None:
        """``parameters`` are SIMBA's bsize, num_candidates, max_steps, max_demos; an instance brings its own.

        It needs as many rows as one batch has; a batch above 32 shrinks to the rows there are. Reflections of a step
        run side by side: nothing in one depends on another.
        """
        self._instance = instance
        self._given = _DEFAULTS | parameters
        if instance is not None:
            refuse_uncounted(instance)
            self._given = {name: getattr(instance, name) for name in _DEFAULTS}
        asked = None if instance is None and "bsize" not in parameters else self._given["bsize"]
        self.min_rows = min(asked or _FEWEST, _FEWEST)
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
        simba.strategies = [_side_by_side(one) if one is append_a_rule else one for one in simba.strategies]
        best = simba.compile(AgentProgram(prompt), trainset=list(examples), seed=seed)
        engine.check()
        return candidates_of((one["program"], one["score"]) for one in best.candidate_programs)


def _side_by_side(strategy: Callable[..., bool]) -> Callable[..., bool]:
    """Begin a reflection and let the program that it rewrites wait for it when it is first asked something.

    It is begun once its model is asked: what comes before reads the program's source, and Python 3.11 fails at random
    when two threads do that at once (https://github.com/python/cpython/issues/106905).
    """

    def reflect(asking: Event, bucket: list[Any], system: dspy.Module, **given: Any) -> None:
        try:
            with dspy.context(callbacks=[*dspy.settings.callbacks, _Tell(asking)]):
                strategy(bucket, system, **given)
        except Exception as error:  # noqa: BLE001 - a candidate without a new rule, as DSPy has it; the engine counts it
            logger.debug("A reflection failed: %s", error)
        finally:
            asking.set()

    @wraps(strategy)
    def begin(bucket: list[Any], system: dspy.Module, **given: Any) -> bool:
        asking = Event()
        rewriting(system, start_daemon(lambda: reflect(asking, bucket, system, **given)))
        asking.wait()
        return True

    return begin


class _Tell(BaseCallback):
    """Says when a language model is asked."""

    def __init__(self, asking: Event) -> None:
        self._asking = asking

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._asking.set()
