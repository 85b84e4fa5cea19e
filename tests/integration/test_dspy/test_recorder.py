"""Exchanges reach the database once, in order and with their time, whatever happens to it meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import pytest

from bindu.dspy import recorder as recorder_module
from bindu.dspy.errors import InvalidHistoryError
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.recorder import Recorder
from bindu.dspy.spool import Spool
from bindu.dspy.storage import use_storage
from bindu.settings import StorageSettings
from conftest import execute, fetch, until, value
from relay import Relay

PROMPT = {"id": 1, "agent_id": "a", "prompt_text": "Be kind."}
COUNT = "SELECT count(*) FROM bindu_dspy.tasks"
NOWHERE = "postgresql://bindu@127.0.0.1:1/bindu"
SPOOLER = """
import asyncio, sys
from bindu.dspy.recorder import Recorder
from bindu.dspy.spool import Spool

async def main():
    recorder = Recorder(Spool(sys.argv[1], limit=10**8))
    prompt = {"id": 1, "agent_id": "a"}
    number = 0
    while number < int(sys.argv[2]):
        ids = [recorder.record([{"role": "user", "content": "x" * 500}], prompt=prompt) for _ in range(7)]
        await recorder.flush()
        print(*ids, flush=True)
        number += 7
    await recorder.close()

asyncio.run(main())
"""


def talk(number: int = 0) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": "An answer."}]


async def stored(url: str) -> list[UUID]:
    return [row["id"] for row in await fetch(url, "SELECT id FROM bindu_dspy.tasks ORDER BY id")]


async def away(recorder: Recorder) -> None:
    """Until the recorder knows that the database is away."""
    recorder.record(talk(), prompt=PROMPT)
    await recorder.flush()
    assert recorder.is_behind


async def caught_up(recorder: Recorder, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while recorder.is_behind or recorder.waiting:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outages are noticed in a third of a second, and their ends in a twentieth."""
    monkeypatch.setattr(recorder_module, "PATIENCE", 0.3)
    monkeypatch.setattr(recorder_module, "AGAIN_SECONDS", 0.05)


@pytest.fixture
def relay(postgres_url: str) -> Iterator[Relay]:
    with Relay(postgres_url) as relay:
        yield relay


@pytest.fixture
async def relayed(relay: Relay) -> AsyncIterator[PostgresStorage]:
    """A storage behind the relay, where agents a and b have a prompt."""
    opened = await PostgresStorage.connect(relay.url, StorageSettings(connect_timeout=2))
    with use_storage(opened):
        for agent in ("a", "b"):
            await opened.bootstrap(agent, "Be kind.")
        yield opened
    relay.restore()
    await opened.close()


@pytest.fixture
async def recorder_at() -> AsyncIterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def make(folder: Path, limit: int = 100_000_000) -> Recorder:
        made.append(Recorder(Spool(folder, limit=limit)))
        return made[-1]

    yield make
    for recorder in made:
        await recorder.close()


@pytest.fixture
def recorder(relayed: PostgresStorage, recorder_at: Callable[..., Recorder], tmp_path: Path) -> Recorder:
    return recorder_at(tmp_path / "spool")


async def test_many_are_stored_in_few_transactions_and_in_their_order(recorder: Recorder, postgres_url: str) -> None:
    ids = [recorder.record(talk(number), prompt=PROMPT) for number in range(1_200)]
    await recorder.flush()
    rows = await fetch(postgres_url, "SELECT id, history, xmin::text FROM bindu_dspy.tasks ORDER BY id")
    assert [row["id"] for row in rows] == ids == sorted(ids)
    assert [f'"Question {number}?"' in row["history"] for number, row in enumerate(rows)] == [True] * 1_200
    assert len({row["xmin"] for row in rows}) == 3
    assert not recorder.is_behind


async def test_closing_in_order_stores_everything_and_what_comes_later_is_counted(
    recorder: Recorder, postgres_url: str
) -> None:
    ids = [recorder.record(talk(), prompt=PROMPT) for _ in range(50)]
    await recorder.close()
    assert await stored(postgres_url) == ids
    recorder.record(talk(), prompt=PROMPT)
    assert recorder.dropped == {"closed": 1}


