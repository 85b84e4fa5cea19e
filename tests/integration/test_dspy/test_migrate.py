"""Migrations: in order, once, all or nothing, whoever else is at it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import asyncpg
import pytest

from bindu.dspy.errors import SchemaError
from bindu.dspy.models import Verdict
from bindu.dspy.postgres import migrate
from bindu.dspy.postgres.database import has_table
from bindu.dspy.postgres.migrate import Migration, check, upgrade
from bindu.dspy.postgres.partitions import create_month
from bindu.dspy.postgres.queries import parse
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.units import Closing, FirstRequest
from bindu.settings import StorageSettings
from conftest import execute, fetch, value
from samples import AGENT, a_rollout, a_run, a_task, a_vote, id_at

KNOWN = migrate.migrations()
RELEASED = parse((Path(__file__).parents[2] / "statements_of_0001.sql").read_text(encoding="utf-8"))
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
OLD_TASK, OLD_VOTE, OLD_RUN = (id_at(NOON + timedelta(minutes=minutes)) for minutes in (0, 5, 6))


def a_migration(name: str, sql: str) -> Migration:
    return Migration(name, sql, sha256(sql.encode()).hexdigest())


LATER = a_migration("9001_later", "CREATE TABLE bindu_dspy.later (agent_id text PRIMARY KEY)")
LAST = a_migration("9002_last", "ALTER TABLE bindu_dspy.later ADD COLUMN note text")


def pretend(monkeypatch: pytest.MonkeyPatch, *known: Migration) -> None:
    monkeypatch.setattr(migrate, "migrations", lambda: known)


async def tables(url: str) -> set[str]:
    found = await fetch(url, "SELECT relname FROM pg_class WHERE relnamespace::regnamespace::text = 'bindu_dspy'")
    return {table["relname"] for table in found}


async def description(url: str) -> list[str]:
    """The whole schema, one line per column, constraint, index and view, in no storage's order."""
    found = await fetch(
        url,
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
        """,
    )
    return [line["line"] for line in found]


async def written_by_the_first_release(url: str) -> None:
    """A trial at 30 % with one rated unit, written with the statements that came with migration 0001."""
    connection = await asyncpg.connect(url)

    async def write(name: str, **values: Any) -> list[asyncpg.Record]:
        query = RELEASED[name]
        return await connection.fetch(query.sql, *query.arguments({"agent_id": AGENT, **values}))

    async with connection.transaction():
        await create_month(connection, (NOON.year, NOON.month))
    await write("bootstrap_prompt", text="Be kind.", now=NOON)
    await write("bootstrap_serving", active_id=1)
    candidate = {"status": None, "parent_id": 1, "origin": "simba", "metadata": "{}", "now": NOON}
    await write("insert_prompt", text="Be kinder.", **candidate)
    await write("insert_experiment", active_id=1, candidate_id=2, policy='{"rule": "means"}', now=NOON)
    for version, share in ((1, 0.1), (2, 0.3)):
        serving = {"active_id": 1, "candidate_id": 2, "candidate_share": share, "experiment_id": 1}
        assert await write("set_serving", expected_version=version, **serving)
        decided = {"reason": "", "inputs": "{}", "evidence": "{}", "rule": "means", "rule_version": 1, "now": NOON}
        by = {"code_version": "0.1.0", "actor": "controller", "experiment_id": 1}
        moved = {"share_before": 0.0, "share_after": 0.1} if version == 1 else {"share_before": 0.1, "share_after": 0.3}
        await write("insert_decision", verdict="open" if version == 1 else "step_up", **moved, **decided, **by)
    await write("next_epoch", experiment_id=1)
    task: dict[str, Any] = {"ids": OLD_TASK, "prompt_ids": 2, "experiment_ids": 1, "epochs": 0, "unit_ids": "ann"}
    said = {"context_ids": None, "states": "completed", "histories": '[{"role": "user", "content": "Hello"}]'}
    rest = {"usages": None, "latencies": 3.5, "created_ats": NOON}
    await write("insert_tasks", **{name: [value] for name, value in {**task, **said, **rest}.items()})
    [locked] = await write("lock_tasks", task_ids=[OLD_TASK])
    vote: dict[str, Any] = {"task_ids": OLD_TASK, "ids": OLD_VOTE, "prompt_ids": 2, "unit_ids": locked["unit_id"]}
    given = {"rater_ids": "ann", "kinds": "rating", "scores": 0.8, "datas": '{"rating": 4}', "comments": None}
    late = {"idempotency_keys": None, "superseded_bys": None, "created_ats": NOON}
    await write("insert_votes", **{name: [value] for name, value in {**vote, **given, **late}.items()})
    run: dict[str, Any] = {"id": OLD_RUN, "optimizer": "simba", "strategy": "last_turn", "seed": 7, "reason": None}
    none = dict.fromkeys(("outcome", "candidate_id", "experiment_id", "started_at", "ended_at"))
    for calls in (1, 2):
        await write("save_run", **run, **none, state="running", calls=calls, details="{}", now=NOON)
    await connection.close()


async def check_what_the_first_release_wrote(url: str) -> None:
    """Today's code reads it, goes on with it and ends it."""
    storage = await PostgresStorage.connect(url, StorageSettings())
    serving, experiment = await storage.serving(AGENT), await storage.experiment(AGENT, 1)
    assert serving is not None
    assert experiment is not None
    assert (serving.share, serving.epoch, serving.experiment_id, experiment.paused) == (0.3, 1, 1, False)
    assert (await storage.prompt_metrics(AGENT, [2]))[2].average_score == 0.8
    assert [change.share for change in await storage.share_changes(AGENT, 1)] == [0.1, 0.3]
    assert [decision.closed_window for decision in await storage.decisions(AGENT)] == [None, None]
    found = await storage.arrivals(AGENT, 1, until=NOON + timedelta(days=1))
    assert found.firsts == (FirstRequest(unit_id="ann", arm="candidate", epoch=0, first_at=NOON),)
    assert found.rated == ()  # the rule of that time counts votes, not units
    new = a_task(prompt_id=2, experiment_id=1, epoch=1, unit_id="ann", created_at=NOON + timedelta(hours=1))
    await storage.add_tasks([new])
    votes = [a_vote(OLD_TASK, 0.2, rater_id="ann"), a_vote(new.id, 0.6)]
    await storage.add_feedback(votes)
    [unit] = (await storage.arrivals(AGENT, 1, until=await storage.now())).rated
    assert {vote.task_id for vote in unit.votes} == {OLD_TASK, new.id}
    closing = Closing(window=1, evidence={"window": 1}, firsts=(("ann", 1),))
    await storage.apply(await a_rollout(storage, verdict="won"), closing=closing)
    await storage.apply(await a_rollout(storage, verdict="promote", share_after=1.0, outcome="promoted"))
    assert [prompt.status for prompt in await storage.prompts(AGENT)] == ["deprecated", "active"]
    await check_the_run_of_the_first_release(storage)
    await storage.close()


async def check_the_run_of_the_first_release(storage: PostgresStorage) -> None:
    """It gave no sign of life, and takes one today."""
    run = await storage.run(AGENT, OLD_RUN)
    assert run == a_run(id=OLD_RUN, calls=2, started_at=NOON)
    assert run is not None
    told = await storage.save_run(replace(run, step="judging", cost=0.5), now=NOON + timedelta(minutes=9))
    assert (told.step, told.cost, told.seen_at) == ("judging", 0.5, NOON + timedelta(minutes=9))
    assert await storage.end_lost_runs(AGENT, silent_for=timedelta(minutes=1), reason="It is gone.") == 1


async def files(url: str) -> dict[str, int]:
    """Where each table's rows lie; a table that is rewritten moves."""
    found = await fetch(
        url,
        "SELECT relname, relfilenode FROM pg_class WHERE relnamespace = 'bindu_dspy'::regnamespace AND relkind = 'r'",
    )
    return {table["relname"]: table["relfilenode"] for table in found}


async def test_a_database_of_the_first_release_upgrades_without_a_rewrite_and_goes_on(
    blank_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, *KNOWN[:1])
    await upgrade(blank_url)
    await written_by_the_first_release(blank_url)
    before = await files(blank_url)
    assert {"units", "task_feedback_2026_06"} <= set(before)
    pretend(monkeypatch, *KNOWN)
    await upgrade(blank_url)
    after = await files(blank_url)
    assert {name: after[name] for name in before} == before
    await check_what_the_first_release_wrote(blank_url)


async def test_a_replica_of_the_first_release_may_still_write_after_the_upgrade(postgres_url: str) -> None:
    await written_by_the_first_release(postgres_url)
    await check_what_the_first_release_wrote(postgres_url)


async def test_every_statement_of_the_first_release_is_one_of_todays_schema(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    for query in RELEASED.values():
        assert len((await connection.prepare(query.sql)).get_parameters()) == len(query.parameters)
    await connection.close()


async def test_the_database_takes_every_verdict_there_is_and_no_other(postgres_url: str) -> None:
    await written_by_the_first_release(postgres_url)
    for verdict in get_args(Verdict):
        await execute(postgres_url, f"UPDATE bindu_dspy.decisions SET verdict = '{verdict}' WHERE id = 2")
    with pytest.raises(asyncpg.CheckViolationError):
        await execute(postgres_url, "UPDATE bindu_dspy.decisions SET verdict = 'guess' WHERE id = 2")


def test_the_first_migration_is_as_it_was_released() -> None:
    assert KNOWN[0].sha256 == "5299d22349fdb693e30093a416945eb920568bb8e9b280b66644820b91292197"


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
    public = await fetch(blank_url, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    assert {table["relname"] for table in public} == {"tasks", "task_feedback"}


async def test_eight_that_connect_at_once_migrate_once(blank_url: str) -> None:
    opened = await asyncio.gather(*(PostgresStorage.connect(blank_url, StorageSettings(pool_size=1)) for _ in range(8)))
    assert await value(blank_url, "SELECT count(*) FROM bindu_dspy.migrations") == len(KNOWN)
    for storage in opened:
        await storage.close()


async def test_what_another_committed_after_our_transaction_began_is_seen_in_it(blank_url: str) -> None:
    """The server remembers that a name was not there, and forgets it only as the next transaction begins."""
    connection = await asyncpg.connect(blank_url)
    async with connection.transaction():
        assert not await has_table(connection, "migrations")
        await upgrade(blank_url)
        assert await has_table(connection, "migrations")
        assert await has_table(connection, "tasks")
    await connection.close()


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
