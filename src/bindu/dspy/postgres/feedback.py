"""Votes: a rater has one per task that counts, the latest; the earlier ones are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from asyncpg import Record

from bindu.dspy.arguments import checked_id, optional_id
from bindu.dspy.errors import UnknownTaskError
from bindu.dspy.models import Feedback, FeedbackKind, JsonObject, Remark
from bindu.dspy.postgres.database import Connection, Database, as_columns, rows
from bindu.dspy.postgres.rows import clean, from_json, to_json
from bindu.dspy.postgres.tasks import agent_of

__all__ = ["FeedbackVerbs"]


class _Given(NamedTuple):
    """The vote that counts for a rater on a task."""

    id: UUID
    created_at: datetime
    kind: FeedbackKind
    score: float
    data: JsonObject


class FeedbackVerbs(Database):
    async def add_feedback(self, votes: Sequence[Feedback | Remark]) -> list[UUID]:
        if not votes:
            return []
        agent_id = agent_of([vote.agent_id for vote in votes])
        for vote in votes:
            checked_id(vote.rater_id, "rater_id")
            optional_id(vote.idempotency_key, "idempotency_key")

        async def work(connection: Connection) -> list[UUID]:
            task_ids = list({vote.task_id for vote in votes})
            locked = await rows(connection, "lock_tasks", agent_id=agent_id, task_ids=task_ids)
            tasks = {task["id"]: task for task in locked}
            for vote in votes:
                if vote.task_id not in tasks:
                    raise UnknownTaskError(agent_id, vote.task_id)
            known = {
                "ids": [vote.id for vote in votes],
                "keys": [vote.idempotency_key for vote in votes if vote.idempotency_key is not None],
            }
            earlier = await rows(connection, "votes_of_tasks", agent_id=agent_id, task_ids=task_ids, **known)
            ledger = _Ledger(earlier, tasks)
            ids = [ledger.add(vote) for vote in votes]
            await ledger.write(connection, agent_id)
            return ids

        return await self._transact(work)


class _Ledger:
    """The votes of some locked tasks, to which a batch is added in order."""

    def __init__(self, stored: Sequence[Record], tasks: dict[UUID, Record]) -> None:
        self._tasks = tasks
        self._by_id = {(vote["task_id"], vote["id"]) for vote in stored}
        self._by_key: dict[tuple[UUID, str], UUID] = {
            (vote["task_id"], vote["idempotency_key"]): vote["id"]
            for vote in stored
            if vote["idempotency_key"] is not None
        }
        self._current = {
            (vote["task_id"], vote["rater_id"]): _Given(
                vote["id"], vote["created_at"], vote["kind"], vote["score"], from_json(vote["data"])
            )
            for vote in stored
            if vote["current"]
        }
        self._new: dict[tuple[UUID, UUID], tuple[Feedback, datetime]] = {}
        self._remarks: list[Remark] = []
        self._superseded: dict[tuple[UUID, UUID], UUID] = {}

    def add(self, vote: Feedback | Remark) -> UUID:
        """Take a vote in and return its id, or the id of the vote that it repeats."""
        key = None if vote.idempotency_key is None else (vote.task_id, vote.idempotency_key)
        if key is not None and key in self._by_key:
            return self._by_key[key]
        place = (vote.task_id, vote.id)
        if place in self._by_id:
            return vote.id
        self._by_id.add(place)
        if key is not None:
            self._by_key[key] = vote.id
        created_at: datetime = vote.created_at or self._tasks[vote.task_id]["now"]
        if isinstance(vote, Remark):
            given = self._current.get((vote.task_id, vote.rater_id))
            if given is None:
                self._remarks.append(replace(vote, created_at=created_at))
                return vote.id
            vote = _with_remark(given, vote)
        self._new[place] = (vote, created_at)
        self._supersede(vote, _Given(vote.id, created_at, vote.kind, vote.score, vote.data))
        return vote.id

    def _supersede(self, vote: Feedback, new: _Given) -> None:
        rater = (vote.task_id, vote.rater_id)
        current = self._current.get(rater)
        if current is not None and new.created_at < current.created_at:  # it arrived late
            self._superseded[vote.task_id, new.id] = current.id
            return
        if current is not None:
            self._superseded[vote.task_id, current.id] = new.id
        self._current[rater] = new

    async def write(self, connection: Connection, agent_id: str) -> None:
        """First make room among the stored votes, then insert: the index allows one current vote per rater."""
        old = [(*place, by) for place, by in self._superseded.items() if place not in self._new]
        if old:
            columns = as_columns(("task_ids", "ids", "superseded_bys"), old)
            await rows(connection, "supersede_votes", agent_id=agent_id, **columns)
        if self._remarks:
            await rows(connection, "insert_remarks", agent_id=agent_id, **_remark_columns(self._remarks))
        if self._new:
            await rows(connection, "insert_votes", agent_id=agent_id, **self._columns())
        rated = self._rated()
        if rated:
            columns = as_columns(("experiment_ids", "unit_ids", "rated_ats", "rater_ids"), rated)
            await rows(connection, "rate_units", agent_id=agent_id, **columns)

    def _rated(self) -> list[tuple[int, str, datetime, str]]:
        """Of each unit of an experiment the earliest new vote."""
        first: dict[tuple[int, str], tuple[datetime, str]] = {}
        for vote, created_at in self._new.values():
            task = self._tasks[vote.task_id]
            if task["experiment_id"] is None:
                continue
            unit = (task["experiment_id"], task["unit_id"])
            if unit not in first or created_at < first[unit][0]:
                first[unit] = (created_at, vote.rater_id)
        return [(*unit, *vote) for unit, vote in first.items()]

    def _columns(self) -> dict[str, list[Any]]:
        new = [(vote, created_at, self._tasks[vote.task_id]) for vote, created_at in self._new.values()]
        return {
            "task_ids": [vote.task_id for vote, _, _ in new],
            "ids": [vote.id for vote, _, _ in new],
            "prompt_ids": [task["prompt_id"] for _, _, task in new],
            "experiment_ids": [task["experiment_id"] for _, _, task in new],
            "unit_ids": [task["unit_id"] for _, _, task in new],
            "rater_ids": [vote.rater_id for vote, _, _ in new],
            "kinds": [vote.kind for vote, _, _ in new],
            "scores": [vote.score for vote, _, _ in new],
            "datas": [to_json(vote.data) for vote, _, _ in new],
            "comments": [None if vote.comment is None else clean(vote.comment) for vote, _, _ in new],
            "idempotency_keys": [vote.idempotency_key for vote, _, _ in new],
            "superseded_bys": [self._superseded.get(place) for place in self._new],
            "created_ats": [created_at for _, created_at, _ in new],
        }


def _with_remark(given: _Given, remark: Remark) -> Feedback:
    """The rater's vote once more, with what they say now."""
    said = {"comment": remark.comment, "correction": remark.correction}
    data = given.data | {name: text for name, text in said.items() if text is not None}
    return Feedback(
        agent_id=remark.agent_id,
        task_id=remark.task_id,
        id=remark.id,
        kind=given.kind,
        score=given.score,
        rater_id=remark.rater_id,
        data=data,
        comment=data.get("comment"),
        idempotency_key=remark.idempotency_key,
        created_at=remark.created_at,
    )


def _remark_columns(remarks: Sequence[Remark]) -> dict[str, list[Any]]:
    return {
        "task_ids": [remark.task_id for remark in remarks],
        "ids": [remark.id for remark in remarks],
        "rater_ids": [remark.rater_id for remark in remarks],
        "comments": [None if remark.comment is None else clean(remark.comment) for remark in remarks],
        "corrections": [None if remark.correction is None else clean(remark.correction) for remark in remarks],
        "idempotency_keys": [remark.idempotency_key for remark in remarks],
        "created_ats": [remark.created_at for remark in remarks],
    }
