"""Monthly partitions appear by themselves, made by whoever stores the first task of a month."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from bindu.dspy.postgres.database import Connection, has_table

__all__ = ["Month", "create_month", "first_id", "months_of"]

Month = tuple[int, int]
_TABLES = ("tasks", "task_feedback")  # the first is referenced by the second
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('bindu_dspy.partitions', 0))"
_UUID7 = 7
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_YEAR = 9998


def months_of(ids: Iterable[UUID]) -> set[Month]:
    """The months of version 7 ids. Raises ValueError for an id of another version, whose month is chance."""
    months = set()
    for task_id in ids:
        if task_id.version != _UUID7:
            raise ValueError(f"Task id {task_id} is not a UUID version 7; give it as external_id instead.")
        made = datetime.fromtimestamp((task_id.int >> 80) / 1000, UTC)
        if made.year > _LAST_YEAR:
            raise ValueError(f"Task id {task_id} is of the year {made.year}; a UUID version 7 starts with its time.")
        months.add((made.year, made.month))
    return months


def first_id(at: datetime) -> UUID:
    """What no id made at that time, to the millisecond, or later is below."""
    return UUID(int=max(0, (at - _EPOCH) // timedelta(milliseconds=1)) << 80)


async def create_month(connection: Connection, month: Month) -> None:
    """Make a month's partitions unless they exist; inside a transaction of its own.

    They are made apart and then attached: that locks out no reader or writer of other months for long. One at a
    time, so that eight processes on the first of a month cannot deadlock.
    """
    year, number = month
    following = (year + number // 12, number % 12 + 1)
    start, end = (first_id(datetime(*first, 1, tzinfo=UTC)) for first in (month, following))
    names = {table: f"{table}_{year:04}_{number:02}" for table in _TABLES}
    await connection.execute(_LOCK)
    if await has_table(connection, names["task_feedback"]):
        return
    for table, name in names.items():
        parent = f"bindu_dspy.{table}"
        await connection.execute(
            f"CREATE TABLE bindu_dspy.{name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS);"
            f"ALTER TABLE {parent} ATTACH PARTITION bindu_dspy.{name}"
            f" FOR VALUES FROM ('{start}') TO ('{end}')"
        )
