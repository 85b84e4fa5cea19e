"""Migrations: in order, once, all or nothing, whoever else is at it."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

import asyncpg
import pytest

from bindu.dspy.errors import SchemaError
from bindu.dspy.postgres import migrate
from bindu.dspy.postgres.migrate import Migration, check, upgrade
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.settings import StorageSettings
from conftest import execute

KNOWN = migrate.migrations()


def a_migration(name: str, sql: str) -> Migration:
    return Migration(name, sql, sha256(sql.encode()).hexdigest())


LATER = a_migration("9001_later", "CREATE TABLE bindu_dspy.later (agent_id text PRIMARY KEY)")
LAST = a_migration("9002_last", "ALTER TABLE bindu_dspy.later ADD COLUMN note text")


def pretend(monkeypatch: pytest.MonkeyPatch, *known: Migration) -> None:
    monkeypatch.setattr(migrate, "migrations", lambda: known)


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    found = await connection.fetch("SELECT relname FROM pg_class WHERE relnamespace::regnamespace::text = 'bindu_dspy'")
    await connection.close()
    return {table["relname"] for table in found}


async def description(url: str) -> list[str]:
    """The whole schema, one line per column, constraint, index and view, in no storage's order."""
    connection = await asyncpg.connect(url)
    found = await connection.fetch(
        """
        SELECT format('%s.%s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull,
            pg_get_expr(adbin, adrelid)) AS line
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'bindu_dspy'::regnamespace AND attnum > 0 AND NOT attisdropped AND relkind <> 'i'
        UNION ALL
        SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE connamespace = 'bindu_dspy'::regnamespace
        UNION ALL
        SELECT indexdef FROM pg_indexes WHERE schemaname = 'bindu_dspy'
        UNION ALL
        SELECT definition FROM pg_views WHERE schemaname = 'bindu_dspy'
        ORDER BY line
        """
    )
    await connection.close()
    return [line["line"] for line in found]


async def test_a_blank_database_gets_everything_in_order_and_only_once(blank_url: str) -> None:
    names = [migration.name for migration in KNOWN]
    assert names == sorted(names)
    before = await check(blank_url)
    assert (before.applied, before.pending, before.unknown) == ([], names, [])
    assert await upgrade(blank_url) == names
    assert await upgrade(blank_url) == []
    after = await check(blank_url)
    assert (after.applied, after.pending, after.unknown) == (names, [], [])


async def test_migrated_step_by_step_is_the_same_as_fresh(
    blank_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in range(1, len(KNOWN) + 1):
        pretend(monkeypatch, *KNOWN[:count])
        assert await upgrade(blank_url) == [KNOWN[count - 1].name]
    fresh = await description(postgres_url)
    assert await description(blank_url) == fresh
    assert any("serving" in line for line in fresh)


async def test_connecting_gives_a_blank_database_our_schema_and_leaves_the_rest_alone(blank_url: str) -> None:
    await execute(blank_url, "CREATE TABLE public.tasks (id int)", "CREATE TABLE public.task_feedback (id int)")
    storage = await PostgresStorage.connect(blank_url, StorageSettings())
    await storage.bootstrap("default", "Be kind.")
    await storage.close()
    connection = await asyncpg.connect(blank_url)
    public = await connection.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    assert {table["relname"] for table in public} == {"tasks", "task_feedback"}
    await connection.close()


async def test_eight_that_connect_at_once_migrate_once(blank_url: str) -> None:
    opened = await asyncio.gather(*(PostgresStorage.connect(blank_url, StorageSettings(pool_size=1)) for _ in range(8)))
    connection = await asyncpg.connect(blank_url)
    assert await connection.fetchval("SELECT count(*) FROM bindu_dspy.migrations") == len(KNOWN)
    await connection.close()
    for storage in opened:
        await storage.close()


async def test_of_eight_upgrades_at_once_each_migration_is_applied_by_one(blank_url: str) -> None:
    applied = await asyncio.gather(*(upgrade(blank_url) for _ in range(8)))
    assert sorted(name for names in applied for name in names) == [migration.name for migration in KNOWN]


async def test_an_older_schema_is_left_to_the_operator(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, *KNOWN, LATER)
    with pytest.raises(SchemaError, match=r"9001_later.*bindu db upgrade"):
        await PostgresStorage.connect(postgres_url, StorageSettings())
    assert "later" not in await tables(postgres_url)
    assert await upgrade(postgres_url) == ["9001_later"]
    await (await PostgresStorage.connect(postgres_url, StorageSettings())).close()


async def test_a_newer_schema_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, *KNOWN, LATER)
    await upgrade(postgres_url)
    pretend(monkeypatch, *KNOWN)
    assert (await check(postgres_url)).unknown == ["9001_later"]
    with pytest.raises(SchemaError, match="Upgrade bindu-dspy"):
        await PostgresStorage.connect(postgres_url, StorageSettings())
    with pytest.raises(SchemaError, match="Upgrade bindu-dspy"):
        await upgrade(postgres_url)


