"""Run what is due, of all agents, beside any number of other workers."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Final
from uuid import uuid4

from bindu.dspy.canary.controller import run_step
from bindu.dspy.errors import BinduError, StaleRolloutError, StorageUnavailableError
from bindu.dspy.housekeeping import Job
from bindu.dspy.leases import run_leased
from bindu.dspy.storage import Storage, get_storage
from bindu.dspy.worker.schedule import checked_schedule, latest_slot, next_slot
from bindu.dspy.worker.training import FAILED, train_apart
from bindu.settings import WorkerSettings, app_settings
from bindu.utils.logging import get_logger

__all__ = ["DueJob", "EndedJob", "Worker"]

CANARY: Final = "canary"
TRAIN: Final = "train"

_LOOKS: Final = 3  # at the jobs, within the length of a lease: so a dead replica's are taken over soon after its end

logger = get_logger("bindu.dspy.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class DueJob:
    """A job that nobody has done since its scheduled time."""

    agent_id: str
    job: str
    slot: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedJob:
    """A job that was run to its end."""

    agent_id: str
    job: str
    slot: datetime  # the scheduled time that it was run for
    outcome: str
    seconds: float

    @property
    def has_failed(self) -> bool:
        return self.outcome.startswith(FAILED)


class Worker:
    """Runs the jobs of all agents, or of some, whenever they are due; the jobs of one kind one after the other.

    A job is due when its last scheduled time has passed since it was done, however many went by: it is done once.
    One that nobody ever saw waits for its next time. Raises SettingsError for a schedule that is none.
    """

    def __init__(self, agents: Sequence[str] | None = None, *, settings: WorkerSettings | None = None) -> None:
        self._settings = app_settings.dspy.worker if settings is None else settings
        self._agents = agents
        self._schedules = _schedules(self._settings)
        self._lease = timedelta(seconds=self._settings.lease_seconds)
        self._done: dict[tuple[str, str], datetime] = {}  # the slot that a job is known to be done for
        self._away = False
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"

    async def run(self, stop: asyncio.Event) -> None:
        """Run what becomes due until ``stop`` is set; then stop what runs, which goes on where it was another time.

        While the database is away nothing is due; a job whose lease cannot be renewed for its length is stopped.
        """
        lanes = [asyncio.create_task(self._lane(name)) for name in self._schedules]
        tasks = [*lanes, asyncio.create_task(stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for lane in lanes:
            if not lane.cancelled():
                lane.result()

    async def run_once(self, *, now: datetime | None = None) -> list[EndedJob]:
        """Run what is due, the canary first, since it may make way for training."""
        return [ended for name in self._schedules for ended in await self._run_due(name, now)]

    async def due(self, *, now: datetime | None = None) -> list[DueJob]:
        """What ``run_once`` would run if nobody else did."""
        storage = await get_storage()
        found = []
        for name in self._schedules:
            slot = await self._slot(storage, name, now)
            for agent_id in await storage.agent_ids(self._agents):
                known = await _known(storage, agent_id, name)
                if known is not None and not _is_done(known, slot):
                    found.append(DueJob(agent_id=agent_id, job=name, slot=slot))
        return found

    async def _lane(self, name: str) -> None:
        while True:
            try:
                await self._run_due(name, None)
                self._away = False
            except StorageUnavailableError as error:
                if not self._away:
                    logger.warning("%s The worker keeps trying.", error)
                self._away = True
            await asyncio.sleep(self._pause(name))

    def _pause(self, name: str) -> float:
        """Seconds until the next look: at the next slot, or for leases that have run out."""
        now = datetime.now(UTC)
        until_slot = (next_slot(self._schedules[name], now) - now).total_seconds()
        return min(self._lease.total_seconds() / _LOOKS, until_slot)

    async def _run_due(self, name: str, now: datetime | None) -> list[EndedJob]:
        storage = await get_storage()
        ended = []
        slot = await self._slot(storage, name, now)
        for agent_id in await storage.agent_ids(self._agents):
            job = await self._claimed(storage, agent_id, name, slot)
            if job is None:
                continue
            found = await self._run_job(storage, job, slot, now)
            if found is not None:
                ended.append(found)
            slot = await self._slot(storage, name, now)  # it may have taken hours
        return ended

    async def _slot(self, storage: Storage, name: str, now: datetime | None) -> datetime:
        """By the database's clock, so that replicas agree."""
        return latest_slot(self._schedules[name], now or await storage.now())

    async def _claimed(self, storage: Storage, agent_id: str, name: str, slot: datetime) -> Job | None:
        done = self._done.get((agent_id, name))
        if done is not None and done >= slot:
            return None
        known = await _known(storage, agent_id, name)
        if known is None:
            await storage.enroll_job(agent_id, name, slot=slot)
            return None
        if _is_done(known, slot):
            self._done[agent_id, name] = slot
            return None
        return await storage.claim_job(agent_id, name, self.holder, slot=slot, lease=self._lease)

    async def _run_job(self, storage: Storage, job: Job, slot: datetime, now: datetime | None) -> EndedJob | None:
        began = monotonic()
        logger.info("Agent '%s': %s of %s begins", job.agent_id, job.name, _shown(slot))
        work = partial(_outcome_of, job, self._settings, now)
        outcome = await run_leased(storage, job, work, slot=slot, lease=self._lease)
        if outcome is None:
            return None
        seconds = monotonic() - began
        logger.info("Agent '%s': %s ended after %.1f s: %s", job.agent_id, job.name, seconds, outcome)
        return EndedJob(agent_id=job.agent_id, job=job.name, slot=slot, outcome=outcome, seconds=seconds)


async def _outcome_of(job: Job, settings: WorkerSettings, now: datetime | None) -> str:
    """Run a job and say in a word how it went; a failure is said too, and the next scheduled time tries again."""
    try:
        return await (_step(job.agent_id, now) if job.name == CANARY else train_apart(job.agent_id, settings))
    except StorageUnavailableError:
        raise
    except BinduError as error:
        logger.warning("Agent '%s': %s failed: %s", job.agent_id, job.name, error)
        return f"{FAILED}: {error}"
    except Exception as error:  # one agent's bad luck must not stop the others' jobs
        logger.exception("Agent '%s': %s failed", job.agent_id, job.name)
        return f"{FAILED}: {type(error).__name__}: {error}"


async def _step(agent_id: str, now: datetime | None) -> str:
    try:
        decision = await run_step(agent_id=agent_id, now=now)
    except StaleRolloutError:
        return "stale"
    return "nothing to decide" if decision is None else decision.verdict


async def _known(storage: Storage, agent_id: str, name: str) -> Job | None:
    return next((job for job in await storage.jobs(agent_id) if job.name == name), None)


def _is_done(job: Job, slot: datetime) -> bool:
    return job.last_slot is not None and job.last_slot >= slot


def _schedules(settings: WorkerSettings) -> dict[str, str]:
    """By the job's name; those that are switched off are left out."""
    given = {CANARY: settings.canary, TRAIN: settings.train}
    checked = {name: checked_schedule(text, f"DSPY__WORKER__{name.upper()}") for name, text in given.items()}
    return {name: schedule for name, schedule in checked.items() if schedule}


def _shown(slot: datetime) -> str:
    return f"{slot:%Y-%m-%d %H:%M}"
