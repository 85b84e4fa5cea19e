"""Training runs: saved while they run, never changed after they ended."""

from __future__ import annotations

from datetime import datetime

from bindu.dspy.arguments import check_limit
from bindu.dspy.models import TrainingRun
from bindu.dspy.postgres.database import Connection, Database, one, rows
from bindu.dspy.postgres.rows import clean, to_json, to_run

__all__ = ["RunVerbs"]


class RunVerbs(Database):
    async def save_run(self, run: TrainingRun, *, now: datetime | None = None) -> TrainingRun:
        async def work(connection: Connection) -> TrainingRun:
            await rows(
                connection,
                "save_run",
                agent_id=run.agent_id,
                id=run.id,
                optimizer=run.optimizer,
                strategy=run.strategy,
                seed=run.seed,
                state=run.state,
                outcome=run.outcome,
                reason=None if run.reason is None else clean(run.reason),
                calls=run.calls,
                candidate_id=run.candidate_id,
                experiment_id=run.experiment_id,
                details=to_json(run.details),
                started_at=run.started_at,
                ended_at=run.ended_at,
                now=now,
            )
            return to_run(await one(connection, "run", agent_id=run.agent_id, run_id=run.id))

        return await self._transact(work)

    async def runs(self, agent_id: str, *, limit: int = 100) -> list[TrainingRun]:
        check_limit(limit)
        return [to_run(found) for found in await self._rows("runs", agent_id=agent_id, limit=limit)]

    async def spent_conversations(self, agent_id: str) -> set[str]:
        return {found["name"] for found in await self._rows("spent_conversations", agent_id=agent_id)}
