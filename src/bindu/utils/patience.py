"""Waiting with an end, for work that is slow to be told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import monotonic
from typing import Any, Final, TypeVar

__all__ = ["Patience", "within"]

_MOMENT: Final = 5.0  # seconds

_Result = TypeVar("_Result")
_abandoned: set[asyncio.Task[Any]] = set()


async def within(seconds: float, work: Coroutine[Any, Any, _Result]) -> _Result:
    """What the work gives. Raises TimeoutError after so long, and does not wait until the work has noticed.

    ``asyncio.timeout`` does wait: a driver whose server is silent takes many seconds to cancel a statement.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_forget)
    if not task.done():
        raise TimeoutError
    return task.result()


class Patience:
    """How long to wait for somebody, in seconds: hardly at all when they were silent a moment ago."""

    def __init__(self, usual: float, *, after_silence: float) -> None:
        self._usual = usual
        self._after_silence = after_silence
        self._silent_until = 0.0

    @property
    def seconds(self) -> float:
        return self._usual if monotonic() >= self._silent_until else self._after_silence

    def lose(self) -> None:
        """They were not in time."""
        self._silent_until = monotonic() + _MOMENT


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # nobody waits for it any more
