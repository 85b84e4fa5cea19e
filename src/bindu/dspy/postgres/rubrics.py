"""Rubrics: numbered per agent, never changed; the newest word of a person says whether theirs is kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from bindu.dspy.arguments import check_limit
from bindu.dspy.errors import UnknownPromptError, UnknownRunError
from bindu.dspy.housekeeping import AuditNote
from bindu.dspy.models import MACHINES
from bindu.dspy.postgres.audit import add_audit
from bindu.dspy.postgres.database import Connection, Database, is_number, row
from bindu.dspy.postgres.rows import clean, to_json, to_rubric
from bindu.dspy.rubric import RubricOrigin, RubricRule, StoredRubric, rules_as_json

__all__ = ["RubricVerbs"]


class RubricVerbs(Database):
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
        given = {
            "origin": origin,
            "rules": to_json(rules_as_json(rules)),
            "prompt_id": prompt_id,
            "run_id": run_id,
            "actor": clean(actor),
            "reason": clean(reason),
        }

        async def work(connection: Connection) -> StoredRubric:
            await _check_references(connection, agent_id, prompt_id, run_id)
            while True:
                stored = await row(connection, "insert_rubric", agent_id=agent_id, now=now, **given)
                if stored is not None:  # else somebody took the number
                    if actor not in MACHINES:
                        await add_audit(connection, _note(to_rubric(stored)), now)
                    return to_rubric(stored)

        return await self._transact(work)

    async def rubrics(
        self, agent_id: str, *, limit: int = 100, origin: RubricOrigin | None = None
    ) -> list[StoredRubric]:
        check_limit(limit)
        found = await self._rows("rubrics", agent_id=agent_id, limit=limit, origin=origin)
        return [to_rubric(rubric) for rubric in found]

    async def standing_rubric(self, agent_id: str) -> StoredRubric | None:
        found = await self._row("standing_rubric", agent_id=agent_id)
        return None if found is None else to_rubric(found)


def _note(stored: StoredRubric) -> AuditNote:
    return AuditNote(
        agent_id=stored.agent_id,
        action=stored.origin,
        subject=f"rubric {stored.id}",
        actor=stored.actor,
        reason=stored.reason,
    )


async def _check_references(connection: Connection, agent_id: str, prompt_id: int | None, run_id: UUID | None) -> None:
    if prompt_id is not None:
        prompt = {"agent_id": agent_id, "prompt_id": prompt_id}
        if not is_number(prompt_id) or await row(connection, "prompt", **prompt) is None:
            raise UnknownPromptError(agent_id, prompt_id)
    if run_id is not None:
        run = {"agent_id": agent_id, "first_id": run_id, "last_id": run_id, "limit": 1}
        if await row(connection, "runs_between", **run) is None:
            raise UnknownRunError(agent_id, run_id)
