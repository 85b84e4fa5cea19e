"""What the dataset reads: the newest tasks that pass, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from asyncpg import Record

from bindu.dspy.models import FAILED_BELOW, RawTask, TaskQuery
from bindu.dspy.postgres.database import Connection, Database, rows
from bindu.dspy.postgres.rows import to_raw_task

__all__ = ["ReadingVerbs"]

_AFTER_ALL = UUID(int=2**128 - 1)
_EARLIER_PAGE = 25  # each with up to 50 conversations


class ReadingVerbs(Database):
    async def read_tasks(self, query: TaskQuery) -> AsyncIterator[RawTask]:
        before, left = _AFTER_ALL, query.limit
        size = min(query.batch_size, _EARLIER_PAGE) if query.with_earlier else query.batch_size
        while left > 0:
            page = await self._page(query, before, min(size, left))
            earlier = await self._earlier(query, [(task["id"], task["context_id"]) for task in page])
            for task in page:
                yield to_raw_task(task, earlier.get(task["id"]))
            if len(page) < min(size, left):
                return
            before, left = page[-1]["id"], left - len(page)

    async def _page(self, query: TaskQuery, before: UUID, limit: int) -> list[Record]:
        async def work(connection: Connection) -> list[Record]:
            # Walk the index even where statistics are missing, as after an import: sorting every page is quadratic
            await connection.execute("SET LOCAL enable_sort = off")
            return await rows(
                connection,
                "read_tasks",
                agent_id=query.agent_id,
                before=before,
                require_feedback=query.require_feedback,
                min_score=query.min_score,
                failed_below=FAILED_BELOW,
                limit=limit,
            )

        return await self._transact(work)

    async def _earlier(self, query: TaskQuery, page: list[tuple[UUID, str | None]]) -> dict[UUID, str]:
        talks = [(task_id, context_id) for task_id, context_id in page if context_id is not None]
        if not query.with_earlier or not talks:
            return {}
        found = await self._rows(
            "read_earlier",
            agent_id=query.agent_id,
            task_ids=[task_id for task_id, _ in talks],
            context_ids=[context_id for _, context_id in talks],
        )
        return {task["id"]: task["earlier"] for task in found}

    async def count_tasks(self, query: TaskQuery) -> dict[str, int]:
        found = await self._row(
            "count_tasks",
            agent_id=query.agent_id,
            require_feedback=query.require_feedback,
            min_score=query.min_score,
            failed_below=FAILED_BELOW,
        )
        counts: dict[str, int] = dict(found or {})
        passing = counts["tasks"] - sum(count for reason, count in counts.items() if reason != "tasks")
        counts["over_limit"] = max(0, passing - query.limit)
        return counts
