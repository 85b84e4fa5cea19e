"""One run from its first record to its last: read, split, search, prove, and begin a trial if it is better."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Final, TypeVar

from uuid_utils.compat import uuid7

from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.journal import Journal
from bindu.dspy.engine.parallel import start_daemon
from bindu.dspy.errors import (
    BinduError,
    BudgetExceededError,
    ExperimentActiveError,
    ModelUnavailableError,
    RunCancelledError,
    StaleRolloutError,
    TrainingRefusedError,
)
from bindu.dspy.models import JsonObject, RunOutcome, TrainingRun
from bindu.dspy.optimizer import running
from bindu.dspy.training.deploying import deploy, keep_rubric, proposal_told
from bindu.dspy.training.estimate import Estimate, estimate
from bindu.dspy.training.folder import RunFolder, Work
from bindu.dspy.training.history import refuse_bad_record, search_of
from bindu.dspy.training.job import Case, versions
from bindu.dspy.training.progress import Progress, Watch, eta
from bindu.dspy.training.resuming import enter_folder
from bindu.dspy.training.rows import dataset_sentence, examples_of
from bindu.utils.logging import get_logger

__all__ = ["Session"]

logger = get_logger("bindu.dspy.train")

Result = TypeVar("Result")

_LIKELY: Final = 0.6  # share of the most calls that a run usually makes

_INTERRUPTED: Final = "The run was interrupted. Nothing was deployed. Run the same command to go on."


class Session:
    """One process's part of a run. ``details`` is what the record tells besides its own fields."""

    def __init__(self, case: Case, *, watch: Watch | None = None) -> None:
        self.case = case
        self.job = job = case.job
        self.details: JsonObject = {
            "active_id": case.serving.active.id,
            "objective": job.objective_name,
            "versions": versions(),
        }
        self.record = TrainingRun(
            agent_id=job.agent_id,
            id=job.run_id or uuid7(),
            optimizer=job.optimizer.name,
            strategy=job.strategy.name,
            seed=job.seed,
        )
        self.expected = 0  # calls
        self.began = time.monotonic()
        self._watch = watch

    async def preview(self) -> TrainingRun:
        """What a run would do, without doing it."""
        engine = CountingEngine.from_settings(self.job.settings, self.job.inner)
        work = await examples_of(self.case, self.details)
        planned = self._planned(engine, work)
        reason = f"{dataset_sentence(self.details)} {planned.sentence}"
        return replace(self.record, reason=reason, details=self.details)

    async def run(self) -> TrainingRun:
        """Do it. Raises what ``run_training`` does."""
        folder, before = await enter_folder(self.case, self.record.id)
        self.record = replace(self.record, resumes=before)
        with folder, closing(Journal(folder.calls)) as journal:
            engine = CountingEngine.from_settings(
                self.job.settings, self.job.inner, journal=journal, seed=self.job.seed
            )
            self.record = await self._save(engine)
            return await self._to_its_end(folder, engine)

    async def _to_its_end(self, folder: RunFolder, engine: CountingEngine) -> TrainingRun:
        """Whatever happens is recorded; what can be gone on with stays in the folder."""
        try:
            ended = await self._train(folder, engine)
        except (ModelUnavailableError, BudgetExceededError, RunCancelledError) as error:
            if error.cause == "model_unreadable":  # what it answered would be remembered, and fail again
                folder.finish()
            error.run = await self._end(engine, "aborted", str(error), error.cause)
            raise
        except TrainingRefusedError as error:
            folder.finish()
            error.run = await self._end(engine, "refused", str(error), error.cause)
            raise
        except (ExperimentActiveError, StaleRolloutError) as error:
            folder.finish()
            await self._end(engine, "aborted", f"Another trainer or rollout was faster. {error}", "overtaken")
            raise
        except Exception as error:
            await self._end(engine, "aborted", f"The run broke: {type(error).__name__}: {error}", "broken")
            raise
        except asyncio.CancelledError:
            engine.stop(BinduError(_INTERRUPTED))
            await asyncio.shield(self._end(engine, "aborted", _INTERRUPTED, "interrupted"))
            raise
        folder.finish()
        return ended

    async def _train(self, folder: RunFolder, engine: CountingEngine) -> TrainingRun:
        work = await self._work(folder)
        self._refuse_over_budget(engine, self._planned(engine, work))
        async with Progress(self.case.storage, engine, lambda: self._told(engine), watch=self._watch):
            self.details["track_record"] = await refuse_bad_record(self.case)
            search = await search_of(self.case, work, engine, self.details)
            choice = await self._in_thread(engine, search.choose)
            await keep_rubric(self.case, self.record.id, self.details)
            if choice is None:
                reason = f"{self.job.optimizer.name} proposed no new prompt. Nothing was deployed."
                return await self._end(engine, "unchanged", reason)
            self.details |= proposal_told(self.case, choice, work.split, self.details)
            # spent from the first answer on, even by a run that dies before its last
            folder.mark_asked()
            await self._save(engine)
            verdict = await self._in_thread(engine, lambda: search.prove(choice))
        self.details["gate"] = verdict.as_json()
        if not verdict.improved:
            return await self._end(engine, verdict.outcome, verdict.reason)
        self.details.pop("step", None)
        await self.case.storage.save_run(replace(self._told(engine), reason=verdict.reason), now=self.job.now)
        return await deploy(self.case, self._told(engine), choice, verdict)

    async def _work(self, folder: RunFolder) -> Work:
        """What an earlier process of the run worked on, else the newest rows."""
        work = folder.work()
        if work is None:
            work = await examples_of(self.case, self.details)
            folder.store_work(work)
        self.details |= work.details
        return work

    def _planned(self, engine: CountingEngine, work: Work) -> Estimate:
        planned = estimate(self.job.optimizer, work.split, self.job.objective, engine, self.case.serving.active.text)
        self.details["estimate"] = planned.as_json()
        self.expected = round(_LIKELY * planned.total)
        return planned

    def _refuse_over_budget(self, engine: CountingEngine, planned: Estimate) -> None:
        told = f"{dataset_sentence(self.details)} {planned.sentence}"
        logger.info("Training agent '%s'. %s", self.job.agent_id, told)
        if planned.total > engine.budget.max_calls:
            raise BudgetExceededError(
                f"The run may need {planned.total:,} model calls and the limit is {engine.budget.max_calls:,}. Nothing "
                "was spent or deployed. Raise --max-calls (DSPY__TRAINING__MAX_CALLS), use --optimizer gepa, or pass a "
                "smaller SIMBA(metric=..., max_steps=...)."
            )

    async def _in_thread(self, engine: CountingEngine, work: Callable[[], Result]) -> Result:
        """Like ``asyncio.to_thread``, but a loop that is told to end does not wait for a model."""

        def body() -> Result:
            with running(engine, num_threads=self.job.settings.training.num_threads):
                return work()

        return await asyncio.wrap_future(start_daemon(body))

    def _told(self, engine: CountingEngine) -> TrainingRun:
        journal = engine.journal
        self.details["calls"] = {**(journal.calls + engine.calls), "from_memory": engine.cached}
        self.details["errors"] = dict(engine.faults)
        self.details["tokens"] = dict(journal.tokens + engine.tokens)
        self.details["progress"] = eta(engine, self.expected, self.began)
        step = str(self.details.get("step", "")) or None
        return replace(self.record, calls=engine.used, cost=engine.cost, step=step, details=dict(self.details))

    async def _save(self, engine: CountingEngine) -> TrainingRun:
        return await self.case.storage.save_run(self._told(engine), now=self.job.now)

    async def _end(self, engine: CountingEngine, outcome: RunOutcome, reason: str, cause: str = "") -> TrainingRun:
        if cause:
            self.details["cause"] = cause
        ended = replace(self._told(engine), state="ended", outcome=outcome, reason=reason, step=None)
        logger.info("Training ended %s: %s", outcome, reason)
        return await self.case.storage.save_run(ended, now=self.job.now)
