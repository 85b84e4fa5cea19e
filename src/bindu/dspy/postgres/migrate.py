"""Numbered SQL files become the schema: in order, each in one transaction, each once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import asyncpg

from bindu.dspy.errors import SchemaError
from bindu.dspy.postgres.database import Connection, check_url, driver_url, has_table, is_away, translated, where

__all__ = ["Migration", "SchemaReport", "check", "migrations", "require_current", "upgrade"]

_LOCK_TIMEOUT = "5s"  # what a migration waits for a table before it gives up, so that it stalls nobody for long
_POLL = 0.05  # seconds
_PATIENCE = 300.0  # seconds for another process to finish its migrations
# Tried again and again rather than waited for: a waiting transaction deadlocks with CREATE INDEX CONCURRENTLY.
# Of the transaction rather than of the session: it works behind PgBouncer too.
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('bindu_dspy.migrations', 0))"
_CREATE_LEDGER = """
CREATE SCHEMA IF NOT EXISTS bindu_dspy;
CREATE TABLE IF NOT EXISTS bindu_dspy.migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name without suffix, its text and the digest that it is recognised by."""

    name: str
    sql: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """The database's schema against this code's, by names of migrations."""

    applied: list[str]
    pending: list[str]  # the database is older
    unknown: list[str]  # the database is newer


@cache
def migrations() -> tuple[Migration, ...]:
    """Those that came with this code, in order."""
    folder = files("bindu.dspy.postgres") / "sql" / "migrations"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    texts = [(entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8")) for entry in found]
    return tuple(Migration(name, text, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts)


async def check(target: str | Connection) -> SchemaReport:
    """Compare the database of a URL or connection with this code. Raises SchemaError for an edited migration."""
    async with _connection(target) as connection, connection.transaction():
        return _report(await _ledger(connection))


async def upgrade(target: str | Connection) -> list[str]:
    """Apply what is pending, and return its names. Many processes may do this at once: one applies, the others wait.

    Raises SchemaError when the database is newer than this code, when a migration was edited after it had been
    applied, or when it could not be applied; then nothing of it was.
    """
    applied: list[str] = []
    async with _connection(target) as connection:
        while True:
            report = await check(connection)
            if report.unknown:
                raise SchemaError(_newer(report))
            if not report.pending:
                return applied
            applied += await _apply_next(connection)


def _newer(report: SchemaReport) -> str:
    return f"The database has migrations this version does not know ({', '.join(report.unknown)}). Upgrade bindu-dspy."


def require_current(report: SchemaReport) -> None:
    """Raise SchemaError unless the database's schema is the one this code speaks."""
    if report.unknown:
        raise SchemaError(_newer(report))
    if report.pending:
        raise SchemaError(f"The database lacks {', '.join(report.pending)}. Run 'bindu db upgrade'.")


@asynccontextmanager
async def _connection(target: str | Connection) -> AsyncIterator[Connection]:
    if not isinstance(target, str):
        yield target
        return
    check_url(target)
    with translated(where(target)):
        connection = await asyncpg.connect(driver_url(target), statement_cache_size=0)
        try:
            yield connection
        finally:
            await connection.close()


async def _ledger(connection: Connection) -> dict[str, str]:
    if not await has_table(connection, "migrations"):
        return {}
    found = await connection.fetch("SELECT name, sha256 FROM bindu_dspy.migrations ORDER BY name")
    return {migration["name"]: migration["sha256"] for migration in found}


def _report(ledger: dict[str, str]) -> SchemaReport:
    known = {migration.name: migration for migration in migrations()}
    for name, sha256 in ledger.items():
        if name in known and known[name].sha256 != sha256:
            raise SchemaError(
                f"Migration {name} was changed after it had been applied. Reinstall bindu-dspy, or undo the change."
            )
    return SchemaReport(
        applied=[name for name in ledger if name in known],
        pending=[name for name in known if name not in ledger],
        unknown=[name for name in ledger if name not in known],
    )


async def _apply_next(connection: Connection) -> list[str]:
    """Apply the first pending migration, or find that somebody else did it meanwhile.

    A blank database gets all of them at once: else others that start now could see it half made.
    """
    async with _locked(connection):
        report = _report(await _ledger(connection))
        names = report.pending[:1] if report.applied else report.pending
        for migration in migrations():
            if migration.name in names:
                await _apply(connection, migration)
        return names


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await connection.execute(_CREATE_LEDGER)
        await connection.execute(migration.sql)
    except asyncpg.LockNotAvailableError as error:
        raise SchemaError(
            f"Migration {migration.name} waited {_LOCK_TIMEOUT} for a table in use and gave up; "
            "nothing was changed. Run 'bindu db upgrade' again."
        ) from error
    except asyncpg.PostgresError as error:
        if is_away(error):
            raise
        raise SchemaError(f"Migration {migration.name} failed and changed nothing: {error}.") from error
    await connection.execute(
        "INSERT INTO bindu_dspy.migrations (name, sha256) VALUES ($1, $2)", migration.name, migration.sha256
    )


@asynccontextmanager
async def _locked(connection: Connection) -> AsyncIterator[None]:
    """A transaction that is the only one to migrate."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE
    while loop.time() < deadline:
        async with connection.transaction():
            if await connection.fetchval(_TRY_LOCK):
                yield
                return
        await asyncio.sleep(_POLL)
    raise SchemaError(f"Another process has been migrating for {_PATIENCE:.0f} seconds. Try again when it is done.")
