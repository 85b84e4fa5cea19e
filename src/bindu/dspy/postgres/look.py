"""One look at a server, before anything is opened or changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

import asyncpg

from bindu.dspy.postgres.database import check_url, driver_url, translated, where
from bindu.dspy.postgres.migrate import SchemaReport, check

__all__ = ["ServerReport", "look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """What a database says of itself."""

    place: str  # host and database, without user and password
    version: str
    number: int  # of the major version
    milliseconds: float  # of one answer
    ahead: float  # seconds that its clock is ahead of ours
    replica: bool  # it takes no writes
    schema: SchemaReport


async def look(url: str, *, patience: float) -> ServerReport:
    """Log in, ask, and change nothing; ``patience`` is in seconds, for the login and for each answer.

    Raises StorageUnavailableError, and SchemaError for an edited migration.
    """
    check_url(url)
    with translated(where(url)):
        connection = await asyncpg.connect(
            driver_url(url), timeout=patience, command_timeout=patience, statement_cache_size=0
        )
        try:
            schema = await check(connection)
            ours, began = datetime.now(UTC), monotonic()
            theirs = await connection.fetchval("SELECT clock_timestamp()")
            took = monotonic() - began
            replica = await connection.fetchval("SELECT pg_is_in_recovery()")
            version = connection.get_server_version()
        finally:
            await connection.close(timeout=patience)
    return ServerReport(
        place=where(url),
        version=f"{version.major}.{version.minor}",
        number=version.major,
        milliseconds=1_000 * took,
        ahead=(theirs - ours).total_seconds() - took / 2,
        replica=replica,
        schema=schema,
    )
