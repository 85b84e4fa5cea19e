"""The port to the database: domain verbs, each one transaction, and the one wire to ``postgres/``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from bindu.dspy.arguments import checked_id
from bindu.dspy.errors import NoActivePromptError, StorageNotConfiguredError
from bindu.dspy.housekeeping import Housekeeping
from bindu.dspy.models import (
    BandPoint,
    Decision,
    Experiment,
    Feedback,
    JsonObject,
    PredictedEffect,
    Prompt,
    PromptMetrics,
    PromptStatus,
    RawTask,
    Remark,
    Rollout,
    Serving,
    Task,
    TaskQuery,
    TrainingRun,
    Trial,
)
from bindu.dspy.reports import LatestVote, Pulse, StoredTask
from bindu.dspy.rubric import RubricOrigin, RubricRule, StoredRubric
from bindu.dspy.units import (
    Arrivals,
    BarredText,
    Baseline,
    Closing,
    CountedUnit,
    FirstRequest,
    ShareChange,
    TimedVote,
)
from bindu.settings import agent_or_default, app_settings

__all__ = ["Storage", "agent_named", "close_storage", "get_storage", "serving_or_raise", "use_storage"]


class Storage(Housekeeping, Protocol):
    """What the services need of a database.

    Every verb is one transaction and every row belongs to an agent. ``now`` is the caller's clock, None the
    database's. All verbs raise StorageUnavailableError when the database does not answer.
    """

    async def close(self) -> None: ...

    async def now(self) -> datetime:
        """The database's time, with time zone."""

    async def check_schema(self) -> None:
        """Raise SchemaError unless the database's schema is the one this code speaks."""

    # prompts

    async def bootstrap(self, agent_id: str, text: str, *, actor: str = ..., now: datetime | None = None) -> Prompt:
        """Make ``text`` prompt 1, active at 100 %, unless the agent has a prompt; return the active prompt."""

    async def serving(self, agent_id: str) -> Serving | None:
        """Who is live, or None before bootstrap."""

    async def serving_versions(self, agent_ids: Sequence[str]) -> dict[str, int]:
        """The version of each of these agents that has a prompt: what routers poll."""

    async def listen(self, moved: Callable[[str], None]) -> bool:
        """Call ``moved`` in this event loop with an agent's id as soon as its traffic moved, until ``unlisten``.

        Only a hint: notices are lost while the connection is, so poll as well, and call this again and again, which
        renews it. True when hearing began just now: what moved before has to be read. False when it goes on, or when
        STORAGE__LISTEN is off. Raises BinduError when notices do not arrive, as behind some poolers.
        """

    async def unlisten(self, moved: Callable[[str], None]) -> None:
        """Undo ``listen``; the connection is closed when nobody listens any more."""

    async def prompt(self, agent_id: str, prompt_id: int) -> Prompt | None: ...

    async def prompts(self, agent_id: str) -> list[Prompt]:
        """All versions, oldest first."""

    async def prompt_of_text(self, agent_id: str, digest: bytes) -> int | None:
        """The agent's newest prompt whose text has that SHA-256."""

    async def owners_of_text(self, digest: bytes) -> list[str]:
        """The agents that have a prompt whose text has that SHA-256: two at most, as that is one too many."""

    async def add_prompt(
        self,
        agent_id: str,
        text: str,
        status: PromptStatus,
        *,
        origin: str = "manual",
        actor: str = "person",
        now: datetime | None = None,
    ) -> Prompt:
        """Store a text that is not live: status ``deprecated`` or ``rolled_back``."""

    async def set_retired_status(
        self,
        agent_id: str,
        prompt_id: int,
        status: PromptStatus,
        *,
        actor: str = "person",
        reason: str = "",
        now: datetime | None = None,
    ) -> None:
        """From one of the two to the other. Raises UnknownPromptError, and InvalidPromptError for a live prompt."""

    async def prompt_metrics(
        self, agent_id: str, prompt_ids: Sequence[int], *, now: datetime | None = None
    ) -> dict[int, PromptMetrics]:
        """One entry per prompt asked for; a prompt without tasks counts zero.

        All votes count; ``last_feedback_at`` is that of the latest one that is not after ``now``.
        """

    # experiments

    async def begin_trial(self, trial: Trial, *, now: datetime | None = None) -> Experiment:
        """Insert the candidate, give it its share, open the experiment, log it, end the run 'improved'.

        Raises NoActivePromptError, ExperimentActiveError when a candidate is live, StaleRolloutError when
        traffic moved since ``expected_version``, InvalidPromptError for the text of a live prompt,
        RunCancelledError when the run was asked to stop, TrainingRefusedError when it has ended already.
        """

    async def apply(self, rollout: Rollout, *, closing: Closing | None = None, now: datetime | None = None) -> Decision:
        """Carry a rollout out and log it, by compare-and-swap on the serving version.

        ``closing`` is written in the same transaction: of one experiment, each window is closed once, in order.

        With an outcome the experiment ends: ``promoted`` makes the candidate active and the old one
        ``deprecated``, anything else makes the candidate ``rolled_back``. Raises StaleRolloutError.
        """

    async def experiment(self, agent_id: str, experiment_id: int) -> Experiment | None: ...

    async def experiments(self, agent_id: str, *, limit: int = 100) -> list[Experiment]:
        """Newest first."""

    async def decisions(
        self, agent_id: str, *, experiment_id: int | None = None, before: int | None = None, limit: int = 100
    ) -> list[Decision]:
        """Newest first, those before a number."""

    async def decision(self, agent_id: str, decision_id: int) -> Decision | None: ...

    async def band(self, agent_id: str, experiment_id: int, *, limit: int) -> list[BandPoint]:
        """What a plot needs of an experiment's decisions, newest first."""

    # the evidence of an experiment

    async def baseline(self, agent_id: str, *, now: datetime | None = None) -> Baseline:
        """How the agent did in the past week. Raises NoActivePromptError."""

    async def feedback_per_hour(self, agent_id: str, *, now: datetime | None = None) -> float:
        """That of ``baseline``, without the rest of it. Raises NoActivePromptError."""

    async def evidence(self, agent_id: str, experiment_id: int) -> JsonObject | None:
        """The state that the last ``Closing`` left, None before the first."""

    async def arrivals(self, agent_id: str, experiment_id: int, *, until: datetime) -> Arrivals:
        """The units first seen, and those first rated, up to ``until`` and not taken into account yet."""

    async def first_answers(
        self, agent_id: str, experiment_id: int, unit_ids: Sequence[str]
    ) -> dict[str, list[JsonObject]]:
        """The history of each unit's first task in the experiment; units whose task is gone are left out."""

    async def set_judged(self, agent_id: str, experiment_id: int, scores: Mapping[str, float]) -> None:
        """Store a model's scores, in [0, 1], by unit id; the first one stays, and what a closed window took in."""

    async def share_changes(self, agent_id: str, experiment_id: int) -> list[ShareChange]:
        """The experiment's share epochs, oldest first, from the decision log."""

    async def first_requests(self, agent_id: str, experiment_id: int) -> list[FirstRequest]:
        """All units that closed windows have taken in; grows with the experiment."""

    async def counted_units(self, agent_id: str, experiment_id: int) -> list[CountedUnit]:
        """All units that closed windows have counted; grows with the experiment."""

    async def counted_votes(self, agent_id: str, experiment_id: int) -> dict[str, tuple[TimedVote, ...]]:
        """The votes that counted units have by now, oldest first, by unit id; grows with the experiment."""

    async def crossed_units(self, agent_id: str, experiment_id: int) -> int:
        """How many units were served by both prompts; reads the tasks recorded since the experiment began."""

    async def barred_texts(self, agent_id: str) -> list[BarredText]:
        """The texts that are not to be tried again without a person's word, newest first.

        Their experiment ended without a promotion. Making a text's prompt ``deprecated`` is such a word. A champion
        that did not win is none of them: it was active once, and would bar whatever still resembles it.
        """

    # tasks and feedback

    async def add_tasks(self, tasks: Sequence[Task]) -> list[UUID]:
        """Store tasks of one agent, and the arm of units seen for the first time. Returns their ids, in order.

        Idempotent by id and by ``external_id`` (a known one returns the id it had). Raises UnknownPromptError.
        """

    async def find_task(self, agent_id: str, task_id: UUID | str) -> UUID | None:
        """Our id of a task, by our id or by the caller's."""

    async def find_tasks(self, agent_id: str, task_ids: Sequence[str]) -> dict[str, UUID]:
        """Our ids of tasks by what they were asked for; unknown ones are left out."""

    async def add_feedback(self, votes: Sequence[Feedback | Remark]) -> list[UUID]:
        """Store votes of one agent; each supersedes its rater's earlier vote on the task.

        A remark becomes part of its rater's vote, which is then given again with it; without a vote it is kept beside
        the votes. Idempotent by id and by ``idempotency_key`` (a known one returns the id it had). All or none is
        stored. Raises UnknownTaskError.
        """

    async def latest_task(self, agent_id: str, context_id: str) -> UUID | None:
        """Our id of the last task of a conversation."""

    async def task(self, agent_id: str, task_id: UUID) -> StoredTask | None:
        """One exchange as it was recorded."""

    async def latest_votes(
        self, agent_id: str, *, before: UUID | None = None, limit: int = 100, longest: int = 500
    ) -> list[LatestVote]:
        """Newest first, those before an id, texts cut to ``longest`` characters; earlier votes of a rater too."""

    async def pulse(self, agent_id: str) -> Pulse | None:
        """What tells whether anything that people look at has changed, at no cost; None before bootstrap."""

    def read_tasks(self, query: TaskQuery) -> AsyncIterator[RawTask]:
        """Stream the newest matching tasks page by page; nothing is held open while the caller works."""

    async def count_tasks(self, query: TaskQuery) -> dict[str, int]:
        """Why tasks do not come out of ``read_tasks``: ``tasks``, then ``not_completed``, ``without_feedback``,
        ``below_threshold``, ``over_limit``."""

    # training runs

    async def save_run(self, run: TrainingRun, *, now: datetime | None = None) -> TrainingRun:
        """Insert or update a run by its id, as a sign of life; an ended run is never changed.

        Returns the run as it is stored: so a trainer learns that it was asked to stop, or that it was given up.
        """

    async def run(self, agent_id: str, run_id: UUID) -> TrainingRun | None: ...

    async def runs(self, agent_id: str, *, limit: int = 100) -> list[TrainingRun]:
        """Newest first."""

    async def find_runs(self, agent_id: str, beginning: str, *, limit: int) -> list[TrainingRun]:
        """The runs whose id begins so, whatever its hyphens and case, by id from the last."""

    async def cancel_run(
        self, agent_id: str, run_id: UUID, reason: str, *, actor: str = "person", now: datetime | None = None
    ) -> TrainingRun | None:
        """Ask a running run to stop, and return it; from then on it opens no experiment. The first reason stays.

        An ended run is returned as it is, None when there is no such run.
        """

    async def end_lost_runs(
        self,
        agent_id: str,
        *,
        silent_for: timedelta,
        reason: str,
        run_id: UUID | None = None,
        now: datetime | None = None,
    ) -> int:
        """End runs as ``aborted`` that gave no sign of life for longer than that, or that one of them; return how many.

        A run of older code, which gives none, is taken to have been silent since it started.
        """

    async def spent_conversations(self, agent_id: str) -> set[str]:
        """The names in ``details["accept"]`` of all runs: conversations that a proof has asked."""

    async def gate_record(self, agent_id: str, *, limit: int) -> list[PredictedEffect]:
        """Of ended experiments that a training run opened, newest first: the gate's gain and the last difference."""

    # rubrics

    async def save_rubric(
        self,
        agent_id: str,
        rules: Iterable[RubricRule],
        *,
        origin: RubricOrigin,
        prompt_id: int | None = None,
        run_id: UUID | None = None,
        actor: str,
        reason: str,
        now: datetime | None = None,
    ) -> StoredRubric:
        """Store rules under the agent's next number. Raises UnknownPromptError and UnknownRunError."""

    async def rubrics(
        self, agent_id: str, *, limit: int = 100, origin: RubricOrigin | None = None
    ) -> list[StoredRubric]:
        """All, or those of one origin, newest first."""

    async def standing_rubric(self, agent_id: str) -> StoredRubric | None:
        """The rubric that a person edited last, unless somebody released it since: training keeps to it."""


