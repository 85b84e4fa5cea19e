"""DSPy's MIPROv2, instructions only: proposes from a summary of the data and searches among its proposals."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import Final

import dspy
from dspy.teleprompt import MIPROv2
from dspy.teleprompt.mipro_optimizer_v2 import AUTO_RUN_SETTINGS

from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import UnsupportedOptimizerError
from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import Objective
from bindu.dspy.optimizers.base import Plan, candidates_of, refuse_few
from bindu.dspy.program import AgentProgram

__all__ = ["MiproOptimizer", "as_number", "mipro_plan", "mipro_trials", "refuse_mipro"]

_FEWEST: Final = 8
_PROPOSALS: Final = 6
_TRIALS: Final = 10
_SUMMARY: Final = 11  # calls that describe the data, at most
_A_PROPOSAL: Final = 3  # calls


class MiproOptimizer:
    """Without demos: what it finds is an instruction, and no customer's text is copied into the prompt."""

    name = "miprov2"
    selects = True
    objective: Objective | None = None
    min_rows = _FEWEST

    def plan(self, rows: int, select: int) -> Plan:
        return _plan(rows, select, proposals=_PROPOSALS, trials=_TRIALS)

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
        mipro = MIPROv2(
            metric=as_number(objective),
            prompt_model=engine.lm("reflector"),
            task_model=engine.lm("agent"),
            max_bootstrapped_demos=0,
            max_labeled_demos=0,
            auto=None,
            num_candidates=_PROPOSALS,
            num_threads=dspy.settings.num_threads,
            seed=seed,
        )
        best = mipro.compile(
            AgentProgram(prompt),
            trainset=list(examples),
            valset=list(select),
            num_trials=_TRIALS,
            minibatch=False,
        )
        engine.check()
        return candidates_of((one["program"], one["score"] / 100) for one in best.candidate_programs)


def refuse_mipro(mipro: MIPROv2) -> None:
    """Raise UnsupportedOptimizerError for what DSPy itself would refuse, after the first answers were paid for."""
    if (mipro.auto is None) == (mipro.num_candidates is None):
        raise UnsupportedOptimizerError("MIPROv2 is told either auto or num_candidates. Give it one of them.")
    if mipro.max_labeled_demos and not mipro.max_bootstrapped_demos:
        raise UnsupportedOptimizerError(
            "MIPROv2 cannot use labeled demos without bootstrapped ones. Give it max_bootstrapped_demos=1 or more, or "
            "max_labeled_demos=0."
        )


def mipro_plan(mipro: MIPROv2, rows: int, select: int) -> Plan:
    """What a user's own instance will do."""
    proposals = _sets(mipro)
    if mipro.auto is not None:
        select = min(select, AUTO_RUN_SETTINGS[mipro.auto]["val_size"])
    bootstraps = proposals - 2 if mipro.max_labeled_demos else 1  # each with labels of its own, else all alike
    return _plan(rows, select, proposals=proposals, trials=mipro_trials(mipro), bootstraps=bootstraps)


def mipro_trials(mipro: MIPROv2) -> int:
    """As many as DSPy recommends: it wants to be told unless it may choose all by itself."""
    choices = 2 if mipro.max_bootstrapped_demos or mipro.max_labeled_demos else 1  # instructions, and demos
    return int(max(2 * choices * log2(_sets(mipro)), 1.5 * _sets(mipro)))


def _sets(mipro: MIPROv2) -> int:
    return int(mipro.num_candidates if mipro.auto is None else AUTO_RUN_SETTINGS[mipro.auto]["n"])


def _plan(rows: int, select: int, *, proposals: int, trials: int, bootstraps: int = 1) -> Plan:
    """All rows at most to find good answers that show the proposer what the agent does; then the trials."""
    return Plan((trials + 1) * select + bootstraps * rows, _SUMMARY + proposals * _A_PROPOSAL)


class as_number:  # noqa: N801 - as gepa.with_feedback
    """An objective as most of DSPy's optimizers call a metric: a number, whatever else they say."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, *others: object, **named: object) -> float:
        del others, named
        return float(self._objective(example, prediction).score)
