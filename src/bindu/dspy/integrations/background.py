"""One thread per process with an event loop of its own keeps prompts fresh and stores what agents record.

Agents run in any event loop, in several, or in none, and none of them has to wait for the database.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from bindu.dspy.collector import Exchange, Opinion, store_exchanges, store_feedback
from bindu.dspy.errors import NoActivePromptError, StorageUnavailableError, UnknownTaskError
from bindu.dspy.prompt_selector import stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.recorder import Recorder
from bindu.dspy.storage import close_storage
from bindu.dspy.telemetry import SpoolFigures, show_spool, told_of_feedback
from bindu.utils.logging import get_logger
from bindu.utils.loop import new_event_loop

__all__ = ["Background", "background", "end_background", "flush", "is_current"]

EXIT_SECONDS: Final = 10.0  # that the end of the process waits for the last exchanges

T = TypeVar("T")
logger = get_logger("bindu.dspy.integrations")


class Background:
    """The thread, its loop and its recorder. Its methods may be called in any thread but its own."""

    def __init__(self) -> None:
        self._votes: set[asyncio.Task[Any]] = set()  # on their way
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._main, name="bindu-dspy", daemon=True)
        self._thread.start()
        self._loop = self._started.result()  # or what kept it from starting, such as a wrong setting

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin some work in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def record(self, exchange: Exchange) -> UUID:
        """Store an exchange soon; returns its id at once."""
        self._loop.call_soon_threadsafe(self._recorder.take, exchange)
        return exchange.task.id

    def vote(self, opinions: Mapping[str, Opinion]) -> Future[None]:
        """Store opinions, by agent id, after everything recorded before them; done when they are durable."""
        return self.submit(self._vote(opinions))

    def flush(self, timeout: float | None = None) -> None:
        """Wait until exchanges are in the database or on disk, and votes in the database. Raises TimeoutError."""
        self.submit(self._settle()).result(timeout)

    def close(self, timeout: float) -> None:
        """Settle what waits and end the thread; one that takes longer is left behind, with a warning."""
        with suppress(RuntimeError):  # its loop ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout)
        if self._thread.is_alive():
            logger.warning("Not everything recorded was stored within %.0f seconds", timeout)

    def _main(self) -> None:
        """Not by ``asyncio.run``: that begins a thread at its end, which an interpreter about to end may refuse."""
        loop = new_event_loop()
        try:
            loop.run_until_complete(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)
        finally:
            loop.close()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(_Executor(max_workers=4, thread_name_prefix="bindu-dspy"))
        self._recorder, self._stop = Recorder(store=_store), asyncio.Event()
        show_spool(partial(SpoolFigures.of, self._recorder))
        self._started.set_result(loop)
        try:
            await self._stop.wait()
            await self._settle()
        finally:
            await self._recorder.close()
            show_spool(None)
            await stop_prompt_refresh()
            await close_storage()
            await _cancel_others()

    async def _settle(self) -> None:
        await self._recorder.flush()
        await asyncio.gather(*self._votes, return_exceptions=True)  # each tells its own failure

    async def _vote(self, opinions: Mapping[str, Opinion]) -> None:
        if task := asyncio.current_task():
            self._votes.add(task)
            task.add_done_callback(self._votes.discard)
        await self._recorder.flush()
        try:
            await _store_votes(opinions)
        except Exception as error:  # noqa: BLE001 - nobody may be waiting for it, so it is told here
            waits = isinstance(error, UnknownTaskError) and self._recorder.is_behind
            told = StorageUnavailableError("the database", "its exchange waits on disk") if waits else error
            logger.warning("A vote was not stored: %s", told)
            raise told from None


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _store_votes(opinions: Mapping[str, Opinion]) -> None:
    for agent_id, opinion in opinions.items():
        if await store_feedback(agent_id, [opinion]) == [None]:
            raise UnknownTaskError(agent_id, opinion.task_id)
        told_of_feedback(agent_id, opinion.task_id, opinion.vote)


async def _store(exchanges: Sequence[Exchange]) -> None:
    """An agent's first exchange may come before its first prompt: the default that answered it becomes that."""
    try:
        await store_exchanges(exchanges)
    except NoActivePromptError:
        default = next((one.default for one in exchanges if one.default is not None), None)
        if default is None:
            raise
        await bootstrap_prompt(default, agent_id=exchanges[0].task.agent_id)
        await store_exchanges(exchanges)


class _Executor(ThreadPoolExecutor):
    """Works here and now when the interpreter, about to end, lets no thread begin: the last exchanges need the disk."""

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        try:
            return super().submit(work, *arguments, **named)
        except RuntimeError:
            done: Future[T] = Future()
            try:
                done.set_result(work(*arguments, **named))
            except Exception as error:  # noqa: BLE001 - the future carries it to whoever waits
                done.set_exception(error)
            return done


_current: Background | None = None
_abandoned: list[Background] = []  # of the process this one was forked from: its loop must not be touched, nor freed
_lock = threading.Lock()


def background() -> Background:
    """This process's one, started on first use. Raises SettingsError."""
    global _current  # noqa: PLW0603 - one per process
    with _lock:
        if _current is None:
            _current = Background()
        return _current


def is_current(one: Background) -> bool:
    """Whether it is still the one: a fork has none until it asks for it."""
    return one is _current


def flush(timeout: float | None = None) -> None:
    """Wait until all exchanges recorded so far are in the database or on disk. Raises TimeoutError.

    The end of a process does so by itself, unless it is killed or leaves through ``os._exit``.
    """
    if _current is not None:
        _current.flush(timeout)


def end_background() -> None:
    """Settle what waits and end the thread; the next handle that is called starts another."""
    global _current
    last, _current = _current, None
    if last is not None:
        last.close(EXIT_SECONDS)


def _forked() -> None:
    global _current, _lock  # noqa: PLW0603 - the parent's thread does not exist here
    _lock = threading.Lock()
    if _current is not None:
        _abandoned.append(_current)
        show_spool(None)
    _current = None


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forked)
atexit.register(end_background)
