"""The port to the database: domain verbs, each one transaction, and the one wire to ``postgres/``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from bindu.dspy.errors import StorageNotConfiguredError
from bindu.dspy.models import (
    Decision,
    Experiment,
    Feedback,
    Prompt,
    PromptMetrics,
    PromptStatus,
    RawTask,
    Rollout,
    Serving,
    Task,
    TaskQuery,
    TrainingRun,
    Trial,
)
from bindu.settings import app_settings

__all__ = ["Storage", "close_storage", "get_storage", "use_storage"]


class Storage(Protocol):
    """What the services need of a database.

    Every verb is one transaction and every row belongs to an agent. ``now`` is the caller's clock, None the
    database's. All verbs raise StorageUnavailableError when the database does not answer.
    """

    async def close(self) -> None: ...

    async def now(self) -> datetime:
        """The database's time, with time zone."""

    # prompts

    async def bootstrap(self, agent_id: str, text: str, *, now: datetime | None = None) -> Prompt:
        """Make ``text`` prompt 1, active at 100 %, unless the agent has a prompt; return the active prompt."""

    async def serving(self, agent_id: str) -> Serving | None:
        """Who is live, or None before bootstrap."""

    async def serving_version(self, agent_id: str) -> int | None:
        """Only the version: what routers poll."""

    async def prompt(self, agent_id: str, prompt_id: int) -> Prompt | None: ...

    async def prompts(self, agent_id: str) -> list[Prompt]:
        """All versions, oldest first."""

    async def add_prompt(
        self, agent_id: str, text: str, status: PromptStatus, *, origin: str = "manual", now: datetime | None = None
    ) -> Prompt:
        """Store a text that is not live: status ``deprecated`` or ``rolled_back``."""

    async def set_retired_status(self, agent_id: str, prompt_id: int, status: PromptStatus) -> None:
        """Change a prompt that is not live between ``deprecated`` and ``rolled_back``.

        Raises UnknownPromptError, and InvalidPromptError when the prompt is live.
        """

    async def prompt_metrics(self, agent_id: str, prompt_ids: Sequence[int]) -> dict[int, PromptMetrics]:
        """One entry per prompt asked for; a prompt without tasks counts zero."""

    # experiments

    async def begin_trial(self, trial: Trial, *, now: datetime | None = None) -> Experiment:
        """Insert the candidate, give it its share, open the experiment, log it, end the run 'improved'.

        Raises NoActivePromptError, ExperimentActiveError when a candidate is live, StaleRolloutError when
        traffic moved since ``expected_version``, InvalidPromptError for the text of a live prompt.
        """

    async def apply(self, rollout: Rollout, *, now: datetime | None = None) -> Decision:
        """Carry a rollout out and log it, by compare-and-swap on the serving version.

        With an outcome the experiment ends: ``promoted`` makes the candidate active and the old one
        ``deprecated``, anything else makes the candidate ``rolled_back``. Raises StaleRolloutError.
        """

    async def experiment(self, agent_id: str, experiment_id: int) -> Experiment | None: ...

    async def experiments(self, agent_id: str, *, limit: int = 100) -> list[Experiment]:
        """Newest first."""

    async def decisions(self, agent_id: str, *, experiment_id: int | None = None, limit: int = 100) -> list[Decision]:
        """Newest first."""

    # tasks and feedback

    async def add_tasks(self, tasks: Sequence[Task]) -> list[UUID]:
        """Store tasks of one agent, and the arm of units seen for the first time. Returns their ids, in order.

        Idempotent by id and by ``external_id`` (a known one returns the id it had). Raises UnknownPromptError.
        """

    async def find_task(self, agent_id: str, task_id: UUID | str) -> UUID | None:
        """Our id of a task, by our id or by the caller's."""

    async def add_feedback(self, votes: Sequence[Feedback]) -> list[UUID]:
        """Store votes of one agent; each supersedes its rater's earlier vote on the task.

        Idempotent by id and by ``idempotency_key`` (a known one returns the id it had). All or none is stored.
        Raises UnknownTaskError.
        """

    def read_tasks(self, query: TaskQuery) -> AsyncIterator[RawTask]:
        """Stream the newest matching tasks page by page; nothing is held open while the caller works."""

    async def count_tasks(self, query: TaskQuery) -> dict[str, int]:
        """Why tasks do not come out of ``read_tasks``: ``tasks``, then ``not_completed``, ``without_feedback``,
        ``below_threshold``, ``over_limit``."""

    # training runs

    async def save_run(self, run: TrainingRun, *, now: datetime | None = None) -> TrainingRun:
        """Insert or update a run by its id; an ended run is never changed."""

    async def runs(self, agent_id: str, *, limit: int = 100) -> list[TrainingRun]:
        """Newest first."""


class _Current:
    """The storage in use and the event loop that its pool belongs to."""

    storage: Storage | None = None
    loop: asyncio.AbstractEventLoop | None = None
    override: Storage | None = None


async def get_storage() -> Storage:
    """The storage that STORAGE__POSTGRES_URL names, opened once per event loop.

    Raises StorageNotConfiguredError (a RuntimeError) when nothing is named and StorageUnavailableError
    (a ConnectionError) when it does not answer.
    """
    if _Current.override is not None:
        return _Current.override
    loop = asyncio.get_running_loop()
    if _Current.storage is not None and _Current.loop is loop:
        return _Current.storage
    url = app_settings.storage.postgres_url
    if url is None or not url.get_secret_value():
        raise StorageNotConfiguredError
    from bindu.dspy.postgres.storage import PostgresStorage  # noqa: PLC0415 - the driver loads on first use

    storage = await PostgresStorage.connect(url.get_secret_value(), app_settings.storage)
    if _Current.storage is not None and _Current.loop is loop:  # somebody else opened it while we waited
        await storage.close()
        return _Current.storage
    _Current.storage, _Current.loop = storage, loop
    return storage


async def close_storage() -> None:
    """Close what ``get_storage`` opened; before an event loop ends, its pool must."""
    storage, _Current.storage, _Current.loop = _Current.storage, None, None
    if storage is not None:
        await storage.close()


@contextmanager
def use_storage(storage: Storage) -> Iterator[Storage]:
    """Let every service use this storage inside the block; for tests and for embedding."""
    before, _Current.override = _Current.override, storage
    try:
        yield storage
    finally:
        _Current.override = before
