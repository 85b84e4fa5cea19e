"""A job is run by whoever holds its lease, and only for as long as it is held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.housekeeping import Job
from bindu.dspy.storage import Storage
from bindu.utils.logging import get_logger
from bindu.utils.patience import within

__all__ = ["INTERRUPTED", "RETRY", "run_leased"]

INTERRUPTED: Final = "interrupted"
RETRY: Final = timedelta(minutes=1)  # after which work is tried again that found the database away
_RENEWALS: Final = 3  # within the length of a lease
_AGAIN: Final = 0.2  # seconds until a database that was away is asked again

logger = get_logger("bindu.dspy.leases")


async def run_leased(
    storage: Storage, job: Job, work: Callable[[], Awaitable[str]], *, slot: datetime, lease: timedelta
) -> str | None:
    """Run the work of a job that was claimed just now, renewing its lease, and return the outcome.

    None when the lease was lost: the work is cancelled then, and whoever holds the job now begins it anew. Cancelled,
    it cancels the work, waits until that has ended and gives the job back, due at once. Work that raises
    StorageUnavailableError is left unfinished too, and no replica takes it up again within RETRY.
    """
    working = asyncio.ensure_future(work())
    losing = asyncio.create_task(_lost(storage, job, lease))
    try:
        await asyncio.wait((working, losing), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await _end(storage, job, working, slot, lease)
            return working.result()
        logger.warning("The lease of %s is lost: its run is stopped", _named(job))
        await _cancelled(working)
        losing.result()
        return None
    except asyncio.CancelledError:
        await _cancelled(working)  # renewed until it has ended
        await _end(storage, job, working, slot, lease)
        raise
    finally:
        await _cancelled(losing)


async def _lost(storage: Storage, job: Job, lease: timedelta) -> None:
    """Return when the job is somebody else's, or may be: nobody could be asked for the length of a lease."""
    clock, seconds = asyncio.get_running_loop().time, lease.total_seconds()
    pause = seconds / _RENEWALS
    asked_at = clock()
    until = asked_at + seconds
    while clock() < until:
        await asyncio.sleep(asked_at + pause - clock())  # none after a connection that was silent for as long
        asked_at = clock()
        try:
            held = await within(min(pause, until - asked_at), storage.renew_job(job, lease=lease))
        except (StorageUnavailableError, TimeoutError) as error:
            logger.warning("The lease of %s cannot be renewed: %s", _named(job), str(error) or "no answer in time")
            continue
        if not held:
            return
        until = asked_at + seconds


async def _end(storage: Storage, job: Job, working: asyncio.Future[str], slot: datetime, lease: timedelta) -> None:
    """Give the job back: done, or to be done again when its work came to no end."""
    with suppress(TimeoutError):
        await within(lease.total_seconds() / _RENEWALS, _way_back(storage, job, working, slot))
        return
    logger.warning("%s could not be given back: it is free when its lease ends", _named(job))


def _way_back(storage: Storage, job: Job, working: asyncio.Future[str], slot: datetime) -> Coroutine[Any, Any, None]:
    if working.cancelled():
        return _give_back(storage, job, INTERRUPTED, None)
    match working.exception():
        case None:
            return _give_back(storage, job, working.result(), slot)
        case StorageUnavailableError():
            return _put_off(storage, job)
        case _:
            return _give_back(storage, job, INTERRUPTED, None)


async def _give_back(storage: Storage, job: Job, outcome: str, slot: datetime | None) -> None:
    while True:
        try:
            if not await storage.finish_job(job, outcome, slot=slot):
                logger.warning("%s ended with '%s' after somebody else had taken it", _named(job), outcome)
            return
        except StorageUnavailableError:
            if slot is None:
                raise TimeoutError from None  # the lease's end gives it back as well
            await asyncio.sleep(_AGAIN)


async def _put_off(storage: Storage, job: Job) -> None:
    """Hold the job without running it, so that other replicas wait as well."""
    while True:
        try:
            await storage.renew_job(job, lease=RETRY)
        except StorageUnavailableError:
            await asyncio.sleep(_AGAIN)
        else:
            logger.warning("%s came to no end. It is due again in %.0f seconds", _named(job), RETRY.total_seconds())
            return


async def _cancelled(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("While it was stopped: %s", error)


def _named(job: Job) -> str:
    return f"'{job.name}' of agent '{job.agent_id}'"
