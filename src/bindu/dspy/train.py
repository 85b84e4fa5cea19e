"""Yesterday's feedback becomes today's candidate: read, split, search, prove, and begin a trial if it is better.

Every run is recorded with its outcome and reason; only ``improved`` deploys, in one transaction.
"""

from __future__ import annotations

import asyncio
import difflib
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib.metadata import version
from typing import Any, TypeVar

from uuid_utils.compat import uuid7

from bindu.dspy.champion import ORIGIN
from bindu.dspy.dataset import build_dataset
from bindu.dspy.engine import CountingEngine, InnerEngine, start_daemon
from bindu.dspy.errors import (
    BinduError,
    BudgetExceededError,
    ExperimentActiveError,
    ModelUnavailableError,
    NoActivePromptError,
    StaleRolloutError,
    TrainingRefusedError,
    UnknownStrategyError,
)
from bindu.dspy.gate import GateVerdict
from bindu.dspy.guard import ensure_system_stable
from bindu.dspy.models import JsonObject, RunOutcome, Serving, TrainingRun, Trial
from bindu.dspy.objective import Metric, ObjectiveName
from bindu.dspy.opening import told_at_opening, trial_policy
from bindu.dspy.optimizer import Optimizer, resolve_optimizer, running
from bindu.dspy.search import Choice, Search, planned_calls
from bindu.dspy.splits import Split, conversations_of, count, refuse_too_few, split_or_refuse
from bindu.dspy.storage import Storage, agent_named, close_storage, get_storage
from bindu.dspy.strategies import BaseExtractionStrategy, LastTurnStrategy, parse_strategy
from bindu.settings import TrainingSettings, app_settings
from bindu.utils import loop
from bindu.utils.logging import get_logger

__all__ = ["run_training", "train", "train_async"]

logger = get_logger("bindu.dspy.train")

Result = TypeVar("Result")

