"""Workers on one database: every job of every slot once, whoever dies, loses its lease or was away."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.housekeeping import Job
from bindu.dspy.leases import run_leased
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.worker import EndedJob, Worker
from bindu.dspy.worker import training as training_module
from bindu.dspy.worker.training import train_apart
from bindu.settings import SettingsError, StorageSettings, WorkerSettings
from conftest import execute, until, value
from relay import Relay
from samples import AGENT
from trials import START, running_trial

SLOT = datetime(2026, 3, 1, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SHORT = timedelta(seconds=0.6)
CANARY_ONLY = WorkerSettings(train="", canary="0 * * * *")
TRAINER = [sys.executable, "-c"]
WAITS = "import pathlib, time; pathlib.Path('began').write_text(''); time.sleep(60)"
OBEYS = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(130));"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"


async def claimed(storage: PostgresStorage, lease: timedelta = SHORT) -> Job:
    await storage.enroll_job("a", "train", slot=SLOT - DAY)
    job = await storage.claim_job("a", "train", "us", slot=SLOT, lease=lease)
    assert job is not None
    return job


async def take(url: str) -> None:
    """Somebody else holds all jobs from now on."""
    taken = "SET holder = 'them', fence = fence + 1, lease_until = now() + interval '1 hour'"
    await execute(url, f"UPDATE bindu_dspy.jobs {taken}")


async def began(folder: Path) -> None:
    async with asyncio.timeout(10):
        while not (folder / "began").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets the program that stands in for training, run in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def becomes(code: str) -> None:
        monkeypatch.setattr(training_module, "command", lambda *_: [*TRAINER, code])

    return becomes


async def test_two_workers_run_each_job_of_each_slot_exactly_once(storage: PostgresStorage) -> None:
    for agent_id in ("a", "b", "c"):
        await storage.bootstrap(agent_id, "Be kind.")
    workers = [Worker(settings=CANARY_ONLY) for _ in range(2)]
    ran: list[EndedJob] = []
    for hour in range(25):
        at = SLOT + hour * HOUR + timedelta(minutes=7)
        for ended in await asyncio.gather(*(worker.run_once(now=at) for worker in workers)):
            ran += ended
    assert Counter((job.agent_id, job.slot) for job in ran) == {
        (agent_id, SLOT + hour * HOUR): 1 for agent_id in ("a", "b", "c") for hour in range(1, 25)
    }
    assert {job.outcome for job in ran} == {"nothing to decide"}


async def test_after_downtime_one_run_catches_up_and_a_clock_that_goes_back_runs_nothing(
    storage: PostgresStorage,
) -> None:
    await storage.bootstrap("a", "Be kind.")
    assert await Worker(settings=CANARY_ONLY).run_once(now=SLOT) == []  # seen for the first time
    [caught_up] = await Worker(settings=CANARY_ONLY).run_once(now=SLOT + 100 * HOUR + timedelta(minutes=59))
    assert caught_up.slot == SLOT + 100 * HOUR
    for hours in (100, 50, -1000, 99):
        assert await Worker(settings=CANARY_ONLY).run_once(now=SLOT + hours * HOUR) == []
    [ended] = await Worker(settings=CANARY_ONLY).run_once(now=SLOT + 101 * HOUR)
    assert ended.slot == SLOT + 101 * HOUR


async def test_what_is_due_can_be_looked_at_and_only_named_agents_are_served(storage: PostgresStorage) -> None:
    for agent_id in ("a", "b"):
        await storage.bootstrap(agent_id, "Be kind.")
    worker = Worker(["b", "nobody"], settings=CANARY_ONLY)
    assert await worker.due(now=SLOT) == []
    assert await storage.jobs("b") == []  # looking enrolls nothing
    await worker.run_once(now=SLOT)
    [due] = await worker.due(now=SLOT + HOUR)
    assert (due.agent_id, due.job, due.slot) == ("b", "canary", SLOT + HOUR)
    assert await storage.jobs("a") == []


async def test_the_canary_takes_its_step_and_its_verdict_is_the_outcome(storage: PostgresStorage) -> None:
    trial = await running_trial(storage)
    await trial.serve(0.2, active=[1.0] * 20, candidate=[0.0] * 20)
    await Worker(settings=CANARY_ONLY).run_once(now=START)
    opened = await storage.decisions(AGENT)
    [ended] = await Worker(settings=CANARY_ONLY).run_once(now=START + HOUR + timedelta(minutes=5))
    [decision, *before] = await storage.decisions(AGENT)
    assert before == opened
    assert ended.outcome == decision.verdict
    [job] = await storage.jobs(AGENT)
    assert (job.name, job.last_slot, job.last_outcome) == ("canary", START + HOUR, decision.verdict)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ('print(\'{"outcome": "improved"}\')', "improved"),
        ("pass", "skipped"),
        ("exit(5)", "budget"),
        ("exit(4)", "unavailable"),
        ("exit(130)", "cancelled"),
        ("exit(1)", "failed: exit code 1"),
        ("print('no JSON')", "failed: JSONDecodeError"),
    ],
)
async def test_how_training_ended_is_kept_and_its_slot_is_done(
    storage: PostgresStorage, trainer: Any, code: str, outcome: str
) -> None:
    trainer(code)
    await storage.bootstrap("a", "Be kind.")
    settings = WorkerSettings(canary="")
    await Worker(settings=settings).run_once(now=SLOT - DAY)
    [ended] = await Worker(settings=settings).run_once(now=SLOT)
    assert ended.outcome.startswith(outcome)
    [job] = await storage.jobs("a")
    assert (job.last_slot, job.last_outcome, job.holder) == (SLOT, ended.outcome, None)
    assert await Worker(settings=settings).run_once(now=SLOT) == []


async def test_training_that_finds_the_database_away_is_tried_again_by_some_replica_but_not_at_once(
    storage: PostgresStorage, postgres_url: str, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.bootstrap("a", "Be kind.")
    settings = WorkerSettings(canary="", lease_seconds=2)
    await storage.enroll_job("a", "train", slot=SLOT - DAY)
    monkeypatch.setenv("STORAGE__POSTGRES_URL", "postgresql://nobody@127.0.0.1:1/none")  # away for the child alone
    with pytest.raises(StorageUnavailableError, match=r"127\.0\.0\.1:1/none cannot be used"):
        await Worker(settings=settings).run_once(now=SLOT)
    [job] = await storage.jobs("a")
    assert job.last_slot == SLOT - DAY
    assert 50 < await value(postgres_url, "SELECT extract(epoch FROM lease_until - now()) FROM bindu_dspy.jobs") <= 60
    trainer('print(\'{"outcome": "improved"}\')')
    assert await Worker(settings=settings).run_once(now=SLOT) == []
    await execute(postgres_url, "UPDATE bindu_dspy.jobs SET lease_until = now()")  # a minute later
    [ended] = await Worker(settings=settings).run_once(now=SLOT)
    assert (ended.slot, ended.outcome) == (SLOT, "improved")


async def test_training_is_asked_for_with_the_settings_of_the_worker() -> None:
    settings = WorkerSettings(optimizer="gepa", strategy="last_n:3", require_feedback=False)
    words = training_module.command("support", settings)[1:]
    assert words[:2] == ["-m", "bindu.dspy.cli.train"]
    told = "--ok-if-skipped --json --for-worker --agent support"
    assert " ".join(words[2:]) == f"--optimizer gepa --strategy last_n:3 {told}"
    assert "--require-feedback" in training_module.command("support", WorkerSettings())


async def test_a_lease_is_renewed_for_as_long_as_its_job_takes(storage: PostgresStorage) -> None:
    job = await claimed(storage)

    async def work() -> str:
        await asyncio.sleep(2.5 * SHORT.total_seconds())
        taken = await storage.claim_job("a", "train", "them", slot=SLOT, lease=SHORT)
        return "alone" if taken is None else "beside another"

    assert await run_leased(storage, job, work, slot=SLOT, lease=SHORT) == "alone"


async def test_a_worker_that_lost_its_lease_stops_its_child(
    storage: PostgresStorage, postgres_url: str, trainer: Any, tmp_path: Path
) -> None:
    trainer(OBEYS + WAITS)
    job = await claimed(storage)
    running = asyncio.create_task(
        run_leased(storage, job, lambda: train_apart("a", WorkerSettings()), slot=SLOT, lease=SHORT)
    )
    await began(tmp_path)
    [child] = children()
    await take(postgres_url)
    assert await asyncio.wait_for(running, 5) is None
    assert not alive(child)
    [taken] = await storage.jobs("a")
    assert (taken.holder, taken.last_slot) == ("them", SLOT - DAY)


async def test_a_child_that_does_not_obey_is_killed(
    storage: PostgresStorage, trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_module, "_GRACE", 0.3)
    trainer(DEAF + WAITS)
    training = asyncio.create_task(train_apart("a", WorkerSettings()))
    await began(tmp_path)
    [child] = children()
    training.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(training, 5)
    assert not alive(child)


async def close_database(server_url: str, postgres_url: str, *, closed: bool = True) -> None:
    """Nobody can connect to it, and all who are connected are thrown out; or they may again."""
    name = urlsplit(postgres_url).path.lstrip("/")
    await execute(server_url, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {not closed}")
    if closed:
        away = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        await execute(server_url, away)


async def test_a_job_that_cannot_be_renewed_for_a_lease_is_stopped(
    storage: PostgresStorage, server_url: str, postgres_url: str
) -> None:
    job, loop = await claimed(storage), asyncio.get_running_loop()
    stopped = []

    async def work() -> str:
        await close_database(server_url, postgres_url)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(loop.time())
        return "never"

    began_at = loop.time()
    assert await run_leased(storage, job, work, slot=SLOT, lease=SHORT) is None
    assert SHORT.total_seconds() <= stopped[0] - began_at < 3 * SHORT.total_seconds()
    await close_database(server_url, postgres_url, closed=False)


async def test_a_silent_database_costs_the_lease_and_not_more_time(storage: PostgresStorage, postgres_url: str) -> None:
    await claimed(storage)
    loop, seconds, stopped = asyncio.get_running_loop(), SHORT.total_seconds(), []
    with Relay(postgres_url) as relay:
        through = await PostgresStorage.connect(relay.url, StorageSettings(pool_size=2, listen=False))

        async def work() -> str:
            relay.stall()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(loop.time())
            return "never"

        [job] = await through.jobs("a")
        began_at = loop.time()
        assert await run_leased(through, job, work, slot=SLOT, lease=SHORT) is None
        assert seconds <= stopped[0] - began_at <= loop.time() - began_at < 3 * seconds
        relay.restore()
        await through.close()


async def test_a_job_is_not_given_back_for_longer_than_a_lease_to_a_silent_database(
    storage: PostgresStorage, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    job, loop = await claimed(storage), asyncio.get_running_loop()
    with Relay(postgres_url) as relay:
        through = await PostgresStorage.connect(relay.url, StorageSettings(pool_size=2, listen=False))
        await through.jobs("a")

        async def work() -> str:
            relay.stall()
            return "improved"

        began_at = loop.time()
        assert await run_leased(through, job, work, slot=SLOT, lease=SHORT) == "improved"
        assert loop.time() - began_at < 2 * SHORT.total_seconds()
        assert "could not be given back" in caplog.text
        relay.restore()
        await through.close()


async def test_a_worker_outlives_its_database_and_says_so_once(
    storage: PostgresStorage, server_url: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await storage.bootstrap("a", "Be kind.")
    await storage.enroll_job("a", "canary", slot=SLOT)
    await close_database(server_url, postgres_url)
    stop = asyncio.Event()
    settings = WorkerSettings(lease_seconds=2)
    with caplog.at_level("WARNING", "bindu.dspy.worker"):
        running = asyncio.create_task(Worker(settings=settings).run(stop))
        async with asyncio.timeout(10):
            while not caplog.records:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.01)
        await asyncio.sleep(1)  # more looks of both lanes
    assert [record.getMessage().count("keeps trying") for record in caplog.records] == [1]
    await close_database(server_url, postgres_url, closed=False)
    await until(postgres_url, "SELECT last_outcome FROM bindu_dspy.jobs WHERE name = 'canary'", "nothing to decide")
    stop.set()
    await asyncio.wait_for(running, 5)


async def test_a_stopped_worker_gives_its_job_back_and_the_next_one_takes_it_at_once(
    storage: PostgresStorage, trainer: Any, tmp_path: Path
) -> None:
    await storage.bootstrap("a", "Be kind.")
    settings, stop = WorkerSettings(canary=""), asyncio.Event()
    await storage.enroll_job("a", "train", slot=SLOT - DAY)
    trainer(OBEYS + WAITS)
    running = asyncio.create_task(Worker(settings=settings).run(stop))
    await began(tmp_path)
    [child] = children()
    stop.set()
    await asyncio.wait_for(running, 10)
    assert not alive(child)
    [job] = await storage.jobs("a")
    assert (job.holder, job.last_slot, job.last_outcome) == (None, SLOT - DAY, "interrupted")
    trainer('print(\'{"outcome": "unchanged"}\')')
    [ended] = await Worker(settings=settings).run_once()
    assert ended.outcome == "unchanged"


async def test_a_schedule_that_is_none_stops_the_worker_before_it_begins() -> None:
    with pytest.raises(SettingsError, match="DSPY__WORKER__CANARY is 'hourly'"):
        Worker(settings=WorkerSettings(canary="hourly"))


def children() -> list[int]:
    """The stand-ins for training that this process started and that live."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    numbers = [int(number) for task in tasks.iterdir() for number in (task / "children").read_text().split()]
    return [number for number in numbers if b"time.sleep(60)" in Path(f"/proc/{number}/cmdline").read_bytes()]


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