async def test_an_edited_migration_is_noticed(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = KNOWN
    pretend(monkeypatch, a_migration(first.name, first.sql + " "), *others)
    with pytest.raises(SchemaError, match=f"{first.name} was changed"):
        await PostgresStorage.connect(postgres_url, StorageSettings())
    with pytest.raises(SchemaError, match="was changed"):
        await upgrade(postgres_url)


async def test_a_migration_that_fails_leaves_nothing_and_keeps_those_before_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = a_migration("9002_broken", "CREATE TABLE bindu_dspy.half (id int); SELECT nonsense")
    pretend(monkeypatch, *KNOWN, LATER, broken)
    with pytest.raises(SchemaError, match="9002_broken"):
        await upgrade(postgres_url)
    assert {"later", "half"} & await tables(postgres_url) == {"later"}
    pretend(monkeypatch, *KNOWN, LATER, LAST)
    assert await upgrade(postgres_url) == ["9002_last"]


async def test_a_table_in_use_stalls_a_migration_only_briefly(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT", "100ms")
    pretend(monkeypatch, *KNOWN, a_migration("9001_wider", "ALTER TABLE bindu_dspy.prompts ADD COLUMN note text"))
    reader = await asyncpg.connect(postgres_url)
    async with reader.transaction():
        await reader.execute("SELECT * FROM bindu_dspy.prompts")
        with pytest.raises(SchemaError, match="a table in use"):
            await upgrade(postgres_url)
    assert await upgrade(postgres_url) == ["9001_wider"]
    await reader.close()


async def test_an_index_built_concurrently_does_not_deadlock_with_those_that_wait_to_migrate(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, *KNOWN, LATER)
    holder = await asyncpg.connect(postgres_url)
    lock = holder.transaction()
    await lock.start()
    await holder.execute(migrate._TRY_LOCK)  # not fetchval: its open cursor would hold a snapshot
    waiting = [asyncio.create_task(upgrade(postgres_url)) for _ in range(4)]
    await asyncio.sleep(0.2)
    create = "CREATE INDEX CONCURRENTLY by_origin ON bindu_dspy.prompts (agent_id, origin)"
    await asyncio.wait_for(execute(postgres_url, create), 10)
    await lock.rollback()
    assert sorted(len(names) for names in await asyncio.gather(*waiting)) == [0, 0, 0, 1]
    await holder.close()


async def test_whoever_waits_too_long_for_another_migration_says_so(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_PATIENCE", 0.2)
    pretend(monkeypatch, *KNOWN, LATER)
    holder = await asyncpg.connect(postgres_url)
    async with holder.transaction():
        assert await holder.fetchval(migrate._TRY_LOCK)
        with pytest.raises(SchemaError, match="Another process"):
            await upgrade(postgres_url)
    await holder.close()


def test_the_migrations_on_disk_are_numbered_in_words() -> None:
    folder = Path(migrate.__file__).parent / "sql" / "migrations"
    on_disk = sorted(path.stem for path in folder.glob("*.sql"))
    assert on_disk == [migration.name for migration in KNOWN]
    assert [name[:4] for name in on_disk] == [f"{number:04}" for number in range(1, len(on_disk) + 1)]
