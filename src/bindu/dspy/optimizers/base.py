"""The seam of optimizers: something that turns a prompt and examples into better prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import dspy

from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import InvalidPromptError, TrainingRefusedError
from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import Objective
from bindu.dspy.program import prompt_of

__all__ = ["Optimizer", "Plan", "candidates_of", "refuse_few"]


_NOTHING: Final[str] = dspy.Signature("input -> output").instructions  # what DSPy makes of no instruction at all


@dataclass(frozen=True, slots=True)
class Plan:
    """The most that a compilation will do when all answers can be read; what is asked twice counts once."""

    evaluations: int  # of one prompt on one example: an answer and its judgement
    reflections: int
    known: bool = True  # False when nobody can count it: then only the run's limits hold


@runtime_checkable
class Optimizer(Protocol):
    """What training needs of an optimizer.

    Others plug in by this shape: an instance from Python, or the entry point group ``bindu.optimizers``, whose entries
    are such instances or callables that make one.
    """

    name: str
    min_rows: int  # examples, below which it is not started
    selects: bool  # it compares its prompts on ``select`` itself, so that its first one is its choice
    objective: Objective | None  # its own, if it brings one

    def plan(self, rows: int, select: int) -> Plan:
        """What ``compile`` does with so many examples, so many of them to select on."""

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
        """Propose prompts, the best first; the last may be the one given. Blocks, under ``optimizer.running``."""


def refuse_few(optimizer: Optimizer, examples: Sequence[dspy.Example]) -> None:
    """Raise TrainingRefusedError when there are fewer examples than an optimizer needs."""
    if len(examples) < optimizer.min_rows:
        raise TrainingRefusedError(
            f"{optimizer.name} needs at least {optimizer.min_rows} training examples and there are {len(examples)}. "
            "Collect more feedback, then train again."
        )


def candidates_of(scored: Iterable[tuple[dspy.Module, float]]) -> list[PromptCandidate]:
    """Distinct texts, best first; two programs that read the same are one prompt, and an empty one is none."""
    texts: dict[str, float] = {}
    for program, score in scored:
        with suppress(InvalidPromptError):
            text = prompt_of(program)
            texts[text] = max(float(score), texts.get(text, 0.0))
    texts.pop(_NOTHING, None)
    ranked = sorted(texts.items(), key=lambda item: -item[1])
    return [PromptCandidate(text, score) for text, score in ranked]
