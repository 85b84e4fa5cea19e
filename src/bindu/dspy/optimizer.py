"""Which optimizer was asked for, and the surroundings it runs in."""

from __future__ import annotations

import builtins
import inspect
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace
from typing import Any, Final

import dspy
import gepa.core.engine
import tqdm
from dspy import teleprompt
from dspy.adapters import base as adapters_base
from dspy.dsp.utils import utils as dsp_utils
from dspy.propose import grounded_proposer
from dspy.teleprompt import SIMBA, bootstrap
from dspy.teleprompt import utils as teleprompt_utils
from dspy.teleprompt.teleprompt import Teleprompter
from dspy.utils import inspect_history, parallelizer
from dspy.utils.exceptions import DSPyError

from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.parallel import in_parallel
from bindu.dspy.engine.requests import occasion
from bindu.dspy.errors import ModelUnavailableError, UnsupportedOptimizerError
from bindu.dspy.objective import Objective
from bindu.dspy.optimizers import GepaOptimizer, InstanceOptimizer, MiproOptimizer, Optimizer, Plan, SimbaOptimizer
from bindu.dspy.program import AgentProgram
from bindu.utils.logging import get_logger

__all__ = ["Answer", "Optimizer", "Plan", "SimbaOptimizer", "answer_all", "resolve_optimizer", "running"]

logger = get_logger("bindu.dspy.optimizer")

ENTRY_POINTS: Final = "bindu.optimizers"

_MARK = "bindu_run"  # a DSPy setting that tells our runs, in all their threads, from the application's own DSPy
_MARKERS: Final = "_expand_legacy_custom_type_markers_in_chat_message"  # how DSPy makes an image of a text
_expand = vars(adapters_base)[_MARKERS]
_OURS: Final = {"simba": SimbaOptimizer, "gepa": GepaOptimizer, "miprov2": MiproOptimizer}
_CANNOT: Final = {  # what these do instead of rewriting instructions
    "AvatarOptimizer": "rewrites the tools' instructions of its own kind of agent",
    "BetterTogether": "changes a model's weights",
    "BootstrapFewShot": "only adds examples",
    "BootstrapFewShotWithOptuna": "only adds examples",
    "BootstrapFewShotWithRandomSearch": "only adds examples",
    "BootstrapFinetune": "changes a model's weights",
    "Ensemble": "combines programs",
    "FinetuneTeleprompter": "changes a model's weights",
    "GRPO": "changes a model's weights",
    "InferRules": "writes its rules into a class that all prompts share, in this version of DSPy",
    "KNNFewShot": "only adds examples",
    "LabeledFewShot": "only adds examples",
    "ReAnchor": "fits the thresholds of decisions",
}


def resolve_optimizer(optimizer: object) -> Optimizer:
    """Accept a name (ours or an entry point's), DSPy's SIMBA class, an instance of DSPy's, or our protocol's shape.

    Raises UnsupportedOptimizerError for what cannot rewrite instructions, before anything is spent.
    """
    if isinstance(optimizer, str):
        return _named(optimizer.strip().lower())
    if inspect.isclass(optimizer):
        if optimizer is SIMBA:
            return SimbaOptimizer()
        raise _unsupported(optimizer.__name__, _why(optimizer) or "is a class; pass an instance with its metric")
    if isinstance(optimizer, SIMBA):
        return SimbaOptimizer(optimizer)
    if isinstance(optimizer, Teleprompter):
        if why := _why(type(optimizer)):
            raise _unsupported(type(optimizer).__name__, why)
        return InstanceOptimizer(optimizer)
    if isinstance(optimizer, Optimizer):
        return optimizer
    raise _unsupported(type(optimizer).__name__, "is neither a name nor an optimizer")


def _named(name: str) -> Optimizer:
    if name in _OURS:
        ours: Optimizer = _OURS[name]()
        return ours
    plugged = {one.name.lower(): one for one in entry_points(group=ENTRY_POINTS)}
    if name not in plugged:
        known = ", ".join([*_OURS, *sorted(plugged)])
        raise UnsupportedOptimizerError(f"Optimizer '{name}' is not supported. There are {known}.")
    return _loaded(plugged[name])


def _loaded(entry: EntryPoint) -> Optimizer:
    try:
        found = entry.load()
        ready = isinstance(found, Optimizer) and not inspect.isclass(found)
        made = found() if callable(found) and not ready else found
    except Exception as error:
        raise _unsupported(
            entry.name, f"cannot be loaded from {entry.value}: {type(error).__name__}: {error}"
        ) from error
    if isinstance(made, str):
        raise _unsupported(entry.name, f"is a text in {entry.value}")
    return resolve_optimizer(made)


