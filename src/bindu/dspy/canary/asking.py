"""Asking the judge, within limits; the part of judging that needs DSPy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bindu.dspy.engine import CountingEngine, InnerEngine
from bindu.dspy.engine.parallel import in_parallel, start_daemon
from bindu.dspy.errors import BinduError
from bindu.dspy.models import JsonObject
from bindu.dspy.objective.judge import Judge
from bindu.dspy.optimizer import running
from bindu.dspy.rubric import Rubric
from bindu.settings import app_settings

__all__ = ["MOST_CALLS", "PATIENCE", "ask_judge"]

MOST_CALLS = 1_000  # of the model, per run
PATIENCE = 120.0  # seconds that a run waits for all answers together


async def ask_judge(
    answered: Mapping[str, tuple[str, str]], rubric: JsonObject, inner: InnerEngine | None
) -> tuple[dict[str, float], str | None]:
    """Scores in [0, 1] by unit id of questions and their answers, and in a sentence why some are missing, if they are.

    Whatever a model or its client does wrong is such a sentence, never an error.
    """
    scores: dict[str, float] = {}
    try:
        problem = await _ask(answered, rubric, inner, scores)
    except Exception as error:  # noqa: BLE001 - whatever a client makes of a name that is no model's
        problem = _words(error)
    found = dict(scores)  # threads that were left behind may still write to theirs
    if len(found) == len(answered):
        return found, None
    model = app_settings.dspy.judge_model or app_settings.dspy.default_model
    return found, f"Model '{model}': {problem}. Check DSPY__JUDGE_MODEL, DSPY__API_BASE and DSPY__API_KEY."


async def _ask(
    answered: Mapping[str, tuple[str, str]], rubric: JsonObject, inner: InnerEngine | None, scores: dict[str, float]
) -> str:
    """Fill in the scores and say what went wrong last."""
    settings = app_settings.dspy
    engine = CountingEngine.from_settings(settings, inner, max_calls=MOST_CALLS)

    def body() -> None:
        with running(engine, num_threads=settings.training.num_threads):
            judge = Judge(engine, Rubric.from_json(rubric))
            in_parallel(lambda unit_id: scores.update({unit_id: judge.read(*answered[unit_id]).score}), answered)

    work = asyncio.wrap_future(start_daemon(body))
    try:
        done, _ = await asyncio.wait({work}, timeout=PATIENCE)
    finally:
        engine.stop(BinduError("The canary does not wait for its judge any longer."))
    if not done:
        return f"{PATIENCE:g} seconds were not enough"
    work.result()
    return f"{MOST_CALLS:,} calls were not enough" if engine.used >= MOST_CALLS else _words(engine.last_error)


def _words(error: Exception | None) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".: ")
