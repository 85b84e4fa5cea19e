"""Requests that arrive while a transaction runs share the next one: each is answered once its own part is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Generic, TypeVar

from bindu.dspy.errors import StorageUnavailableError
from bindu.utils.patience import within

__all__ = ["Batcher"]

MOST: Final = 200  # of one transaction
AT_ONCE: Final = 2  # transactions of one agent
PATIENCE: Final = 5.0  # seconds for one of them
MOST_WAITING: Final = 5_000  # requests of one agent

Item = TypeVar("Item")
Result = TypeVar("Result")

Store = Callable[[str, Sequence[Item]], Coroutine[Any, Any, Sequence[Result]]]


class Batcher(Generic[Item, Result]):
    """``store`` takes an agent and its items and stores all or none. Nobody waits for others to come."""

    def __init__(self, store: Store[Item, Result]) -> None:
        self._store = store
        self._waiting: dict[str, list[tuple[Item, asyncio.Future[Result]]]] = {}
        self._running: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, agent_id: str, item: Item) -> Result:
        """Store an item. Raises what ``store`` raises for it."""
        if len(self._waiting.get(agent_id, ())) >= MOST_WAITING:
            raise StorageUnavailableError("the database", f"{MOST_WAITING:,} requests wait for it already")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(agent_id, []).append((item, future))
        if self._running.get(agent_id, 0) < AT_ONCE:
            self._running[agent_id] = self._running.get(agent_id, 0) + 1
            task = asyncio.get_running_loop().create_task(self._work(agent_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _work(self, agent_id: str) -> None:
        try:
            while waiting := self._waiting.get(agent_id):
                batch, self._waiting[agent_id] = waiting[:MOST], waiting[MOST:]
                await self._settle(agent_id, batch)
        finally:
            self._running[agent_id] -= 1
            if not self._running[agent_id]:
                del self._running[agent_id]
                self._waiting.pop(agent_id, None)

    async def _settle(self, agent_id: str, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await within(PATIENCE, self._store(agent_id, [item for item, _ in batch]))
            answers = list(zip(batch, results, strict=True))
        except TimeoutError:
            _fail(batch, StorageUnavailableError("the database", "it did not answer in time"))
        except Exception as error:  # noqa: BLE001 - each waits for the answer to its own
            if len(batch) == 1 or isinstance(error, ConnectionError):
                _fail(batch, error)
                return
            half = len(batch) // 2
            await self._settle(agent_id, batch[:half])
            await self._settle(agent_id, batch[half:])
        else:
            for (_, future), result in answers:
                if not future.done():  # the caller went away
                    future.set_result(result)


def _fail(batch: Sequence[tuple[Item, asyncio.Future[Result]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
