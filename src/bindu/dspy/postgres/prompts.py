"""Prompts and who serves: the verbs that read them, and those that store a text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from bindu.dspy.errors import InvalidPromptError, UnknownPromptError
from bindu.dspy.housekeeping import AuditNote
from bindu.dspy.models import Prompt, PromptMetrics, PromptStatus, Serving
from bindu.dspy.postgres.audit import add_audit
from bindu.dspy.postgres.database import Connection, Database, is_number, one, row, rows
from bindu.dspy.postgres.notices import announce
from bindu.dspy.postgres.rows import clean, to_json, to_metrics, to_prompt, to_serving
from bindu.dspy.promptcheck import normalize_prompt

__all__ = ["PromptVerbs", "insert_prompt"]


async def insert_prompt(
    connection: Connection,
    agent_id: str,
    text: str,
    *,
    origin: str,
    now: datetime | None,
    status: PromptStatus | None = None,
    parent_id: int | None = None,
    metadata: object = None,
) -> int:
    """Store a text under the agent's next number; the caller holds the serving row's lock, if there is one."""
    while True:
        inserted = await row(
            connection,
            "insert_prompt",
            agent_id=agent_id,
            text=text,
            status=status,
            parent_id=parent_id,
            origin=origin,
            metadata=to_json(metadata or {}),
            now=now,
        )
        if inserted is not None:  # else somebody took the number, before the agent's first serving row
            return cast("int", inserted["id"])


class PromptVerbs(Database):
    async def now(self) -> datetime:
        return cast("datetime", await self._value("now"))

    async def bootstrap(
        self, agent_id: str, text: str, *, actor: str = "application", now: datetime | None = None
    ) -> Prompt:
        serving = await self.serving(agent_id)
        if serving is not None:
            return serving.active
        normalize_prompt(text)

        async def work(connection: Connection) -> Prompt:
            while True:
                made = await row(connection, "bootstrap_prompt", agent_id=agent_id, text=text, now=now)
                if made is not None:
                    await rows(connection, "bootstrap_serving", agent_id=agent_id, active_id=made["id"])
                    await add_audit(connection, _first(agent_id, made["id"], actor), now)
                    await announce(connection, agent_id)
                found = to_serving(agent_id, await rows(connection, "serving", agent_id=agent_id))
                if found is not None:
                    return found.active

        return await self._transact(work)

    async def serving(self, agent_id: str) -> Serving | None:
        return to_serving(agent_id, await self._rows("serving", agent_id=agent_id))

    async def serving_versions(self, agent_ids: Sequence[str]) -> dict[str, int]:
        # One id that PostgreSQL cannot take must not spoil the poll of all others
        found = await self._rows("serving_versions", agent_ids=[clean(agent_id) for agent_id in agent_ids])
        return {serving["agent_id"]: serving["version"] for serving in found}

    async def prompt(self, agent_id: str, prompt_id: int) -> Prompt | None:
        if not is_number(prompt_id):
            return None
        found = await self._row("prompt", agent_id=agent_id, prompt_id=prompt_id)
        return None if found is None else to_prompt(agent_id, found)

    async def prompts(self, agent_id: str) -> list[Prompt]:
        return [to_prompt(agent_id, found) for found in await self._rows("prompts", agent_id=agent_id)]

    async def prompt_of_text(self, agent_id: str, digest: bytes) -> int | None:
        return cast("int | None", await self._value("prompt_of_text", agent_id=agent_id, digest=digest))

    async def owners_of_text(self, digest: bytes) -> list[str]:
        return [found["agent_id"] for found in await self._rows("owners_of_text", digest=digest)]

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
        normalize_prompt(text)
        _check_retired(status)

        async def work(connection: Connection) -> Prompt:
            await row(connection, "lock_serving", agent_id=agent_id)
            prompt_id = await insert_prompt(connection, agent_id, text, origin=origin, now=now, status=status)
            await add_audit(connection, _added(agent_id, prompt_id, status, actor), now)
            return to_prompt(agent_id, await one(connection, "prompt", agent_id=agent_id, prompt_id=prompt_id))

        return await self._transact(work)

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
        _check_retired(status)
        if not is_number(prompt_id):
            raise UnknownPromptError(agent_id, prompt_id)

        async def work(connection: Connection) -> None:
            serving = await row(connection, "lock_serving", agent_id=agent_id)
            if serving is not None and prompt_id in (serving["active_id"], serving["candidate_id"]):
                raise InvalidPromptError(
                    f"Prompt {prompt_id} of agent '{agent_id}' is live; its status changes by a rollout only."
                )
            if not await rows(connection, "set_prompt_status", agent_id=agent_id, prompt_id=prompt_id, status=status):
                raise UnknownPromptError(agent_id, prompt_id)
            note = AuditNote(
                agent_id=agent_id, action=status, subject=f"prompt {prompt_id}", actor=actor, reason=reason
            )
            await add_audit(connection, note, now)

        await self._transact(work)

    async def prompt_metrics(
        self, agent_id: str, prompt_ids: Sequence[int], *, now: datetime | None = None
    ) -> dict[int, PromptMetrics]:
        asked = list(dict.fromkeys(prompt_ids))
        found = await self._rows("prompt_metrics", agent_id=agent_id, prompt_ids=asked, now=now)
        return {metrics.prompt_id: metrics for metrics in map(to_metrics, found)}


def _first(agent_id: str, prompt_id: int, actor: str) -> AuditNote:
    return AuditNote(
        agent_id=agent_id,
        action="bootstrap",
        subject=f"prompt {prompt_id}",
        actor=actor,
        reason="The agent had no prompt.",
    )


def _added(agent_id: str, prompt_id: int, status: PromptStatus, actor: str) -> AuditNote:
    return AuditNote(
        agent_id=agent_id,
        action="add_prompt",
        subject=f"prompt {prompt_id}",
        actor=actor,
        reason="Stored without a trial.",
        details={"status": status},
    )


def _check_retired(status: PromptStatus) -> None:
    if status not in ("deprecated", "rolled_back"):
        raise InvalidPromptError(f"'{status}' is not the status of a retired prompt; deprecated and rolled_back are.")
