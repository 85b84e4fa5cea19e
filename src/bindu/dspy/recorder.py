"""Exchanges are stored beside the answers: in batches, in the order they came, on disk while the database is away."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from time import monotonic
from typing import Any, Final
from uuid import UUID

import msgspec

from bindu.dspy.collector import Exchange, read_exchange, store_exchanges
from bindu.dspy.errors import BinduError, SchemaError, StorageUnavailableError
from bindu.dspy.spool import Spool, SpoolFullError
from bindu.dspy.storage import get_storage
from bindu.settings import app_settings
from bindu.utils.logging import get_logger
from bindu.utils.patience import within

__all__ = ["Recorder"]

BATCH: Final = 500
GATHER_SECONDS: Final = 0.01  # a batch waits so long for others to join it
PATIENCE: Final = 2.0  # seconds for the database, before exchanges go to the disk
LONGEST_PATIENCE: Final = 60.0  # for a single exchange, which may be large
DISK_AGAIN_SECONDS: Final = 30.0  # until files that could not be worked on are tried again
AGAIN_SECONDS: Final = 1.0  # between two looks whether it is back
LOOK_SECONDS: Final = 5.0  # for one look, which nobody waits for
TURN_SECONDS: Final = 0.2  # that new exchanges wait in memory, at most, while those on disk are stored
MOST_WAITING: Final = 20_000  # exchanges in memory

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_AWAY = (StorageUnavailableError, SchemaError, TimeoutError)  # the exchange is not to blame
_decode = msgspec.json.Decoder(Exchange).decode

logger = get_logger("bindu.dspy.recorder")


class _StoppingError(Exception):
    """The recorder closes in the middle of a file."""


class Recorder:
    """Belongs to the event loop that it starts in. Whoever makes it has to ``close`` it, or the last ones are lost.

    Nothing is stored twice: an exchange has its id before it is stored for the first time.
    """

    def __init__(
        self,
        spool: Spool | None = None,
        *,
        store: Callable[[Sequence[Exchange]], Coroutine[Any, Any, object]] | None = None,
    ) -> None:
        proxy = app_settings.dspy.proxy
        self._save = self._store_each if store is None else store
        self.dropped: Counter[str] = Counter()  # exchanges that will never be stored, by reason
        self._spool = spool or Spool(proxy.spool_folder, limit=proxy.spool_mb * 1_000_000)
        self._queue: list[Exchange] = []
        self._work = asyncio.Event()
        self._settled = asyncio.Condition()
        self._taken = self._done = 0
        self._away = not self._spool.is_empty()  # what an earlier process left comes first
        self._more = self._away  # files wait, and nothing says that the database would not take them
        self._look: asyncio.Task[bool] | None = None
        self._look_at = 0.0
        self._size = BATCH  # of a batch: less when the database is too slow for that many
        self._patience = PATIENCE  # more when it is too slow for a single one
        self._closing = self._reuses_ids = False
        self._task: asyncio.Task[None] | None = None

    @property
    def spooled(self) -> int:
        """Bytes that wait on disk."""
        return self._spool.size

    @property
    def waiting(self) -> int:
        """Exchanges that are not in the database yet, as far as known."""
        return len(self._queue) + (self._spool.count if self._spool.size else 0)

    @property
    def is_behind(self) -> bool:
        """Whether exchanges wait on disk; those in memory ``flush`` waits for."""
        return self._away

    def record(self, history: Sequence[Mapping[str, Any]], **given: Any) -> UUID:
        """Take an exchange, given and refused as by ``read_exchange``, and return its id; it is stored soon."""
        return self.take(read_exchange(history, **given))

    def take(self, exchange: Exchange) -> UUID:
        """The same for one that was read already."""
        if len(self._queue) >= MOST_WAITING:
            self._drop([exchange], "overload", f"{MOST_WAITING:,} wait already")
        elif self._task is not None and self._task.done():
            self._drop([exchange], "closed", "the process is ending")
        else:
            self.start()
            self._queue.append(exchange)
            self._taken += 1
            self._work.set()
        return exchange.task.id

    def start(self) -> None:
        """Begin to work in the running event loop, with what an earlier process left; recording does so too."""
        if self._task is None:
            if not self._spool.is_writable():
                logger.warning(
                    "Exchanges will be lost while the database is away, as %s cannot be written to. "
                    "Set DSPY__PROXY__SPOOL_FOLDER.",
                    self._spool.folder,
                )
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def flush(self) -> None:
        """Wait until everything recorded so far is in the database or on disk."""
        target = self._taken
        async with self._settled:
            await self._settled.wait_for(lambda: self._done >= target)

    async def close(self) -> None:
        """Settle what waits, then stop. What the database does not take now is stored by the next process."""
        self._closing = True
        self._work.set()
        if self._task is not None:
            await self._task
        if self._look is not None:
            self._look.cancel()
        self._spool.close()

    async def _run(self) -> None:
        while self._queue or not self._closing:
            await self._wait()
            await self._settle_all()
            if self._away and not self._closing and self._is_back():
                await self._catch_up()

    async def _wait(self) -> None:
        """Until there is something to do; a little longer, so that more of it is done at once."""
        if self._more:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_SECONDS if self._away else None):
                await self._work.wait()
        if not self._closing:
            await asyncio.sleep(GATHER_SECONDS)
        self._work.clear()

    async def _settle_all(self) -> None:
        while self._queue:
            batch = self._queue[: BATCH if self._away else self._size]
            await self._settle(batch)
            del self._queue[: len(batch)]
            self._done += len(batch)
            async with self._settled:
                self._settled.notify_all()

    async def _settle(self, batch: list[Exchange]) -> None:
        if not self._away:
            try:
                await self._store(batch)
            except _AWAY as error:
                self._away = True
                logger.warning("Exchanges wait for the database: %s", str(error) or "it did not answer in time")
            else:
                return
        try:
            await asyncio.to_thread(self._spool.put, [_encode(exchange) for exchange in batch])
        except SpoolFullError as error:
            self._drop(batch, "spool_full", str(error))
        except OSError as error:
            self._drop(batch, "disk", str(error))

    async def _store(self, batch: Sequence[Exchange]) -> None:
        """Agent by agent; what the database refuses for good is dropped, alone."""
        by_agent = sorted(batch, key=lambda exchange: exchange.task.agent_id)
        for _, group in groupby(by_agent, key=lambda exchange: exchange.task.agent_id):
            exchanges = list(group)
            began = monotonic()
            try:
                await within(self._patience, self._save(exchanges))
                self._was_stored(len(exchanges), monotonic() - began)
            except _AWAY as error:
                if isinstance(error, TimeoutError):
                    self._was_slow(len(exchanges))
                raise
            except Exception as error:  # noqa: BLE001 - one exchange must not end the recording of all others
                if len(exchanges) == 1:
                    why = str(error) if isinstance(error, BinduError) else f"{type(error).__name__}: {error}"
                    self._drop(exchanges, "refused", why)
                    continue
                for exchange in exchanges:
                    await self._store([exchange])

    def _was_stored(self, count: int, seconds: float) -> None:
        """The next batch may be larger, if one of twice the size would be in time by far."""
        self._patience = PATIENCE
        if count >= self._size and seconds < PATIENCE / 4:
            self._size = min(BATCH, self._size * 2)

    def _was_slow(self, count: int) -> None:
        """The next batch is smaller; a single exchange gets more time, or it would keep all others waiting for good."""
        if count == 1:
            self._patience = min(LONGEST_PATIENCE, self._patience * 2)
        self._size = max(1, count // 4)

    async def _store_each(self, exchanges: Sequence[Exchange]) -> None:
        """Also those whose id another exchange has: some providers number their answers anew again and again."""
        ids = await store_exchanges(exchanges)
        late = [one for one, stored in zip(exchanges, ids, strict=True) if one.task.id != stored]
        if late:
            if not self._reuses_ids:
                self._reuses_ids = True
                logger.warning(
                    "Answers come with ids that others had, such as '%s': rate by our task id or conversation",
                    late[0].task.external_id,
                )
            await store_exchanges([replace(one, task=replace(one.task, external_id=None)) for one in late])

    def _is_back(self) -> bool:
        """Whether the database has answered since it went away. It is asked beside, as it may be long silent."""
        if self._more:
            return True
        if self._look is None and monotonic() >= self._look_at:
            self._look = asyncio.get_running_loop().create_task(_answers())
            self._look.add_done_callback(lambda _: self._work.set())
        if self._look is None or not self._look.done():
            return False
        answered, self._look = self._look.result(), None
        self._look_at = monotonic() + AGAIN_SECONDS
        return answered

    async def _catch_up(self) -> None:
        """Store what waits on disk, the oldest file first; until none is left, new exchanges go behind them."""
        self._more = False
        try:
            while await self._store_oldest():
                if self._closing:
                    return
        except (*_AWAY, _StoppingError):
            return
        except OSError as error:  # of the disk: what waits there goes on waiting
            logger.error("What waits in %s cannot be stored: %s", self._spool.folder, error)
            self._look_at = monotonic() + DISK_AGAIN_SECONDS
            return
        self._away = False
        logger.info("The database has taken what waited for it")

    async def _store_oldest(self) -> bool:
        with self._spool.oldest() as records:
            if records is None:
                return False
            turn = monotonic()
            while batch := list(islice(records, self._size)):
                if self._closing:
                    raise _StoppingError  # what is left of the file is stored by the next process
                await self._store([*self._decoded(batch)])
                self._spool.pass_over(len(batch))
                if monotonic() - turn > TURN_SECONDS:
                    await self._settle_all()
                    turn = monotonic()
        return True

    def _decoded(self, records: Sequence[bytes]) -> Iterator[Exchange]:
        for record in records:
            try:
                yield _read(record)
            except (ValueError, msgspec.ValidationError) as error:
                self.dropped["unreadable"] += 1
                logger.error("A record of the spool cannot be read and is dropped: %s", error)

    def _drop(self, exchanges: Sequence[Exchange], reason: str, why: str) -> None:
        if self.dropped[reason] % 1_000 == 0:
            logger.error("Exchanges are not recorded (%s): %s", reason, why)
        self.dropped[reason] += len(exchanges)


async def _answers() -> bool:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await (await get_storage()).now()
    except (BinduError, TimeoutError):
        return False
    return True


def _encode(exchange: Exchange) -> bytes:
    """With the time it was recorded at, which the database would give it only when it is back."""
    task = exchange.task
    if task.created_at is None:
        exchange = replace(exchange, task=replace(task, created_at=EPOCH + timedelta(milliseconds=task.id.int >> 80)))
    try:
        return msgspec.json.encode(exchange)
    except UnicodeEncodeError:  # a lone surrogate, which models do emit
        return json.dumps(msgspec.to_builtins(exchange)).encode()


def _read(record: bytes) -> Exchange:
    try:
        return _decode(record)
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(record), Exchange)
