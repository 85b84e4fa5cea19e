"""Yesterday's feedback becomes today's candidate.

Every run is recorded with its outcome and reason; only ``improved`` deploys, in one transaction.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

from bindu.dspy.engine import InnerEngine
from bindu.dspy.guard import ensure_system_stable
from bindu.dspy.models import TrainingRun
from bindu.dspy.objective import Metric, ObjectiveName
from bindu.dspy.optimizer import resolve_optimizer
from bindu.dspy.storage import agent_named, close_storage, get_storage, serving_or_raise
from bindu.dspy.strategies import BaseExtractionStrategy
from bindu.dspy.training.job import Case, Job, Limits, objective_named, strategy_named
from bindu.dspy.training.progress import Watch
from bindu.dspy.training.session import Session
from bindu.settings import app_settings
from bindu.utils import loop

__all__ = ["Limits", "run_training", "train", "train_async"]


async def train_async(
    optimizer: Any,
    strategy: BaseExtractionStrategy | str | None = None,
    require_feedback: bool = True,
    *,
    agent_id: str | None = None,
    seed: int | None = None,
    objective: ObjectiveName | Metric = "judge",
    engine: InnerEngine | None = None,
    limits: Limits | None = None,
    resume: bool | None = None,
    now: datetime | None = None,
) -> None:
    """Train a candidate and put it on trial if it is better; parameters and errors as for ``run_training``."""
    await run_training(
        optimizer,
        strategy,
        require_feedback,
        agent_id=agent_id,
        seed=seed,
        objective=objective,
        engine=engine,
        limits=limits,
        resume=resume,
        now=now,
    )


def train(
    optimizer: Any, strategy: BaseExtractionStrategy | str | None = None, require_feedback: bool = True, **options: Any
) -> None:
    """``train_async`` for programs without an event loop, with its options. Raises RuntimeError inside one."""
    if _inside_a_loop():
        raise RuntimeError("train() was called inside an event loop. Use 'await train_async(...)' there.")

    async def closing() -> None:
        try:
            await train_async(optimizer, strategy, require_feedback, **options)
        finally:
            await close_storage()  # its pool belongs to this loop

    loop.run(closing())


async def run_training(
    optimizer: Any,
    strategy: BaseExtractionStrategy | str | None = None,
    require_feedback: bool = True,
    *,
    agent_id: str | None = None,
    seed: int | None = None,
    objective: ObjectiveName | Metric = "judge",
    engine: InnerEngine | None = None,
    limits: Limits | None = None,
    resume: bool | None = None,
    dry_run: bool = False,
    run_id: UUID | None = None,
    watch: Watch | None = None,
    now: datetime | None = None,
) -> TrainingRun:
    """Run the whole pipeline once and return its record: ``improved``, ``unchanged`` or ``worse``.

    ``optimizer``: "simba", "gepa", "miprov2", an entry point's name, DSPy's SIMBA class, an instance of an optimizer
    that rewrites instructions, or the ``Optimizer`` shape; ``strategy``: an object or what ``parse_strategy`` reads, by
    default the last turn; ``objective``: a name or a callable; ``engine`` replaces the settings' models, ``limits``
    overrule theirs; ``watch`` is called with the record every two seconds; ``dry_run`` stops before anything is spent
    or stored, with the estimate in ``details``.

    A run that was killed, interrupted or out of budget is gone on with when the same is asked again within 20 hours,
    and pays only for what is missing; ``resume=True`` insists on that, however old it is, ``resume=False`` begins anew.

    Raises UnsupportedOptimizerError, UnknownStrategyError and ValueError before the database is touched, then
    StorageNotConfiguredError, StorageUnavailableError, NoActivePromptError and ExperimentActiveError; once recorded,
    TrainingRefusedError, ModelUnavailableError, BudgetExceededError and RunCancelledError, with the run as ``.run``,
    and ExperimentActiveError or StaleRolloutError when another was faster. A cancelled run asks no model any more.
    """
    settings = (limits or Limits()).applied(app_settings.dspy)
    job = Job(
        agent_id=agent_named(agent_id),
        optimizer=resolve_optimizer(optimizer),
        strategy=strategy_named(strategy),
        require_feedback=require_feedback,
        objective=objective_named(objective),
        seed=settings.training.seed if seed is None else seed,
        settings=settings,
        inner=engine,
        now=now,
        run_id=run_id,
        resume=resume,
    )
    storage = await get_storage()
    await ensure_system_stable(job.agent_id)
    session = Session(Case(job, storage, await serving_or_raise(job.agent_id)), watch=watch)
    return await session.preview() if dry_run else await session.run()


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
