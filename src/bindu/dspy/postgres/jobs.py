"""Jobs: of all that want to run one, the holder of its lease does; its fence tells it from every other holder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from bindu.dspy.housekeeping import Job
from bindu.dspy.postgres.database import Database
from bindu.dspy.postgres.rows import clean

__all__ = ["JobVerbs"]


class JobVerbs(Database):
    async def agent_ids(self, among: Sequence[str] | None = None) -> list[str]:
        found = await self._rows("agent_ids", agent_ids=None if among is None else list(among))
        return [row["agent_id"] for row in found]

    async def jobs(self, agent_id: str) -> list[Job]:
        return [Job(**found) for found in await self._rows("jobs", agent_id=agent_id)]

    async def enroll_job(self, agent_id: str, name: str, *, slot: datetime) -> bool:
        return await self._row("enroll_job", agent_id=agent_id, name=name, slot=slot) is not None

    async def claim_job(
        self,
        agent_id: str,
        name: str,
        holder: str,
        *,
        slot: datetime,
        lease: timedelta,
        now: datetime | None = None,
    ) -> Job | None:
        found = await self._row(
            "claim_job", agent_id=agent_id, name=name, holder=holder, slot=slot, lease=lease, now=now
        )
        return None if found is None else Job(**found)

    async def renew_job(self, job: Job, *, lease: timedelta, now: datetime | None = None) -> bool:
        return await self._row("renew_job", lease=lease, now=now, **_key(job)) is not None

    async def finish_job(self, job: Job, outcome: str, *, slot: datetime | None) -> bool:
        return await self._row("finish_job", slot=slot, outcome=clean(outcome), **_key(job)) is not None


def _key(job: Job) -> dict[str, str | int | None]:
    return {"agent_id": job.agent_id, "name": job.name, "holder": job.holder, "fence": job.fence}
