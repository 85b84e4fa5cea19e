"""Work in threads: side by side in order, and work that nobody waits for when a run is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

import dspy

from bindu.utils.logging import get_logger

__all__ = ["in_parallel", "side_by_side", "start_daemon"]

logger = get_logger("bindu.dspy.parallel")

Item = TypeVar("Item")
Result = TypeVar("Result")


def start_daemon(work: Callable[[], Result]) -> Future[Result]:
    """Begin some work in a thread, under the caller's context, that neither a loop nor the interpreter waits for."""
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()  # whoever waits may go away; the work cannot be taken back

    def body() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(body,), name="bindu-training", daemon=True).start()
    return future


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result | None]:
    """Apply a function that calls models to each item, in order, under the caller's DSPy settings.

    None where it failed: the engine counted that, and ends the run when it happens often.
    """

    def guarded(item: Item) -> Result | None:
        try:
            return function(item)
        except Exception as error:  # noqa: BLE001 - anything a model or a metric of the user's can do wrong
            logger.debug("One answer could not be scored: %s", error)
            return None

    return side_by_side(guarded, items)


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function to each item, in order, under the caller's DSPy settings; raises what it raises."""
    with ThreadPoolExecutor(dspy.settings.num_threads) as pool:
        jobs = [pool.submit(copy_context().run, function, item) for item in items]
        return [job.result() for job in jobs]
