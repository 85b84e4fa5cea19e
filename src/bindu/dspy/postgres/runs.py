"""Training runs: saved while they run, never changed after they ended, and what became of those that opened a trial."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record

from bindu.dspy.arguments import check_limit
from bindu.dspy.housekeeping import AuditNote
from bindu.dspy.models import PredictedEffect, TrainingRun
from bindu.dspy.postgres.audit import add_audit
from bindu.dspy.postgres.database import Connection, Database, row, rows
from bindu.dspy.postgres.rows import clean, to_json, to_run

__all__ = ["RunVerbs"]

_DIGITS: Final = 32  # hexadecimal ones of an id
_BEGINNING: Final = re.compile(rf"[0-9a-f]{{1,{_DIGITS}}}")


class RunVerbs(Database):
    async def save_run(self, run: TrainingRun, *, now: datetime | None = None) -> TrainingRun:
        saved = await self._row(
            "save_run",
            agent_id=run.agent_id,
            id=run.id,
            optimizer=run.optimizer,
            strategy=run.strategy,
            seed=run.seed,
            state=run.state,
            outcome=run.outcome,
            reason=None if run.reason is None else clean(run.reason),
            step=None if run.step is None else clean(run.step),
            calls=run.calls,
            cost=run.cost,
            candidate_id=run.candidate_id,
            experiment_id=run.experiment_id,
            resumes=run.resumes,
            details=to_json(run.details),
            started_at=run.started_at,
            ended_at=run.ended_at,
            now=now,
        )
        return to_run(saved) if saved is not None else await self._ended(run.agent_id, run.id)

    async def run(self, agent_id: str, run_id: UUID) -> TrainingRun | None:
        found = await self._row("runs_between", agent_id=agent_id, first_id=run_id, last_id=run_id, limit=1)
        return None if found is None else to_run(found)

    async def runs(self, agent_id: str, *, limit: int = 100) -> list[TrainingRun]:
        check_limit(limit)
        return [to_run(found) for found in await self._rows("runs", agent_id=agent_id, limit=limit)]

    async def find_runs(self, agent_id: str, beginning: str, *, limit: int) -> list[TrainingRun]:
        check_limit(limit)
        digits = beginning.replace("-", "").lower()
        if not _BEGINNING.fullmatch(digits):
            return []
        first, last = (UUID(digits.ljust(_DIGITS, end)) for end in "0f")
        found = await self._rows("runs_between", agent_id=agent_id, first_id=first, last_id=last, limit=limit)
        return [to_run(run) for run in found]

    async def cancel_run(
        self, agent_id: str, run_id: UUID, reason: str, *, actor: str = "person", now: datetime | None = None
    ) -> TrainingRun | None:
        async def work(connection: Connection) -> Record | None:
            asked = await row(connection, "cancel_run", agent_id=agent_id, run_id=run_id, reason=clean(reason))
            if asked is not None:
                note = AuditNote(
                    agent_id=agent_id, action="cancel", subject=f"run {run_id}", actor=actor, reason=reason
                )
                await add_audit(connection, note, now)
            return asked

        asked = await self._transact(work)
        return to_run(asked) if asked is not None else await self.run(agent_id, run_id)

    async def end_lost_runs(
        self,
        agent_id: str,
        *,
        silent_for: timedelta,
        reason: str,
        run_id: UUID | None = None,
        now: datetime | None = None,
    ) -> int:
        ended = await self._rows(
            "end_lost_runs", agent_id=agent_id, silent_for=silent_for, reason=clean(reason), run_id=run_id, now=now
        )
        return len(ended)

    async def spent_conversations(self, agent_id: str) -> set[str]:
        return {found["name"] for found in await self._rows("spent_conversations", agent_id=agent_id)}

    async def gate_record(self, agent_id: str, *, limit: int) -> list[PredictedEffect]:
        check_limit(limit)

        async def work(connection: Connection) -> list[Record]:
            # Walk the indexes even where statistics are missing: a sort would read all there ever was
            await connection.execute("SET LOCAL enable_sort = off")
            return await rows(connection, "gate_record", agent_id=agent_id, limit=limit)

        return [PredictedEffect(**one) for one in await self._look(work)]

    async def _ended(self, agent_id: str, run_id: UUID) -> TrainingRun:
        """An ended run as it stays."""
        found = await self.run(agent_id, run_id)
        if found is None:
            raise LookupError(f"run {run_id} of agent {agent_id!r} was deleted while it was saved")
        return found
