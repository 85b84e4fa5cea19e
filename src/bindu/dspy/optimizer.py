"""Optimizers behind one small seam: something that turns a prompt and examples into better prompts."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable

import dspy
import tqdm
from dspy.teleprompt import SIMBA
from dspy.utils import parallelizer

from bindu.dspy.engine import CountingEngine, in_parallel
from bindu.dspy.errors import TrainingRefusedError, UnsupportedOptimizerError
from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import Objective, PythonMetric
from bindu.dspy.program import AgentProgram, prompt_of
from bindu.utils.logging import get_logger

__all__ = ["Answer", "Optimizer", "Plan", "SimbaOptimizer", "answer_all", "resolve_optimizer", "running"]

logger = get_logger("bindu.dspy.optimizer")

_MARK = "bindu_run"  # a DSPy setting that tells our runs, in all their threads, from the application's own DSPy
_DEFAULTS = {"bsize": 32, "num_candidates": 6, "max_steps": 8, "max_demos": 0}


@dataclass(frozen=True, slots=True)
class Plan:
    """The most that a compilation will do."""

    evaluations: int  # of one prompt on one example: an answer and its judgement
    reflections: int


@runtime_checkable
class Optimizer(Protocol):
    """What ``train_async`` needs of an optimizer; SIMBA's is below, others plug in by this shape."""

    name: str
    min_rows: int
    objective: Objective | None  # its own, if it brings one

    def plan(self, rows: int) -> Plan: ...

    def compile(
        self, prompt: str, examples: Sequence[dspy.Example], *, objective: Objective, engine: CountingEngine, seed: int
    ) -> list[PromptCandidate]:
        """Propose prompts, the best on the examples first. Runs in the calling thread, under ``running``."""


class SimbaOptimizer:
    """DSPy's SIMBA: samples answers, contrasts good with bad ones, appends the advice; rules only by default."""

    name = "simba"

    def __init__(self, instance: SIMBA | None = None, **parameters: int) -> None:
        """``parameters`` are SIMBA's bsize, num_candidates, max_steps, max_demos; an instance brings its own.

        It needs as many rows as one batch has; a batch above 32 shrinks to the rows there are.
        """
        self._instance = instance
        self._given = _DEFAULTS | parameters
        if instance is not None:
            self._given = {name: getattr(instance, name) for name in _DEFAULTS}
        self.min_rows = min(self._given["bsize"], _DEFAULTS["bsize"])
        self.objective: Objective | None = PythonMetric(instance.metric) if instance is not None else None

    def _parameters(self, rows: int) -> dict[str, int]:
        return {**self._given, "bsize": min(self._given["bsize"], rows)}

    def plan(self, rows: int) -> Plan:
        """DSPy's loop, counted: sampling and trying candidates each step, then the winners on all rows."""
        size = self._parameters(rows)
        batch, candidates, steps = size["bsize"], size["num_candidates"], size["max_steps"]
        tried = min(candidates + 1, batch)
        evaluations = steps * (batch * candidates + batch * tried) + min(candidates + 1, steps + 1) * rows
        return Plan(evaluations, steps * tried)

    def compile(
        self, prompt: str, examples: Sequence[dspy.Example], *, objective: Objective, engine: CountingEngine, seed: int
    ) -> list[PromptCandidate]:
        if len(examples) < self.min_rows:
            raise TrainingRefusedError(
                f"SIMBA needs at least {self.min_rows} training examples and there are {len(examples)}. "
                "Collect more feedback, then train again."
            )
        parameters = self._parameters(len(examples))
        if self._instance is None:
            simba = SIMBA(metric=objective, prompt_model=engine.lm("reflector"), **parameters)
        else:
            simba = copy.copy(self._instance)
            simba.metric, simba.bsize = objective, parameters["bsize"]
            simba.prompt_model = simba.prompt_model or engine.lm("reflector")
        simba.num_threads = dspy.settings.num_threads
        best = simba.compile(AgentProgram(prompt), trainset=list(examples), seed=seed)
        engine.check()
        return _candidates(best.candidate_programs)


def _candidates(found: Sequence[dict[str, Any]]) -> list[PromptCandidate]:
    """Distinct texts, best first; two programs that read the same are one prompt."""
    texts: dict[str, float] = {}
    for one in found:
        text = prompt_of(one["program"])
        texts[text] = max(float(one["score"]), texts.get(text, 0.0))
    ranked = sorted(texts.items(), key=lambda item: -item[1])
    return [PromptCandidate(text, score) for text, score in ranked]


def resolve_optimizer(optimizer: object) -> Optimizer:
    """Accept ``"simba"``, DSPy's SIMBA class, an instance with its own metric, or anything of our protocol's shape.

    Raises UnsupportedOptimizerError for what cannot rewrite instructions, before anything is spent.
    """
    if isinstance(optimizer, SIMBA):
        return SimbaOptimizer(optimizer)
    if optimizer is SIMBA or (isinstance(optimizer, str) and optimizer.strip().lower() == "simba"):
        return SimbaOptimizer()
    if isinstance(optimizer, Optimizer) and not inspect.isclass(optimizer):
        return optimizer
    given = optimizer if isinstance(optimizer, str) else getattr(optimizer, "__name__", type(optimizer).__name__)
    raise UnsupportedOptimizerError(
        f"Optimizer '{given}' is not supported: only SIMBA rewrites prompts here so far. "
        "Pass 'simba', dspy.teleprompt.SIMBA, or an instance SIMBA(metric=...)."
    )


@contextmanager
def running(engine: CountingEngine, *, num_threads: int) -> Iterator[None]:
    """DSPy's settings for one run: our agent model, its own adapters, no history, no output of its own.

    One thread makes a run repeatable: the same seed proposes the same prompts.
    """
    _hush()
    with dspy.context(
        lm=engine.lm("agent"),
        adapter=dspy.ChatAdapter(),
        num_threads=num_threads,
        disable_history=True,
        track_usage=False,
        warn_on_type_mismatch=False,
        callbacks=[],
        trace=None,
        **{_MARK: True},
    ):
        yield


@dataclass(frozen=True, slots=True)
class Answer:
    """One fresh answer, scored."""

    score: float
    length: int  # characters


def answer_all(prompt: str, examples: Sequence[dspy.Example], objective: Objective) -> list[Answer | None]:
    """Answer and score each example once, in parallel and in order; None where the model failed."""
    program = AgentProgram(prompt)

    def answer(example: dspy.Example) -> Answer:
        prediction = program(**example.inputs())
        return Answer(float(objective(example, prediction).score), len(prediction.output))

    return in_parallel(answer, examples)


class _Forward(logging.Filter):
    """Take what DSPy logs in our runs off its handlers and hand it to our logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("dspy") or not dspy.settings.get(_MARK):
            return True
        logger.debug("%s", record.getMessage())
        return False


class _Bar(tqdm.tqdm):  # type: ignore[misc] # tqdm has no types
    """DSPy's progress bar writes to stdout, which belongs to the application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if dspy.settings.get(_MARK):
            kwargs["disable"] = True
        super().__init__(*args, **kwargs)


_FORWARD = _Forward()


def _hush() -> None:
    """Route DSPy's output of our runs; its behaviour elsewhere in the process stays as it is."""
    for handler in logging.getLogger("dspy").handlers:
        handler.addFilter(_FORWARD)
    parallelizer.tqdm = SimpleNamespace(tqdm=_Bar)