_INTERRUPTED = "The run was interrupted. Nothing was deployed."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What was asked for, validated before anything is read."""

    agent_id: str
    optimizer: Optimizer
    strategy: BaseExtractionStrategy
    require_feedback: bool
    objective: ObjectiveName | Metric
    seed: int
    now: datetime | None
    settings: TrainingSettings


async def train_async(
    optimizer: Any,
    strategy: BaseExtractionStrategy | str | None = None,
    require_feedback: bool = True,
    *,
    agent_id: str | None = None,
    seed: int | None = None,
    objective: ObjectiveName | Metric = "judge",
    engine: InnerEngine | None = None,
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
    dry_run: bool = False,
    now: datetime | None = None,
) -> TrainingRun:
    """Run the whole pipeline once and return its record: ``improved``, ``unchanged`` or ``worse``.

    ``optimizer`` is "simba", DSPy's SIMBA class, or an instance with its own metric; ``strategy`` is an object or what
    ``parse_strategy`` reads, such as "last_n:3", by default the last turn; ``engine`` replaces the model that the
    settings name; ``dry_run`` stops before anything is spent or stored, with the planned calls in ``details``.

    Raises UnsupportedOptimizerError and UnknownStrategyError before the database is touched, then
    StorageNotConfiguredError, StorageUnavailableError, NoActivePromptError and ExperimentActiveError; once a run is
    recorded, TrainingRefusedError, ModelUnavailableError and BudgetExceededError carry it as ``.run``, and a trainer
    that was overtaken raises ExperimentActiveError or StaleRolloutError. A cancelled run asks no model any more.
    """
    settings = app_settings.dspy
    job = _Job(
        agent_id=agent_named(agent_id),
        optimizer=resolve_optimizer(optimizer),
        strategy=_strategy(strategy),
        require_feedback=require_feedback,
        objective=_objective(objective),
        seed=settings.training.seed if seed is None else seed,
        now=now,
        settings=settings.training,
    )
    storage = await get_storage()
    await ensure_system_stable(job.agent_id)
    serving = await storage.serving(job.agent_id)
    if serving is None:
        raise NoActivePromptError(job.agent_id)
    session = _Session(job, storage, serving, CountingEngine.from_settings(settings, engine))
    return await session.preview() if dry_run else await session.run()


def _strategy(strategy: BaseExtractionStrategy | str | None) -> BaseExtractionStrategy:
    if strategy is None or isinstance(strategy, str):
        return LastTurnStrategy() if strategy is None else parse_strategy(strategy)
    if not callable(getattr(strategy, "extract_all", None)):
        raise UnknownStrategyError(f"{strategy!r} is not a strategy. Inherit from BaseExtractionStrategy.")
    return strategy


def _objective(objective: ObjectiveName | Metric) -> ObjectiveName | Metric:
    if not callable(objective) and objective not in ("judge", "imitation"):
        raise ValueError(f"Objective '{objective}' is unknown. Use 'judge', 'imitation' or a Python callable.")
    return objective


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Session:
    """One run from its first record to its last."""

    def __init__(self, job: _Job, storage: Storage, serving: Serving, engine: CountingEngine) -> None:
        self.job = job
        self.storage = storage
        self.serving = serving
        self.engine = engine
        self.details: JsonObject = {
            "active_id": serving.active.id,
            "objective": job.objective if isinstance(job.objective, str) else "callable",
            "versions": {name: version(name) for name in ("bindu-dspy", "dspy")}
            | {"python": platform.python_version()},
        }
        self.record = TrainingRun(
            agent_id=job.agent_id,
            id=uuid7(),
            optimizer=job.optimizer.name,
            strategy=job.strategy.name,
            seed=job.seed,
        )

    async def preview(self) -> TrainingRun:
        """What a run would do, without doing it."""
        await self._examples()
        planned = self.details["calls_planned"]
        return replace(self.record, reason=f"A run would make at most {planned:,} model calls.", details=self.details)

    async def run(self) -> TrainingRun:
        self.record = await self.storage.save_run(self._told(), now=self.job.now)
        try:
            return await self._train()
        except TrainingRefusedError as error:
            error.run = await self._end("refused", str(error), error)
            raise
        except (ModelUnavailableError, BudgetExceededError) as error:
            error.run = await self._end("aborted", str(error), error)
            raise
        except (ExperimentActiveError, StaleRolloutError) as error:
            await self._end("aborted", f"Another trainer or rollout was faster. {error}", error)
            raise
        except Exception as error:
            await self._end("aborted", f"The run broke: {type(error).__name__}: {error}", error)
            raise
        except asyncio.CancelledError:
            self.engine.stop(BinduError(_INTERRUPTED))
            await asyncio.shield(self._end("aborted", _INTERRUPTED))
            raise

    async def _train(self) -> TrainingRun:
        split = await self._examples()
        search = await self._prepared(split)
        choice = await self._in_thread(search.choose)
        if choice is None:
            return await self._end(
                "unchanged", f"{self.job.optimizer.name} proposed no new prompt. Nothing was deployed."
            )
        self.details["accept"] = sorted({name for one in split.accept for name in one.names})
        self.details["diff"] = _diff(self.serving.active.text, choice.candidate.text)
        # spent from the first answer on, even by a run that dies before its last
        await self.storage.save_run(self._told(), now=self.job.now)
        verdict = await self._in_thread(lambda: search.prove(choice))
        self.details["gate"] = asdict(verdict)
        if not verdict.improved:
            return await self._end(verdict.outcome, verdict.reason)
        return await self._deploy(choice, verdict)

    async def _prepared(self, split: Split) -> Search:
        # A deprecated prompt was active once, as was a champion that came back: users and rivals change, and it has to
        # win again. Another rolled back one lost its trial; only a person may pardon it, by making it deprecated.
        barred = await self.storage.barred_texts(self.job.agent_id)
        prompts = await self.storage.prompts(self.job.agent_id)
        lost = {one.text for one in prompts if one.status == "rolled_back" and one.origin != ORIGIN}
        return Search(
            prompt=self.serving.active.text,
            split=split,
            optimizer=self.job.optimizer,
            objective=self.job.objective,
            engine=self.engine,
            seed=self.job.seed,
            rolled_back=sorted(lost - {one.text for one in barred}),
            barred=barred,
            similar=app_settings.dspy.canary.similar_text,
            margin=self.job.settings.accept_margin,
            fewest=self.job.settings.min_accept_conversations,
            record=self.details.__setitem__,
        )

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """Like ``asyncio.to_thread``, but a loop that is told to end does not wait for a model."""

        def body() -> Result:
            with running(self.engine, num_threads=self.job.settings.num_threads):
                return work()

        return await asyncio.wrap_future(start_daemon(body))

    async def _examples(self) -> Split:
        """Read, count and split; refuse before anything is spent."""
        dataset = await build_dataset(
            None,
            self.job.strategy,
            self.job.require_feedback,
            app_settings.dspy.min_feedback_threshold,
            agent_id=self.job.agent_id,
        )
        self.details["funnel"] = asdict(dataset.funnel)
        conversations = conversations_of([*dataset.golden, *dataset.failures])
        self.details["counts"] = counts = count(dataset, conversations)
        settings = self.job.settings
        refuse_too_few(
            counts,
            scored_conversations=settings.min_scored_conversations,
            failures=settings.min_failures,
            raters=settings.min_raters,
        )
        split = split_or_refuse(
            conversations,
            fewest=settings.min_accept_conversations,
            select=settings.select_size,
            train_rows=self.job.optimizer.min_rows,
            optimizer=self.job.optimizer.name,
            spent=await self.storage.spent_conversations(self.job.agent_id),
        )
        self.details["split"] = {
            "train": len(split.train),
            "select": len(split.select),
            "accept": len(split.accept),
            "raters_whole": split.raters_whole,
        }
        self._plan(split)
        return split

    def _plan(self, split: Split) -> None:
        planned = planned_calls(self.job.optimizer, split, self.job.objective)
        self.details["calls_planned"] = planned
        if planned > self.engine.max_calls:
            raise BudgetExceededError(
                f"The run may need {planned:,} model calls and the limit is {self.engine.max_calls:,}. Nothing was "
                "spent or deployed. Raise DSPY__TRAINING__MAX_CALLS or pass a smaller SIMBA(metric=..., max_steps=...)."
            )
        logger.info("Training agent '%s' with at most %s model calls.", self.job.agent_id, f"{planned:,}")

    async def _deploy(self, choice: Choice, verdict: GateVerdict) -> TrainingRun:
        """The run says why before the one transaction that begins the trial and ends the run."""
        await self.storage.save_run(replace(self._told(), reason=verdict.reason), now=self.job.now)
        share = app_settings.dspy.canary.initial_share
        policy = await trial_policy(self.job.agent_id, share, now=self.job.now)
        trial = Trial(
            agent_id=self.job.agent_id,
            text=choice.candidate.text,
            expected_version=self.serving.version,
            origin=self.job.optimizer.name,
            parent_id=self.serving.active.id,
            share=share,
            policy=policy,
            metadata={
                "run": str(self.record.id),
                "gain": verdict.gain,
                "train_score": choice.candidate.score,
                "select_score": choice.select_score,
            },
            run_id=self.record.id,
            reason=told_at_opening(verdict.reason, policy),
        )
        experiment = await self.storage.begin_trial(trial, now=self.job.now)
        logger.info("Prompt %d is on trial. %s", experiment.candidate_id, trial.reason)
        return replace(
            self._told(),
            state="ended",
            outcome="improved",
            reason=verdict.reason,
            candidate_id=experiment.candidate_id,
            experiment_id=experiment.id,
            ended_at=experiment.started_at,
        )

    def _told(self) -> TrainingRun:
        engine = self.engine
        self.details["calls"] = {**engine.calls, "from_memory": engine.cached}
        self.details["errors"] = dict(engine.errors)
        self.details["tokens"] = dict(engine.tokens)
        return replace(self.record, calls=engine.used, details=self.details)

    async def _end(self, outcome: RunOutcome, reason: str, error: Exception | None = None) -> TrainingRun:
        if error is not None:
            self.details["error"] = type(error).__name__
        ended = replace(self._told(), state="ended", outcome=outcome, reason=reason)
        logger.info("Training ended %s: %s", outcome, reason)
        return await self.storage.save_run(ended, now=self.job.now)


def _diff(before: str, after: str) -> str:
    return "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), "active", "candidate", lineterm=""))
