"""The hot path: one prompt per request, without I/O.

Each agent is served from an immutable snapshot that is swapped whole. The database announces whose traffic moved, and
a timer of the running event loop asks for it besides, as announcements can be lost; what users thought is counted
beside both, one agent after another. While the database is away the last good snapshot stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from random import random
from time import monotonic
from types import TracebackType
from typing import Any
from uuid import UUID

from bindu.dspy.arguments import optional_id
from bindu.dspy.errors import BinduError, StorageUnavailableError
from bindu.dspy.models import PromptMetrics, Serving
from bindu.dspy.snapshots import Snapshot, default_answer, live_prompts, snapshot_of
from bindu.dspy.storage import Storage, agent_named, get_storage
from bindu.utils.logging import get_logger
from bindu.utils.patience import within

__all__ = [
    "Snapshot",
    "refresh_prompts",
    "select_prompt_with_canary",
    "snapshot_ages",
    "stop_prompt_refresh",
    "watch_prompts",
]

POLL_SECONDS = 0.5
COUNT_SECONDS = 45.0  # metrics are at most 60 s old
IDLE_SECONDS = 600.0  # an agent that nobody asked for is forgotten
LISTEN_AGAIN_SECONDS = 60.0  # after it failed
STOP_SECONDS = 1.0  # for what is under way

logger = get_logger("bindu.dspy.prompt_selector")


async def select_prompt_with_canary(
    *, unit_id: UUID | str | int | None = None, agent_id: str | None = None, default: str | None = None
) -> dict[str, Any] | None:
    """Choose the prompt that answers this request.

    ``unit_id`` (a conversation or user) keeps its arm while shares rise; without one each call is drawn at random.
    The dictionary has the specification's ``id``, ``prompt_text``, ``status``, ``traffic``, ``num_interactions``,
    ``average_feedback_score``, and ``agent_id``, ``arm``, ``epoch``, ``experiment_id``, ``unit_id`` for
    ``record_task``. Without a stored prompt it is ``default`` with ``id`` None, or None when there is no default.
    A prompt that was not counted yet has no interactions and no score.

    Only an agent's first call in an event loop waits for the database, and not for its counts. Raises
    StorageNotConfiguredError, InvalidArgumentError for an id that cannot be, and StorageUnavailableError when
    nothing was ever loaded and there is no default.
    """
    agent, unit = agent_named(agent_id), optional_id(unit_id, "unit_id")
    refresher = _refresher()
    watched = refresher.watched.get(agent) or await refresher.watch(agent)
    watched.asked_at = monotonic()
    if watched.snapshot is None and default is None and watched.error is not None:
        raise StorageUnavailableError(watched.error.where, watched.error.cause)
    chosen = None if watched.snapshot is None else watched.snapshot.choose(unit, random())  # noqa: S311
    return chosen if chosen is not None or default is None else default_answer(agent, default, unit)


async def watch_prompts(agent_id: str | None = None) -> Callable[[], Snapshot | None]:
    """Load an agent and keep it fresh in this event loop for as long as that runs, whoever asks for it.

    What is returned gives the snapshot in any thread, None while nothing was ever loaded. Raises
    StorageNotConfiguredError.
    """
    agent, refresher = agent_named(agent_id), _refresher()
    watched = refresher.watched.get(agent) or await refresher.watch(agent)
    watched.kept = True
    return lambda: watched.snapshot


async def refresh_prompts(agent_id: str | None = None) -> None:
    """Reload and count at once what this event loop serves for an agent, such as after a rollout in the same process.

    An agent that was never asked for is left alone: its first request loads it. Raises StorageUnavailableError.
    """
    watched = _refresher().watched.get(agent_named(agent_id))
    if watched is not None:
        await watched.load()
        await watched.count()


async def stop_prompt_refresh() -> None:
    """Stop polling in this event loop and forget its snapshots; call it before ``close_storage`` at shutdown."""
    refresher = _refreshers.pop(asyncio.get_running_loop(), None)
    _last_good.clear()
    if refresher is not None:
        await refresher.stop()


def snapshot_ages() -> dict[str, float]:
    """Seconds since what this process serves was last known to be what is stored, by agent that has a prompt.

    Each poll that the database answers makes it fresh. Where several event loops serve an agent, that of the oldest.
    """
    now, ages = monotonic(), dict[str, float]()
    for loop, refresher in list(_refreshers.items()):
        for watched in [] if loop.is_closed() else list(refresher.watched.values()):
            if watched.snapshot is not None and watched.snapshot.serving is not None:
                ages[watched.agent_id] = max(ages.get(watched.agent_id, 0.0), now - watched.fresh_at)
    return ages


class _Trouble:
    """Runs what may fail now and must be tried again later; a lasting trouble is logged when it begins and ends."""

    def __init__(self, what: str, meanwhile: Callable[[], str]) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._kind: type[Exception] | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            if self._kind is not None:
                logger.info("%s works again: what is served is fresh again", self._what)
            self._kind = None
        elif isinstance(error, Exception):
            if type(error) is not self._kind:
                unexpected = None if isinstance(error, BinduError) else error
                logger.warning("%s failed, %s: %s", self._what, self._meanwhile(), error, exc_info=unexpected)
            self._kind = type(error)
        return isinstance(error, Exception)


@dataclass(slots=True, eq=False)
class _Watched:
    """One agent of one event loop: what it is served, and how fresh that is."""

    agent_id: str
    snapshot: Snapshot | None = None
    error: StorageUnavailableError | None = None  # why nothing was loaded yet
    metrics: dict[int, PromptMetrics] = field(default_factory=dict)  # of the live prompts, as last counted
    counted_at: float = -inf
    asked_at: float = field(default_factory=monotonic)
    kept: bool = False  # never forgotten
    fresh_at: float = field(default_factory=monotonic)  # when what is served was last known to be what is stored
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # an older load must not overtake a newer one
    loading: asyncio.Task[None] | None = None  # beside the polls: a slow agent does not hold up the others
    again: bool = False  # something moved after that load began
    trouble: _Trouble = field(init=False)

    def __post_init__(self) -> None:
        self.trouble = _Trouble(
            f"Refreshing the prompts of '{self.agent_id}'", lambda: _meanwhile(self.snapshot is not None)
        )

    async def start(self) -> None:
        try:
            await self.load()
        except StorageUnavailableError as error:
            self.snapshot, self.error = _last_good.get(self.agent_id), error

    async def load(self) -> None:
        """Swap in who is live now, with the counts that are known."""
        async with self.lock:
            asked_at = monotonic()
            serving = await (await get_storage()).serving(self.agent_id)
            if not self.metrics.keys() >= {prompt.id for prompt in live_prompts(serving)}:
                self.counted_at = -inf  # a prompt that was never counted need not wait for its turn
            self._swap(serving)
            self.error, self.fresh_at = None, asked_at

    def load_soon(self) -> None:
        """Begin to load; asked while that is under way, however often, load once more after it."""
        if self.loading is None or self.loading.done():
            self.loading = asyncio.get_running_loop().create_task(self._reload())
        else:
            self.again = True

    async def _reload(self) -> None:
        self.again = True
        with self.trouble:
            while self.again:
                self.again = False
                await self.load()

    async def count(self) -> None:
        """Count what users thought of the live prompts; this may take the database a while."""
        self.counted_at = monotonic()  # a count that fails waits for its next turn
        asked = [] if self.snapshot is None else [prompt.id for prompt in live_prompts(self.snapshot.serving)]
        if self.snapshot is not None and asked:
            counted = await (await get_storage()).prompt_metrics(self.agent_id, asked)
            self.metrics = self.metrics | counted
            self._swap(self.snapshot.serving)  # not what it was before: traffic may have moved meanwhile

    def is_behind(self, version: int | None) -> bool:
        """Whether something was not loaded yet, given the version of who is live now."""
        serving = None if self.snapshot is None else self.snapshot.serving
        return self.error is not None or version != (None if serving is None else serving.version)

    def _swap(self, serving: Serving | None) -> None:
        live = {prompt.id for prompt in live_prompts(serving)}
        self.metrics = {number: counted for number, counted in self.metrics.items() if number in live}
        self.snapshot = snapshot_of(serving, self.metrics)
        if serving is None:
            _last_good.pop(self.agent_id, None)
        else:
            _last_good[self.agent_id] = self.snapshot


class _Refresher:
    """The agents of one event loop and the timer that keeps them fresh.

    Between two polls only a timer is pending, no task, so a loop can end at any time without a warning.
    """

    def __init__(self) -> None:
        self.watched: dict[str, _Watched] = {}
        self._starting: dict[str, asyncio.Task[_Watched]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._polling: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._listening: asyncio.Task[None] | None = None
        self._listens_to: Storage | None = None
        self._listen_at = -inf
        self._poll_trouble = _Trouble("Asking whether traffic moved", self._meanwhile)
        self._count_trouble = _Trouble("Counting what users thought", self._meanwhile)
        self._listen_trouble = _Trouble("Listening for rollouts", lambda: "polls still bring them")
        self._stopped = False

    async def watch(self, agent_id: str) -> _Watched:
        """Load an agent once, however many ask for it at the same time."""
        task = self._starting.get(agent_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._start(agent_id))
            self._starting[agent_id] = task
            task.add_done_callback(lambda done: self._started(agent_id, done))
        return await asyncio.shield(task)  # one caller's cancellation is not the others'

    async def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        loading = [watched.loading for watched in self.watched.values()]
        tasks = (self._polling, self._counting, self._listening, *self._starting.values(), *loading)
        pending = [task for task in tasks if task is not None]
        for task in pending:
            task.cancel()
        with suppress(TimeoutError):
            await within(STOP_SECONDS, _ended(pending))
        if self._listens_to is not None:
            await self._listens_to.unlisten(self._moved)

    async def _start(self, agent_id: str) -> _Watched:
        watched = _Watched(agent_id)
        await watched.start()
        self.watched[agent_id] = watched
        if self._timer is None:
            self._schedule()
        return watched

    def _started(self, agent_id: str, task: asyncio.Task[_Watched]) -> None:
        del self._starting[agent_id]
        if not task.cancelled():
            task.exception()  # its callers have it; if they all left, nobody misses it

    def _meanwhile(self) -> str:
        return _meanwhile(any(watched.snapshot is not None for watched in self.watched.values()))

    def _schedule(self) -> None:
        if self.watched and not self._stopped:
            self._timer = asyncio.get_running_loop().call_later(POLL_SECONDS, self._tick)
        else:
            self._timer = None

    def _tick(self) -> None:
        self._polling = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        try:
            self._forget_idle()
            with self._poll_trouble:
                await self._catch_up()
                self._start_counting()
                self._start_listening()
        finally:
            self._schedule()

    def _forget_idle(self) -> None:
        oldest = monotonic() - IDLE_SECONDS
        for idle in [one for one in self.watched.values() if one.asked_at < oldest and not one.kept]:
            del self.watched[idle.agent_id]
            _last_good.pop(idle.agent_id, None)

    async def _catch_up(self) -> None:
        """Ask for all versions in one statement; agents whose traffic moved reload side by side."""
        watched, asked_at = list(self.watched.values()), monotonic()
        versions = await (await get_storage()).serving_versions([agent.agent_id for agent in watched])
        for agent in watched:
            if agent.is_behind(versions.get(agent.agent_id)):
                agent.load_soon()
            else:
                agent.fresh_at = max(agent.fresh_at, asked_at)

    def _moved(self, agent_id: str) -> None:
        watched = self.watched.get(agent_id)
        if watched is not None and not self._stopped:
            watched.load_soon()

    def _start_listening(self) -> None:
        """Beside the polls, which go on however long that takes."""
        if (self._listening is None or self._listening.done()) and monotonic() >= self._listen_at:
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        self._listen_at = monotonic() + LISTEN_AGAIN_SECONDS
        with self._listen_trouble:
            self._listens_to = await get_storage()
            began = await self._listens_to.listen(self._moved)
            self._listen_at = -inf
            if began:
                await self._catch_up()  # nobody said what moved before

    def _start_counting(self) -> None:
        """Let it run beside the polls, unless it still does."""
        if self._counting is None or self._counting.done():
            latest = monotonic() - COUNT_SECONDS
            due = [watched for watched in self.watched.values() if watched.counted_at <= latest]
            if due:
                self._counting = asyncio.get_running_loop().create_task(self._count_all(due))

    async def _count_all(self, due: list[_Watched]) -> None:
        with self._count_trouble:
            await _all(map(self._count, due))

    async def _count(self, watched: _Watched) -> None:
        async with self._turn:  # one by one: the other connections are for the requests
            await watched.count()


_refreshers: dict[asyncio.AbstractEventLoop, _Refresher] = {}
_last_good: dict[str, Snapshot] = {}  # across event loops: a program may open one per request


def _refresher() -> _Refresher:
    loop = asyncio.get_running_loop()
    refresher = _refreshers.get(loop)
    if refresher is None:
        for closed in [other for other in list(_refreshers) if other.is_closed()]:
            _refreshers.pop(closed, None)
        refresher = _refreshers[loop] = _Refresher()
    return refresher


async def _ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def _all(work: Iterable[Awaitable[None]]) -> None:
    """Wait for all, then raise the first failure: one agent's trouble is not the others'."""
    for error in filter(None, await asyncio.gather(*work, return_exceptions=True)):
        raise error


def _meanwhile(is_loaded: bool) -> str:
    return "the last good snapshot stays" if is_loaded else "nothing was loaded yet"
