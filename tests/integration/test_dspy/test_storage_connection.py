"""The way to the database: what an URL may say, and what happens when nobody answers, now or later."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from bindu.dspy.errors import (
    BinduError,
    InvalidArgumentError,
    SchemaError,
    StorageUnavailableError,
    UnknownPromptError,
)
from bindu.dspy.postgres import migrate
from bindu.dspy.postgres.database import where
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.settings import StorageSettings
from conftest import execute, named
from samples import AGENT, a_task, a_vote, open_trial

HASTY = StorageSettings(connect_timeout=2, pool_size=2)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://ann:secret@db.example:6543/bindu", "db.example:6543/bindu"),
        ("postgresql+asyncpg://ann:s%40cret@db.example/bindu?ssl=require", "db.example/bindu"),
        ("postgres://ann:secret@[::1]:5432/bindu", "[::1]:5432/bindu"),
        ("postgresql://ann:secret@/bindu?host=/run/postgresql", "/run/postgresql/bindu"),
        ("postgresql:///?dbname=bindu&password=secret", "the default host/bindu"),
    ],
)
def test_a_place_is_named_without_its_password(url: str, place: str) -> None:
    assert where(url) == place


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_every_usual_scheme_is_understood(postgres_url: str, scheme: str) -> None:
    storage = await PostgresStorage.connect(postgres_url.replace("postgresql", scheme, 1), HASTY)
    assert await storage.serving(AGENT) is None
    await storage.close()


async def test_a_closed_port_is_named_and_its_password_is_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(StorageUnavailableError, match=rf"127\.0\.0\.1:{port}/bindu") as refused:
        await PostgresStorage.connect(f"postgresql://ann:secret@127.0.0.1:{port}/bindu", HASTY)
    assert "secret" not in str(refused.value)
    assert isinstance(refused.value, ConnectionError)


async def test_a_server_that_never_answers_is_given_up(unused_tcp_port: int) -> None:
    with socket.create_server(("127.0.0.1", unused_tcp_port)):
        url = f"postgresql://ann@127.0.0.1:{unused_tcp_port}/bindu?sslmode=disable"
        with pytest.raises(StorageUnavailableError, match="in time"):
            await PostgresStorage.connect(url, StorageSettings(connect_timeout=0.3))


@pytest.mark.parametrize(
    "url",
    ["postgresql://localhost:port/bindu", "postgresql://localhost/bindu?sslmode=sometimes", "mysql://localhost/b"],
)
async def test_an_url_that_makes_no_sense_is_unavailable_too(url: str) -> None:
    with pytest.raises(StorageUnavailableError):
        await PostgresStorage.connect(url, HASTY)


async def test_an_unknown_database_and_an_unknown_user_are_unavailable(postgres_url: str) -> None:
    with pytest.raises(StorageUnavailableError, match="nowhere"):
        await PostgresStorage.connect(named(postgres_url, "nowhere"), HASTY)
    stranger = urlsplit(postgres_url)._replace(netloc="stranger@").geturl()
    with pytest.raises(StorageUnavailableError, match="stranger"):
        await PostgresStorage.connect(stranger, HASTY)


async def test_a_database_that_takes_no_connections_is_unavailable(server_url: str, postgres_url: str) -> None:
    database = urlsplit(postgres_url).path.removeprefix("/")
    await execute(server_url, f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false")
    with pytest.raises(StorageUnavailableError, match="not currently accepting connections"):
        await PostgresStorage.connect(postgres_url, HASTY)


@pytest.mark.parametrize("number", [-1, 0, 2**31, 99_999_999_999, 2**63])
async def test_a_number_that_nothing_can_have_is_unknown(storage: PostgresStorage, number: int) -> None:
    await open_trial(storage)
    assert await storage.prompt(AGENT, number) is None
    assert await storage.experiment(AGENT, number) is None
    assert await storage.decisions(AGENT, experiment_id=number) == []
    with pytest.raises(UnknownPromptError, match=f"no prompt {number}"):
        await storage.add_tasks([a_task(prompt_id=number)])
    with pytest.raises(UnknownPromptError, match=f"no prompt {number}"):
        await storage.set_retired_status(AGENT, number, "deprecated")
    with pytest.raises(UnknownPromptError, match=f"no prompt {number}"):
        await open_trial(storage, "another", parent_id=number)


@pytest.mark.parametrize("limit", [-1, 2**63])
async def test_a_limit_that_cannot_be_is_refused_in_words(storage: PostgresStorage, limit: int) -> None:
    for verb in (storage.runs, storage.experiments, storage.decisions):
        with pytest.raises(InvalidArgumentError, match=f"from 0 up, not {limit}"):
            await verb(AGENT, limit=limit)


async def test_a_user_without_privileges_hears_so(postgres_url: str, storage: PostgresStorage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    await execute(postgres_url, "CREATE ROLE reader LOGIN", "GRANT USAGE ON SCHEMA bindu_dspy TO reader")
    await execute(postgres_url, "GRANT SELECT ON bindu_dspy.migrations TO reader")
    other = await PostgresStorage.connect(urlsplit(postgres_url)._replace(netloc="reader@").geturl(), HASTY)
    with pytest.raises(StorageUnavailableError, match="permission denied"):
        await other.serving(AGENT)
    await other.close()
    await execute(postgres_url, "DROP OWNED BY reader", "DROP ROLE reader")


async def test_the_pool_recovers_when_its_sessions_were_ended(storage: PostgresStorage, postgres_url: str) -> None:
    await open_trial(storage)
    await asyncio.gather(*(storage.serving_versions([AGENT]) for _ in range(20)))
    await execute(
        postgres_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    await asyncio.sleep(0.1)
    assert await asyncio.gather(*(storage.serving_versions([AGENT]) for _ in range(20))) == [{AGENT: 2}] * 20


async def test_a_database_that_went_away_is_no_traceback_of_the_driver(
    storage: PostgresStorage, server_url: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.gather(*(storage.serving_versions([AGENT]) for _ in range(5)))
    database = urlsplit(postgres_url).path.removeprefix("/")
    await execute(
        server_url,
        f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'",
    )
    await asyncio.sleep(0.1)
    for _ in range(5):
        with pytest.raises(StorageUnavailableError):
            await storage.serving(AGENT)
    await asyncio.sleep(0.3)
    assert caplog.records == []
    await execute(server_url, f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true")
    assert await storage.serving(AGENT) is None


async def test_a_session_ended_in_the_middle_is_unavailable_and_the_next_verb_works(
    storage: PostgresStorage, postgres_url: str
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    blocker = await asyncpg.connect(postgres_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT * FROM bindu_dspy.serving FOR UPDATE")
    waiting = asyncio.create_task(storage.add_prompt(AGENT, "Be brief.", "deprecated"))
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while not await blocker.fetch(ended):  # noqa: ASYNC110 - the server has no event to wait for
        await asyncio.sleep(0.01)
    with pytest.raises(StorageUnavailableError):
        await waiting
    await transaction.rollback()
    await blocker.close()
    assert (await storage.add_prompt(AGENT, "Be brief.", "deprecated")).id == 2


async def test_a_cancelled_verb_leaves_its_connection_clean(storage: PostgresStorage, postgres_url: str) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    single = await PostgresStorage.connect(postgres_url, StorageSettings(pool_size=1, connect_timeout=5))
    blocker = await asyncpg.connect(postgres_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT * FROM bindu_dspy.serving FOR UPDATE")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(single.add_prompt(AGENT, "Be brief.", "deprecated"), 0.2)
    await transaction.rollback()
    await blocker.close()
    assert (await single.add_prompt(AGENT, "Be brief.", "deprecated")).id == 2
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval(idle) == 0
    await connection.close()
    await single.close()


async def test_a_lost_race_is_run_again_and_not_reported(storage: PostgresStorage, postgres_url: str) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    await execute(
        postgres_url,
        "CREATE SEQUENCE public.losses",
        """CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('public.losses') < 4 THEN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END IF;
            RETURN NEW; END $$""",
        "CREATE TRIGGER lose BEFORE INSERT ON bindu_dspy.prompts FOR EACH ROW EXECUTE FUNCTION public.lose()",
    )
    assert (await storage.add_prompt(AGENT, "Be brief.", "deprecated")).id == 2
    await execute(postgres_url, "ALTER SEQUENCE public.losses RESTART MINVALUE -100 START -100")
    with pytest.raises(BinduError, match="lost"):
        await storage.add_prompt(AGENT, "Be short.", "deprecated")


async def test_more_callers_than_connections_wait_for_their_turn(postgres_url: str) -> None:
    narrow = await PostgresStorage.connect(postgres_url, StorageSettings(pool_size=2))
    await narrow.bootstrap(AGENT, "Be kind.")
    assert await asyncio.gather(*(narrow.serving_versions([AGENT]) for _ in range(100))) == [{AGENT: 1}] * 100
    await narrow.close()


async def test_a_closed_storage_says_so(postgres_url: str) -> None:
    storage = await PostgresStorage.connect(postgres_url, HASTY)
    await storage.close()
    with pytest.raises(StorageUnavailableError, match="clos"):
        await storage.serving(AGENT)


async def test_without_prepared_statements_every_verb_works(postgres_url: str) -> None:
    storage = await PostgresStorage.connect(postgres_url, StorageSettings(statement_cache_size=0))
    await open_trial(storage)
    ids = await storage.add_tasks([a_task()])
    await storage.add_feedback([a_vote(ids[0])])
    assert (await storage.prompt_metrics(AGENT, [1]))[1].average_score == 1.0
    await storage.close()


async def test_a_schema_that_vanished_is_not_called_an_outage(storage: PostgresStorage, postgres_url: str) -> None:
    await execute(postgres_url, "DROP SCHEMA bindu_dspy CASCADE")
    with pytest.raises(SchemaError, match="bindu db upgrade"):
        await storage.serving(AGENT)


async def test_the_embedded_database_keeps_what_was_stored(tmp_path: Path) -> None:
    url = f"embedded:{tmp_path / 'own'}"
    first = await PostgresStorage.connect(url, HASTY)
    await first.bootstrap(AGENT, "Be kind.")
    await first.close()
    second = await PostgresStorage.connect(url, HASTY)
    prompt = await second.prompt(AGENT, 1)
    assert prompt is not None
    assert prompt.text == "Be kind."
    await second.close()


async def test_an_embedded_server_that_died_is_started_again(tmp_path: Path) -> None:
    storage = await PostgresStorage.connect(f"embedded:{tmp_path / 'own'}", HASTY)
    await storage.bootstrap(AGENT, "Be kind.")
    postmaster = int((tmp_path / "own" / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    await asyncio.sleep(0.2)  # a session that is asked without pause outlives its server
    deadline = time.monotonic() + 20
    version = None
    while version is None and time.monotonic() < deadline:
        with contextlib.suppress(StorageUnavailableError):
            version = (await storage.serving_versions([AGENT]))[AGENT]
    assert int((tmp_path / "own" / "data" / "postmaster.pid").read_text().split()[0]) != postmaster
    assert version == 1
    await storage.close()


async def test_an_embedded_database_is_upgraded_by_connecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"embedded:{tmp_path / 'own'}"
    await (await PostgresStorage.connect(url, HASTY)).close()
    newer = migrate.Migration("9999_later", "CREATE TABLE bindu_dspy.later (agent_id text)", "0" * 64)
    known = migrate.migrations()
    monkeypatch.setattr(migrate, "migrations", lambda: (*known, newer))
    await (await PostgresStorage.connect(url, HASTY)).close()
    monkeypatch.setattr(migrate, "migrations", lambda: known)
    with pytest.raises(SchemaError, match="9999_later"):
        await PostgresStorage.connect(url, HASTY)
