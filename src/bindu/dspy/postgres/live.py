"""What people look at while it happens: the newest votes, and whether anything has changed."""

from __future__ import annotations

from uuid import UUID

from bindu.dspy.arguments import check_limit
from bindu.dspy.postgres.database import Database
from bindu.dspy.postgres.rows import from_json
from bindu.dspy.reports import LatestVote, Pulse, StoredTask

__all__ = ["LiveVerbs"]


class LiveVerbs(Database):
    async def task(self, agent_id: str, task_id: UUID) -> StoredTask | None:
        found = await self._row("task", agent_id=agent_id, task_id=task_id)
        return None if found is None else StoredTask(**{**found, "history": from_json(found["history"])})

    async def latest_votes(
        self, agent_id: str, *, before: UUID | None = None, limit: int = 100, longest: int = 500
    ) -> list[LatestVote]:
        check_limit(limit)
        asked = {"before": before, "limit": limit, "longest": longest}
        return [LatestVote(**found) for found in await self._rows("latest_votes", agent_id=agent_id, **asked)]

    async def pulse(self, agent_id: str) -> Pulse | None:
        found = await self._row("pulse", agent_id=agent_id)
        return None if found is None else Pulse(**found)
