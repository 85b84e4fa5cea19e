"""Tasks: many in one statement, once each, in the partition of their month."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast
from uuid import UUID

import asyncpg

from bindu.dspy.arguments import as_uuid, checked_id, is_storable, optional_id
from bindu.dspy.errors import BinduError, UnknownPromptError
from bindu.dspy.guardrails import cost_of, is_refused
from bindu.dspy.models import Task
from bindu.dspy.postgres.database import Connection, Database, is_number, rows
from bindu.dspy.postgres.partitions import Month, create_month, months_of
from bindu.dspy.postgres.rows import to_json

__all__ = ["TaskVerbs", "agent_of"]


def agent_of(agent_ids: Sequence[str]) -> str:
    """The one agent of a batch. Raises ValueError for a mixed one: every statement names one agent."""
    first, *others = dict.fromkeys(agent_ids)
    if others:
        raise ValueError(f"A batch belongs to one agent, this one to '{first}' and '{others[0]}'. Send one each.")
    return first


class TaskVerbs(Database):
    _months: set[Month]  # those that this process has seen to exist

    async def add_tasks(self, tasks: Sequence[Task]) -> list[UUID]:
        if not tasks:
            return []
        agent_id = agent_of([task.agent_id for task in tasks])
        for task in tasks:
            if not is_number(task.prompt_id):
                raise UnknownPromptError(agent_id, task.prompt_id)
        months = months_of(task.id for task in tasks)
        try:
            return await self._store_tasks(agent_id, tasks, months)
        except BinduError as error:
            if isinstance(error.__cause__, asyncpg.ForeignKeyViolationError):
                raise await self._unknown_reference(agent_id, tasks) from error
            if not isinstance(error.__cause__, asyncpg.CheckViolationError):
                raise
        self._months -= months  # somebody may have dropped one since we saw it
        return await self._store_tasks(agent_id, tasks, months)

    async def find_task(self, agent_id: str, task_id: UUID | str) -> UUID | None:
        return (await self.find_tasks(agent_id, [str(task_id)])).get(str(task_id))

    async def find_tasks(self, agent_id: str, task_ids: Sequence[str]) -> dict[str, UUID]:
        asked = list({task_id for task_id in task_ids if is_storable(task_id)})
        if not asked:
            return {}
        own = [as_uuid(task_id) for task_id in asked]
        found = await self._rows("find_tasks", agent_id=agent_id, external_ids=asked, task_ids=own)
        return {task["external_id"]: task["task_id"] for task in found}

    async def latest_task(self, agent_id: str, context_id: str) -> UUID | None:
        if not is_storable(context_id):
            return None
        return cast("UUID | None", await self._value("latest_task", agent_id=agent_id, context_id=context_id))

    async def _store_tasks(self, agent_id: str, tasks: Sequence[Task], months: set[Month]) -> list[UUID]:
        for month in sorted(months - self._months):
            await self._transact(partial(create_month, month=month))
            self._months.add(month)
        return await self._transact(partial(_store, agent_id=agent_id, tasks=tasks))

    async def _unknown_reference(self, agent_id: str, tasks: Sequence[Task]) -> BinduError:
        prompt_ids = list({task.prompt_id for task in tasks})
        unknown = await self._rows("unknown_prompts", agent_id=agent_id, prompt_ids=prompt_ids)
        if unknown:
            return UnknownPromptError(agent_id, unknown[0]["id"])
        return BinduError(f"A task names an experiment that agent '{agent_id}' never had; nothing was stored.")


async def _store(connection: Connection, agent_id: str, tasks: Sequence[Task]) -> list[UUID]:
    known = await _claim_keys(connection, agent_id, tasks)
    ids = [known.get(task.external_id, task.id) if task.external_id else task.id for task in tasks]
    new = [task for task, task_id in zip(tasks, ids, strict=True) if task.id == task_id]
    if new:
        await rows(connection, "insert_tasks", agent_id=agent_id, **_columns(new))
    return ids


async def _claim_keys(connection: Connection, agent_id: str, tasks: Sequence[Task]) -> dict[str, UUID]:
    """Which task each external id belongs to, after claiming those that nobody had."""
    claims = {checked_id(task.external_id, "external_id"): task.id for task in reversed(tasks) if task.external_id}
    if not claims:
        return {}
    await rows(
        connection,
        "claim_task_keys",
        agent_id=agent_id,
        external_ids=list(claims),
        task_ids=list(claims.values()),
    )
    found = await rows(connection, "task_keys", agent_id=agent_id, external_ids=list(claims))
    return {key["external_id"]: key["task_id"] for key in found}


def _columns(tasks: Sequence[Task]) -> dict[str, list[object]]:
    contexts = [optional_id(task.context_id, "context_id") for task in tasks]
    return {
        "ids": [task.id for task in tasks],
        "prompt_ids": [task.prompt_id for task in tasks],
        "experiment_ids": [task.experiment_id for task in tasks],
        "epochs": [None if task.experiment_id is None else task.epoch for task in tasks],
        "unit_ids": [
            optional_id(task.unit_id, "unit_id") or context or str(task.id)
            for task, context in zip(tasks, contexts, strict=True)
        ],
        "context_ids": list(contexts),
        "states": [task.state for task in tasks],
        "histories": [to_json(task.history) for task in tasks],
        "usages": [None if task.usage is None else to_json(task.usage) for task in tasks],
        "latencies": [task.latency_ms for task in tasks],
        "created_ats": [task.created_at for task in tasks],
        "refused": [is_refused(task) for task in tasks],
        "costs": [cost_of(task.usage) for task in tasks],
    }