@pytest.mark.parametrize("kind", ["cut", "stall", "terminate"])
async def test_what_is_said_in_an_outage_is_stored_after_it_with_the_time_it_was_said_at(
    recorder: Recorder, relay: Relay, postgres_url: str, kind: str
) -> None:
    ids = [recorder.record(talk(), prompt=PROMPT) for _ in range(5)]
    await recorder.flush()
    began = datetime.now(UTC)
    if kind == "terminate":
        await execute(
            postgres_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bindu-dspy'"
        )
    else:
        getattr(relay, kind)()
    during = []
    for number in range(20):
        before = monotonic()
        during.append(recorder.record(talk(), prompt=PROMPT))
        await recorder.flush()
        assert monotonic() - before < (0.3 if number else 0.6)  # the first one waits for the database
    ended = datetime.now(UTC)
    relay.restore()
    ids += [*during, *(recorder.record(talk(), prompt=PROMPT) for _ in range(5))]
    await caught_up(recorder)
    assert await stored(postgres_url) == ids
    times = await fetch(postgres_url, "SELECT created_at FROM bindu_dspy.tasks WHERE id = ANY($1)", during)
    slack = timedelta(milliseconds=50)
    assert all(began - slack <= row["created_at"] <= ended + slack for row in times)
    assert recorder.dropped == {}
    assert recorder.spooled == 0


