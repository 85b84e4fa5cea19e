"""The trail of what people did: each row is written with what it tells of, and follows from the row before."""

from __future__ import annotations

from datetime import datetime

from asyncpg import Record

from bindu.dspy.arguments import check_limit
from bindu.dspy.housekeeping import AuditEntry, AuditNote, AuditTrail
from bindu.dspy.postgres.database import Connection, Database, is_number, one, row, rows
from bindu.dspy.postgres.rows import clean, from_json, to_json

__all__ = ["AuditVerbs", "add_audit"]


async def add_audit(connection: Connection, note: AuditNote, now: datetime | None) -> None:
    """Put a note into its agent's trail, inside the transaction that does what it tells."""
    await rows(connection, "lock_audit", agent_id=note.agent_id)
    await rows(
        connection,
        "add_audit",
        agent_id=note.agent_id,
        action=note.action,
        subject=clean(note.subject),
        actor=clean(note.actor),
        reason=clean(note.reason),
        details=to_json(note.details),
        now=now,
    )


class AuditVerbs(Database):
    async def audit(self, agent_id: str, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        check_limit(limit)
        if before is not None and not is_number(before):
            return []
        return [_to_entry(found) for found in await self._rows("audit", agent_id=agent_id, before=before, limit=limit)]

    async def audit_entry(self, agent_id: str, number: int) -> AuditEntry | None:
        if not is_number(number):
            return None
        found = await self._row("audit_entry", agent_id=agent_id, id=number)
        return None if found is None else _to_entry(found)

    async def audit_trail(self, agent_id: str) -> AuditTrail:
        async def work(connection: Connection) -> AuditTrail:
            trail = await one(connection, "audit_trail", agent_id=agent_id)
            last = await row(connection, "audit_entry", agent_id=agent_id, id=trail["last_id"])
            return AuditTrail(agent_id=agent_id, digest=None if last is None else last["digest"], **trail)

        return await self._look(work)


def _to_entry(found: Record) -> AuditEntry:
    return AuditEntry(**{**found, "details": from_json(found["details"])})
