"""The hot path: one prompt per request, without I/O.

Each agent is served from an immutable snapshot that is swapped whole. A timer of the running event loop polls the
serving version and counts the metrics; while the database is away the last good snapshot stays.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import random
from time import monotonic
from typing import Any

from bindu.dspy.errors import BinduError, StorageUnavailableError
from bindu.dspy.models import Arm, Serving
from bindu.dspy.prompts import prompt_view
from bindu.dspy.routing import select
from bindu.dspy.storage import get_storage
from bindu.settings import app_settings
from bindu.utils.logging import get_logger

__all__ = ["Snapshot", "refresh_prompts", "select_prompt_with_canary", "stop_prompt_refresh"]

POLL_SECONDS = 0.5
COUNT_SECONDS = 45.0  # metrics are never older than 60 s

logger = get_logger("bindu.dspy.prompt_selector")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Who is live for an agent, with the answers prepared per arm."""

    serving: Serving | None
    answers: dict[Arm, dict[str, Any]]

    def choose(self, unit_id: str | None, draw: float) -> dict[str, Any] | None:
        """The prompt for one request, None before bootstrap; ``draw`` in [0, 1) decides without a unit."""
        if self.serving is None:
            return None
        return {**self.answers[select(self.serving, unit_id, draw)], "unit_id": unit_id}


async def select_prompt_with_canary(
    *, unit_id: str | None = None, agent_id: str | None = None, default: str | None = None
) -> dict[str, Any] | None:
    """Choose the prompt that answers this request.

    ``unit_id`` (a conversation or user) keeps its arm while shares rise; without one each call is drawn at random.
    The dictionary has the specification's ``id``, ``prompt_text``, ``status``, ``traffic``, ``num_interactions``,
    ``average_feedback_score``, and ``agent_id``, ``arm``, ``epoch``, ``experiment_id``, ``unit_id`` for
    ``record_task``. Without a stored prompt it is ``default`` with ``id`` None, or None when there is no default.

    Only an agent's first call in an event loop waits for the database. Raises StorageNotConfiguredError, and
    StorageUnavailableError when nothing was ever loaded and there is no default.
    """
    agent, unit = agent_id or app_settings.dspy.agent_id, unit_id or None
    refresher = _refresher()
    watched = refresher.watched.get(agent) or await refresher.watch(agent)
    if watched.snapshot is None and default is None and watched.error is not None:
        raise StorageUnavailableError(watched.error.where, watched.error.cause)
    chosen = None if watched.snapshot is None else watched.snapshot.choose(unit, random())  # noqa: S311
    return chosen if chosen is not None or default is None else _default_answer(agent, default, unit)


async def refresh_prompts(agent_id: str | None = None) -> None:
    """Reload at once what this event loop serves for an agent, such as after a rollout in the same process.

    An agent that was never asked for is left alone: its first request loads it. Raises StorageUnavailableError.
    """
    watched = _refresher().watched.get(agent_id or app_settings.dspy.agent_id)
    if watched is not None:
        await watched.load()


async def stop_prompt_refresh() -> None:
    """Stop polling in this event loop and forget its snapshots; call it before ``close_storage`` at shutdown."""
    refresher = _refreshers.pop(asyncio.get_running_loop(), None)
    _last_good.clear()
    if refresher is not None:
        await refresher.stop()


@dataclass(slots=True, eq=False)
class _Watched:
    """One agent of one event loop: what it is served, and how fresh that is."""

    agent_id: str
    snapshot: Snapshot | None = None
    error: StorageUnavailableError | None = None  # why there is no snapshot
    trouble: str | None = None  # what the last poll said
    counted_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # an older load must not overtake a newer one

    async def start(self) -> None:
        try:
            await self.load()
        except StorageUnavailableError as error:
            self.snapshot, self.error = _last_good.get(self.agent_id), error

    async def load(self) -> None:
        async with self.lock:
            storage, started = await get_storage(), monotonic()
            serving = await storage.serving(self.agent_id)
            answers: dict[Arm, dict[str, Any]] = {}
            if serving is not None:
                live = [serving.active] if serving.candidate is None else [serving.active, serving.candidate]
                metrics = await storage.prompt_metrics(self.agent_id, [prompt.id for prompt in live])
                arms: tuple[Arm, ...] = ("active", "candidate")
                answers = {
                    arm: prompt_view(prompt, metrics[prompt.id]) | _provenance(serving, arm)
                    for arm, prompt in zip(arms, live, strict=False)
                }
            self.snapshot, self.error, self.counted_at = Snapshot(serving, answers), None, started
            _last_good[self.agent_id] = self.snapshot

    async def poll(self) -> None:
        """Catch up with the database; whatever goes wrong is logged once and the snapshot stays."""
        try:
            await self._catch_up()
        except BinduError as error:
            self._say(f"is served the last good snapshot: {error}")
        except Exception as error:  # the next poll must come, whatever this was
            logger.exception("Refreshing the prompts of agent '%s' failed", self.agent_id)
            self._say(f"is served the last good snapshot: {error!r}")
        else:
            self._say(None)

    async def _catch_up(self) -> None:
        """Reload when somebody moved traffic, or when the metrics are getting old."""
        if self.snapshot is not None and self.error is None and monotonic() - self.counted_at < COUNT_SECONDS:
            version = await (await get_storage()).serving_version(self.agent_id)
            if version == (None if self.snapshot.serving is None else self.snapshot.serving.version):
                return
        await self.load()

    def _say(self, trouble: str | None) -> None:
        if trouble is not None and self.trouble is None:
            logger.warning("Agent '%s' %s", self.agent_id, trouble)
        elif trouble is None and self.trouble is not None:
            logger.info("Agent '%s' is served fresh prompts again", self.agent_id)
        self.trouble = trouble


class _Refresher:
    """The agents of one event loop and the timer that keeps them fresh.

    Between two polls only a timer is pending, no task, so a loop can end at any time without a warning.
    """

    def __init__(self) -> None:
        self.watched: dict[str, _Watched] = {}
        self._starting: dict[str, asyncio.Task[_Watched]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._polling: asyncio.Task[None] | None = None
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
        pending = [task for task in (self._polling, *self._starting.values()) if task is not None]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

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

    def _schedule(self) -> None:
        if not self._stopped:
            self._timer = asyncio.get_running_loop().call_later(POLL_SECONDS, self._tick)

    def _tick(self) -> None:
        self._polling = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        try:
            for watched in list(self.watched.values()):
                await watched.poll()
        finally:
            self._schedule()


_refreshers: dict[asyncio.AbstractEventLoop, _Refresher] = {}
_last_good: dict[str, Snapshot] = {}  # across event loops: a program may open one per request


def _refresher() -> _Refresher:
    loop = asyncio.get_running_loop()
    refresher = _refreshers.get(loop)
    if refresher is None:
        for closed in [other for other in _refreshers if other.is_closed()]:
            del _refreshers[closed]
        refresher = _refreshers[loop] = _Refresher()
    return refresher


def _provenance(serving: Serving, arm: Arm) -> dict[str, Any]:
    return {
        "agent_id": serving.agent_id,
        "arm": arm,
        "epoch": serving.epoch,
        "experiment_id": serving.experiment_id,
    }


def _default_answer(agent_id: str, text: str, unit_id: str | None) -> dict[str, Any]:
    return {
        "id": None,
        "prompt_text": text,
        "status": "active",
        "traffic": 1.0,
        "num_interactions": 0,
        "average_feedback_score": None,
        "agent_id": agent_id,
        "arm": "active",
        "epoch": 0,
        "experiment_id": None,
        "unit_id": unit_id,
    }