@pytest.mark.parametrize("seed", range(int(os.environ.get("CUT_SEEDS", "3"))))
async def test_cut_anywhere_and_often_nothing_is_lost_and_nothing_twice(
    recorder: Recorder, relay: Relay, postgres_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    given: dict[UUID, str | None] = {}
    for number in range(40):
        relay.cut_after(chance.randrange(1, chance.choice((40, 400, 9_000))))
        for _ in range(chance.randrange(1, 6)):
            own = chance.choice((None, f"chatcmpl-{number}-{len(given)}"))
            prompt = PROMPT | {"agent_id": chance.choice("ab")}
            given[recorder.record(talk(number), prompt=prompt, task_id=own, unit_id=f"u{number}")] = own
        if chance.random() < 0.3:
            relay.cut()
        await asyncio.sleep(chance.random() * 0.04)
        if chance.random() < 0.7:
            relay.restore()
    relay.restore()
    await caught_up(recorder)
    assert relay.cuts > 1
    assert await stored(postgres_url) == sorted(given)
    keys = await fetch(postgres_url, "SELECT task_id, external_id FROM bindu_dspy.task_keys")
    assert {row["task_id"]: row["external_id"] for row in keys} == {task: own for task, own in given.items() if own}
    assert recorder.dropped == {}


async def test_under_steady_traffic_it_returns_to_the_database_for_good(
    recorder: Recorder, relay: Relay, postgres_url: str
) -> None:
    ids = [recorder.record(talk(), prompt=PROMPT)]
    await recorder.flush()
    relay.cut()
    await away(recorder)
    for _ in range(30):  # many small files, as of many outages
        recorder._spool.close()
        ids.append(recorder.record(talk(), prompt=PROMPT))
        await recorder.flush()
    relay.restore()
    async with asyncio.timeout(5):
        while recorder._away:
            ids.append(recorder.record(talk(), prompt=PROMPT))
            await asyncio.sleep(0.001)
    await caught_up(recorder)
    assert set(ids) < set(await stored(postgres_url))


async def test_a_database_too_slow_for_a_batch_gets_smaller_ones(
    recorder: Recorder, postgres_url: str, relay: Relay
) -> None:
    await execute(
        postgres_url,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.003); RETURN NEW; END $$",
        "CREATE TRIGGER slow BEFORE INSERT ON bindu_dspy.tasks FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    ids = [recorder.record(talk(), prompt=PROMPT) for _ in range(300)]
    await caught_up(recorder, 20)
    assert await stored(postgres_url) == ids
    assert recorder.dropped == {}


async def test_what_processes_left_on_disk_is_stored_by_the_next_one_also_when_one_was_killed(
    relayed: PostgresStorage, recorder_at: Callable[..., Recorder], postgres_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    environment = os.environ | {"STORAGE__POSTGRES_URL": NOWHERE}

    def spooler(size: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", SPOOLER, str(folder), str(size)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )

    with spooler(70) as orderly, spooler(10**6) as killed:
        assert killed.stdout is not None
        assert orderly.stdout is not None
        lines = [killed.stdout.readline() for _ in range(10)]
        os.kill(killed.pid, signal.SIGKILL)
        lines += [*killed.stdout.readlines(), *orderly.stdout.readlines()]
    [torn, *_] = sorted(folder.iterdir())
    with torn.open("ab") as file:
        file.write(b'{"task":{"agent_id":"a","id":"01')  # as the kill may have left it
    recorder = recorder_at(folder)
    recorder.start()
    await caught_up(recorder)
    said = [UUID(text) for line in lines if line.endswith("\n") for text in line.split()]
    found = await stored(postgres_url)
    assert len(set(said)) == len(said) >= 140
    assert set(said) <= set(found)
    assert len(found) - len(said) <= 14  # what was on disk and not yet said to be
    assert recorder.dropped == {}
    assert list(folder.iterdir()) == []


async def test_two_recorders_on_one_folder_store_each_exchange_once(
    relayed: PostgresStorage, recorder_at: Callable[..., Recorder], relay: Relay, postgres_url: str, tmp_path: Path
) -> None:
    both = [recorder_at(tmp_path), recorder_at(tmp_path)]
    relay.cut()
    ids = [recorder.record(talk(), prompt=PROMPT) for _ in range(100) for recorder in both]
    await asyncio.gather(*(recorder.flush() for recorder in both))
    relay.restore()
    await until(postgres_url, COUNT, 200)
    assert await stored(postgres_url) == sorted(ids)


@pytest.mark.usefixtures("relayed")
async def test_beyond_the_limit_exchanges_are_counted_and_it_is_logged_once(
    recorder_at: Callable[..., Recorder],
    relay: Relay,
    postgres_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = recorder_at(tmp_path, 5_000)
    relay.cut()
    ids = []
    for number in range(50):
        ids.append(recorder.record(talk(number), prompt=PROMPT))
        await recorder.flush()
    lost = recorder.dropped["spool_full"]
    assert 0 < lost < 50
    assert sum("not recorded (spool_full)" in record.getMessage() for record in caplog.records) == 1
    relay.restore()
    await caught_up(recorder)
    assert await stored(postgres_url) == ids[: 50 - lost]
    later = recorder.record(talk(), prompt=PROMPT)
    await recorder.flush()
    assert (await stored(postgres_url))[-1] == later


async def test_a_disk_that_refuses_costs_what_it_refused_and_nothing_else(
    recorder: Recorder, relay: Relay, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    relay.cut()
    (tmp_path / "spool").write_text("a file where the folder should be")
    await away(recorder)
    assert "Set DSPY__PROXY__SPOOL_FOLDER" in caplog.records[0].getMessage()  # said at once, not in the outage
    assert recorder.dropped == {"disk": 1}
    relay.restore()
    await caught_up(recorder)
    kept = recorder.record(talk(), prompt=PROMPT)
    await recorder.flush()
    assert await stored(postgres_url) == [kept]


@pytest.mark.parametrize("is_away", [False, True])
async def test_what_the_database_refuses_holds_up_nobody_else(
    recorder: Recorder, relay: Relay, postgres_url: str, is_away: bool
) -> None:
    if is_away:
        relay.cut()
        await away(recorder)
    good = []
    for number in range(10):
        good.append(recorder.record(talk(number), prompt=PROMPT))
        recorder.record(talk(), prompt=PROMPT | {"id": 99})
        recorder.record(talk(), prompt=PROMPT | {"agent_id": "stranger"})
        recorder.record(talk(), prompt=PROMPT | {"id": None, "prompt_text": "Never stored."})
        recorder.record(talk(), prompt=PROMPT | {"experiment_id": 7})
    relay.restore()
    await recorder.flush()
    await caught_up(recorder)
    assert (await stored(postgres_url))[-10:] == good
    assert recorder.dropped == {"refused": 40}


@pytest.mark.parametrize("is_away", [False, True])
async def test_answers_of_a_provider_that_uses_ids_again_are_all_stored_and_the_first_keeps_the_id(
    recorder: Recorder, relay: Relay, postgres_url: str, is_away: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if is_away:
        relay.cut()
    ids = [recorder.record(talk(number), prompt=PROMPT, task_id=f"chatcmpl-{number % 3}") for number in range(9)]
    await recorder.flush()
    relay.restore()
    await caught_up(recorder)
    assert await stored(postgres_url) == ids
    keys = await fetch(postgres_url, "SELECT task_id FROM bindu_dspy.task_keys ORDER BY external_id")
    assert [row["task_id"] for row in keys] == ids[:3]
    assert sum("ids that others had" in record.getMessage() for record in caplog.records) == 1


async def test_what_cannot_be_an_exchange_is_refused_at_once(recorder: Recorder) -> None:
    with pytest.raises(InvalidHistoryError):
        recorder.record([], prompt=PROMPT)
    with pytest.raises(InvalidHistoryError):
        recorder.record(talk(), prompt=PROMPT, latency_ms=float("nan"))
    await recorder.flush()
    assert not recorder.is_behind


async def test_strange_characters_and_numbers_are_stored_alike_with_and_without_an_outage(
    recorder: Recorder, relay: Relay, postgres_url: str
) -> None:
    strange = [
        {"role": "user", "content": "\ud83d lone, \x00 nul, \u2028 \r\n\x1b", "n": 2**80, "x": 1e300, "\udc00": None},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "arguments": '{"a": "\\u0000"}'}]},
    ]
    usage = {"total_tokens": 7, "finish_reason": "stop", "é": "\ud800"}

    def record() -> UUID:
        return recorder.record(
            strange, prompt=PROMPT, unit_id="u", context_id="c", state="failed", usage=usage, latency_ms=1.5
        )

    record()
    await recorder.flush()
    relay.cut()
    record()
    await recorder.flush()
    assert recorder.is_behind
    relay.restore()
    await caught_up(recorder)
    columns = "history::text, usage::text, unit_id, context_id, state, latency_ms, prompt_id"
    first, second = await fetch(postgres_url, f"SELECT {columns} FROM bindu_dspy.tasks ORDER BY id")
    assert first == second
    assert "lone" in first["history"]
    assert str(2**80) in first["history"]


async def test_a_burst_beyond_memory_is_counted(
    recorder: Recorder, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 100)
    ids = [recorder.record(talk(), prompt=PROMPT) for _ in range(130)]
    await recorder.flush()
    assert recorder.dropped == {"overload": 30}
    assert await stored(postgres_url) == ids[:100]
    assert await value(postgres_url, COUNT) == 100


async def test_one_exchange_that_takes_long_does_not_keep_the_others_waiting_for_good(
    recorder: Recorder, postgres_url: str
) -> None:
    await execute(
        postgres_url,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.context_id = 'large' THEN PERFORM pg_sleep(0.5); END IF; RETURN NEW; END $$",
        "CREATE TRIGGER slow BEFORE INSERT ON bindu_dspy.tasks FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    ids = [recorder.record(talk(), prompt=PROMPT, context_id="large" if number == 2 else None) for number in range(6)]
    await caught_up(recorder, 20)
    assert sorted(await stored(postgres_url)) == sorted(ids)


async def test_batches_grow_again_once_the_database_is_quick(recorder: Recorder, relay: Relay) -> None:
    relay.stall()
    await away(recorder)
    relay.restore()
    await caught_up(recorder)
    for _ in range(6):
        for number in range(600):
            recorder.record(talk(number), prompt=PROMPT)
        await recorder.flush()
    assert recorder._size == recorder_module.BATCH


async def test_a_folder_that_cannot_be_worked_on_ends_no_recording(
    recorder: Recorder,
    relay: Relay,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    postgres_url: str,
) -> None:
    relay.cut()
    await away(recorder)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(Path, "unlink", refused)
    monkeypatch.setattr(recorder_module, "DISK_AGAIN_SECONDS", 0.05)
    relay.restore()
    async with asyncio.timeout(10):
        while "not yours" not in caplog.text:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)
    later = recorder.record(talk(7), prompt=PROMPT)
    await recorder.flush()
    monkeypatch.undo()
    await caught_up(recorder)
    assert later in await stored(postgres_url)