@dataclass(slots=True)
class _Slot:
    """One event loop's storage: its pool belongs to that loop, so no other loop may use or close it."""

    storage: Storage | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # of many that ask at once, one opens it


_slots: dict[asyncio.AbstractEventLoop, _Slot] = {}
_overrides: list[Storage] = []  # of use_storage, the innermost last


def _slot() -> _Slot:
    loop = asyncio.get_running_loop()
    if loop not in _slots:
        for closed in [other for other in list(_slots) if other.is_closed()]:
            _slots.pop(closed, None)
        _slots[loop] = _Slot()
    return _slots[loop]


async def get_storage() -> Storage:
    """The storage that STORAGE__POSTGRES_URL names, opened once per event loop.

    Raises StorageNotConfiguredError (a RuntimeError) when nothing is named and StorageUnavailableError
    (a ConnectionError) when it does not answer.
    """
    if _overrides:
        return _overrides[-1]
    slot = _slot()
    if slot.storage is not None:
        return slot.storage
    async with slot.lock:
        if slot.storage is None:
            slot.storage = await _open()
        return slot.storage


async def _open() -> Storage:
    url = app_settings.storage.postgres_url
    if url is None or not url.get_secret_value():
        raise StorageNotConfiguredError
    from bindu.dspy.postgres.storage import PostgresStorage  # noqa: PLC0415 - the driver loads on first use

    return await PostgresStorage.connect(url.get_secret_value(), app_settings.storage)


def agent_named(agent_id: object) -> str:
    """The agent that a caller named, else DSPY__AGENT_ID. Raises InvalidArgumentError for what cannot be an id."""
    return agent_or_default(None if agent_id is None else checked_id(agent_id, "agent_id"))


async def serving_or_raise(agent_id: str) -> Serving:
    """Who is live for an agent. Raises NoActivePromptError before bootstrap."""
    serving = await (await get_storage()).serving(agent_id)
    if serving is None:
        raise NoActivePromptError(agent_id)
    return serving


async def close_storage() -> None:
    """Close what ``get_storage`` opened in this event loop; before the loop ends, its pool must."""
    slot = _slot()
    async with slot.lock:
        storage, slot.storage = slot.storage, None
    if storage is not None:
        await storage.close()


@contextmanager
def use_storage(storage: Storage) -> Iterator[Storage]:
    """Let every service use this storage inside the block; for tests and for embedding."""
    _overrides.append(storage)
    try:
        yield storage
    finally:
        _overrides.remove(storage)