def _why(kind: type) -> str | None:
    """Why a class of DSPy's cannot rewrite instructions, None for all others: theirs is tried."""
    return next((_CANNOT[one.__name__] for one in kind.__mro__ if one.__name__ in _CANNOT and _is_dspys(one)), None)


def _is_dspys(kind: type) -> bool:
    return getattr(teleprompt, kind.__name__, None) is kind or kind.__module__.startswith("dspy.")


def _unsupported(name: str, why: str) -> UnsupportedOptimizerError:
    return UnsupportedOptimizerError(
        f"Optimizer '{name}' is not supported: it {why}, so it cannot improve a prompt. Pass 'simba', 'gepa' or "
        "'miprov2', or an instance of DSPy's with its own metric, such as SIMBA(metric=...)."
    )


@contextmanager
def running(engine: CountingEngine, *, num_threads: int) -> Iterator[None]:
    """DSPy's settings for one run: our agent model, its own adapters, no history, no output of its own.

    Raises what ended the run in place of whatever DSPy made of it, and ModelUnavailableError for DSPy's own errors.
    """
    _hush()
    with dspy.context(
        lm=engine.lm("agent"),
        adapter=dspy.ChatAdapter(),
        num_threads=num_threads,
        disable_history=True,
        max_errors=sys.maxsize,  # the engine decides how many are too many
        track_usage=False,
        warn_on_type_mismatch=False,
        callbacks=[],
        trace=None,
        **{_MARK: True},
    ):
        try:
            yield
        except Exception as error:
            engine.check()
            if isinstance(error, DSPyError):
                said = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
                raise ModelUnavailableError(
                    f"A model failed where nothing could go on without it: {said}. Nothing was deployed. Look at the "
                    "model, then run the same command.",
                    cause="model_failing",
                ) from error
            raise


@dataclass(frozen=True, slots=True)
class Answer:
    """One fresh answer, scored."""

    score: float
    length: int  # characters


def answer_all(
    prompts: Sequence[str], examples: Sequence[dspy.Example], objective: Objective, *, name: str, samples: int
) -> list[list[list[Answer]]]:
    """Answer and score each example under each prompt so many times, all in parallel.

    Of each prompt, of each example, the answers that came. ``name`` says what for: on another occasion the model is
    asked anew.
    """
    programs = [AgentProgram(prompt) for prompt in prompts]

    def answer(work: tuple[AgentProgram, dspy.Example, int]) -> Answer:
        program, example, number = work
        with occasion(f"{name} {number}"):
            prediction = program(**example.inputs())
        return Answer(float(objective(example, prediction).score), len(prediction.output))

    work = [(program, example, number) for program in programs for number in range(samples) for example in examples]
    found = iter(in_parallel(answer, work))
    answers: list[list[list[Answer]]] = []
    for _ in programs:
        rounds = [[next(found) for _ in examples] for _ in range(samples)]
        answers.append([[one for one in of_example if one is not None] for of_example in zip(*rounds, strict=True)])
    return answers


class _Forward(logging.Filter):
    """Take what DSPy logs in our runs off its handlers and hand it to our logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("dspy") or not dspy.settings.get(_MARK):
            return True
        logger.debug("%s", record.getMessage())
        return False


class _Bar(tqdm.tqdm):  # type: ignore[misc] # tqdm has no types
    """A progress bar of DSPy's or GEPA's, which in our runs would write between what the application writes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if dspy.settings.get(_MARK):
            kwargs["disable"] = True
        super().__init__(*args, **kwargs)


def _print(*words: object, **options: Any) -> None:
    """What DSPy prints; in our runs standard output belongs to the application."""
    if dspy.settings.get(_MARK) and options.get("file") in (None, sys.stdout, sys.stderr):
        logger.debug("%s", " ".join(map(str, words)))
    else:
        builtins.print(*words, **options)  # noqa: T201 - as it was asked to, in the application's own DSPy


def _as_text(message: dict[str, Any]) -> dict[str, Any]:
    """A message of DSPy's; in our runs all is text, and what a customer wrote cannot become an image or a field."""
    return message if dspy.settings.get(_MARK) else _expand(message)


_FORWARD = _Forward()


def _hush() -> None:
    """Route DSPy's output of our runs; its behaviour elsewhere in the process stays as it is."""
    for handler in logging.getLogger("dspy").handlers:
        handler.addFilter(_FORWARD)
    parallelizer.tqdm = bootstrap.tqdm = SimpleNamespace(tqdm=_Bar)
    vars(gepa.core.engine)["tqdm"] = _Bar
    vars(adapters_base)[_MARKERS] = _as_text
    for module in (teleprompt_utils, grounded_proposer, bootstrap, inspect_history, dsp_utils):
        vars(module)["print"] = _print
