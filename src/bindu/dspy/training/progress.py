"""A run's record, kept alive while it works: what it does now, what it spent, how long it will take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final

from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import RunCancelledError, StorageUnavailableError
from bindu.dspy.models import JsonObject, TrainingRun
from bindu.dspy.storage import Storage
from bindu.utils.logging import get_logger

__all__ = ["Progress", "Watch", "eta"]

logger = get_logger("bindu.dspy.train")

EVERY: Final = 2.0  # seconds
_ENOUGH: Final = 20  # calls, from which on their pace says something

Watch = Callable[[TrainingRun], None]


class Progress:
    """Saves the record every two seconds while its block lasts, and stops the engine when a person asks for it.

    A database that is away for a while stops nothing: the next save tells it all.
    """

    def __init__(
        self,
        storage: Storage,
        engine: CountingEngine,
        told: Callable[[], TrainingRun],
        *,
        watch: Watch | None = None,
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._told = told
        self._watch = watch
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Progress:
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                saved = await self._storage.save_run(self._told())  # a sign of life, by the database's own clock
            except StorageUnavailableError as error:
                logger.warning("The run goes on, its record waits: %s", error)
                continue
            if self._watch is not None:
                self._watch(saved)
            if saved.cancel_reason is not None or saved.state == "ended":
                self._engine.stop(RunCancelledError(saved.cancel_reason or "another trainer took it for lost"))


def eta(engine: CountingEngine, expected: int, began: float) -> JsonObject:
    """``details["progress"]``: calls made and expected, and the seconds that the rest takes at the pace so far.

    ``began`` is the monotonic time at which this process began; calls of earlier ones took no time of its.
    """
    done, here = engine.used, engine.calls.total()
    left = max(expected - done, 0)
    seconds = left * (time.monotonic() - began) / here if here >= _ENOUGH else None
    return {
        "calls_done": done,
        "calls_expected": max(expected, done),
        "eta_seconds": None if seconds is None else round(seconds),
    }
