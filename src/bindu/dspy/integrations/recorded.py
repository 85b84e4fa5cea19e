"""A framework's call, and beside it the exchange recorded with the prompt that was really served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from bindu.dspy.errors import InvalidHistoryError
from bindu.dspy.integrations.reading import answer_of, question_of
from bindu.dspy.integrations.turn import Turn, current_turn, opened
from bindu.utils.logging import get_logger

__all__ = ["recorded", "recorded_async"]

P = ParamSpec("P")
R = TypeVar("R")
_INSTEAD = "Use recorded_async() for what is awaited; for a stream open a turn and record() there what was said."
logger = get_logger("bindu.dspy.integrations")


def recorded(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """``call(*args, **kwargs)``, whose question and answer are recorded: ``recorded(agent.run_sync, "Where is it?")``.

    It runs in the turn that is open, else in one of its own; ``last_task_id()`` is the id for feedback. A call that
    raises is recorded as failed. What cannot be recorded, such as a stream, is logged: the result is not lost over it.
    """
    with _recording(args, kwargs) as results:
        results.append(call(*args, **kwargs))
    result: R = results[0]
    return result


async def recorded_async(call: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """``recorded`` for a call to be awaited: ``await recorded_async(agent.run, "Where is it?")``."""
    with _recording(args, kwargs) as results:
        results.append(await call(*args, **kwargs))
    result: R = results[0]
    return result


@contextmanager
def _recording(arguments: Sequence[Any], named: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The block leaves the call's result in the list."""
    outer, began, results = current_turn(), perf_counter(), list[Any]()
    with opened(Turn() if outer is None else outer.part()) as current:
        try:
            yield results
        except BaseException as error:
            canceled = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
            _record(current, (arguments, named), None, "canceled" if canceled else "failed", began)
            raise
        _record(current, (arguments, named), results[0], "completed", began)


def _record(
    current: Turn, asked: tuple[Sequence[Any], Mapping[str, Any]], result: Any, state: str, began: float
) -> None:
    milliseconds = (perf_counter() - began) * 1000
    try:
        question, answer = question_of(*asked, result), answer_of(result)
        if not question:
            raise InvalidHistoryError("The call was given no question. Open a turn and record() it there instead.")
        if answer is None and state == "completed":
            raise InvalidHistoryError(f"The result, {type(result).__name__}, is no text. {_INSTEAD}")
        current.record(question, answer, state=state, latency_ms=milliseconds)
    except Exception as error:  # noqa: BLE001 - the agent has answered, or raised what its caller has to see
        logger.warning("An exchange was not recorded: %s", error)
