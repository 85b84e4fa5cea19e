"""Who may call the server: keys by their digest, and what tokens are signed with."""

from __future__ import annotations

from datetime import datetime
from typing import cast
from uuid import UUID

from asyncpg import Record

from bindu.dspy.arguments import is_storable
from bindu.dspy.housekeeping import ApiKey, AuditNote
from bindu.dspy.postgres.audit import add_audit
from bindu.dspy.postgres.database import Connection, Database, one, row

__all__ = ["AccessVerbs"]


class AccessVerbs(Database):
    async def add_key(
        self, key: ApiKey, digest: bytes, *, actor: str, reason: str, now: datetime | None = None
    ) -> ApiKey:
        async def work(connection: Connection) -> ApiKey:
            stored = await one(
                connection,
                "add_key",
                agent_id=key.agent_id,
                id=key.id,
                name=key.name,
                digest=digest,
                scopes=list(key.scopes),
                expires_at=key.expires_at,
                now=now,
            )
            await add_audit(connection, _note("add_key", _to_key(stored), actor, reason), now)
            return _to_key(stored)

        return await self._transact(work)

    async def find_key(self, digest: bytes) -> ApiKey | None:
        found = await self._row("find_key", digest=digest)
        return None if found is None else _to_key(found)

    async def keys(self, agent_id: str) -> list[ApiKey]:
        return [_to_key(found) for found in await self._rows("keys", agent_id=agent_id)]

    async def revoke_key(
        self, agent_id: str, key_id: UUID, *, actor: str, reason: str, now: datetime | None = None
    ) -> ApiKey | None:
        async def work(connection: Connection) -> ApiKey | None:
            before = await row(connection, "key", agent_id=agent_id, id=key_id)
            if before is None or before["revoked_at"] is not None:
                return None if before is None else _to_key(before)
            revoked = _to_key(await one(connection, "revoke_key", agent_id=agent_id, id=key_id, now=now))
            await add_audit(connection, _note("revoke_key", revoked, actor, reason), now)
            return revoked

        return await self._transact(work)

    async def signing_secret(self, agent_id: str, proposed: bytes | None = None) -> bytes | None:
        if not is_storable(agent_id):
            return None
        if proposed is not None:
            await self._rows("propose_secret", agent_id=agent_id, secret=proposed)
        return cast("bytes | None", await self._value("signing_secret", agent_id=agent_id))


def _to_key(row: Record) -> ApiKey:
    return ApiKey(**{**row, "scopes": tuple(row["scopes"])})


def _note(action: str, key: ApiKey, actor: str, reason: str) -> AuditNote:
    details = {"name": key.name, "scopes": key.scopes, "expires_at": key.expires_at}
    return AuditNote(
        agent_id=key.agent_id, action=action, subject=f"key {key.id}", actor=actor, reason=reason, details=details
    )
