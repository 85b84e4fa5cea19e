"""``bindu worker`` as processes: replicas share the jobs, one that is killed is followed by another."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.simulation.server import SimulatedServer
from commands import Bindu
from conftest import until
from talks import talk

LEASE = 2.0  # seconds
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
RARELY = {  # no slot begins while a test runs
    "DSPY__WORKER__CANARY": "0 0 29 2 *",
    "DSPY__WORKER__TRAIN": "0 0 29 2 *",
}


class Replicas:
    """Workers of one agent on one machine, whose model is a simulated one on loopback."""

    def __init__(self, folder: Path, url: str, server: SimulatedServer) -> None:
        self.folder, self.server = folder, server
        self.environment = {
            "PATH": os.environ["PATH"],
            "NO_COLOR": "1",
            "STORAGE__POSTGRES_URL": url,
            "DSPY__DEFAULT_MODEL": "openai/simulated",
            "DSPY__API_BASE": server.base_url,
            "DSPY__API_KEY": "none",
            "DSPY__TRAINING__NUM_THREADS": "4",
            "DSPY__WORKER__OPTIMIZER": "gepa",
            "DSPY__WORKER__TRAIN": RARELY["DSPY__WORKER__TRAIN"],
            "DSPY__WORKER__LEASE_SECONDS": str(LEASE),
        }
        self.started: list[subprocess.Popen[str]] = []

    def start(self, **extra: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "bindu.dspy.cli.app", "worker"],
            cwd=self.folder,
            env=self.environment | extra,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    async def wait_for_requests(self, number: int) -> None:
        async with asyncio.timeout(60):
            while self.server.requests < number:  # noqa: ASYNC110 - another thread counts them
                await asyncio.sleep(0.005)


@pytest.fixture
def replicas(tmp_path: Path, postgres_url: str, storage: PostgresStorage) -> Iterator[Replicas]:
    with SimulatedServer(0) as server:
        made = Replicas(tmp_path, postgres_url, server)
        yield made
        for process in made.started:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


async def holder(storage: PostgresStorage) -> str | None:
    return {job.name: job.holder for job in await storage.jobs("default")}["train"]


async def ended(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str]:
    process.send_signal(how)
    _, err = await asyncio.wait_for(asyncio.to_thread(process.communicate), 30)
    return process.returncode, err


async def test_a_replica_killed_in_the_middle_of_training_is_followed_within_a_lease(
    storage: PostgresStorage, replicas: Replicas, postgres_url: str
) -> None:
    await talk(storage, 210)
    await storage.enroll_job("default", "train", slot=LONG_AGO)
    first = replicas.start(DSPY__WORKER__CANARY="")
    await replicas.wait_for_requests(100)
    second = replicas.start(DSPY__WORKER__CANARY="")
    await storage.bootstrap("other", "Be kind.")
    await until(postgres_url, "SELECT count(*) FROM bindu_dspy.jobs WHERE agent_id = 'other'", 1)  # the second is up
    assert f":{first.pid}:" in (await holder(storage) or "")
    first.kill()
    killed_at = time.monotonic()
    async with asyncio.timeout(20):
        while f":{second.pid}:" not in (await holder(storage) or ""):  # noqa: ASYNC110 - another process takes it
            await asyncio.sleep(0.02)
    took = time.monotonic() - killed_at
    assert took < LEASE + LEASE / 3 + 2  # the lease, the pause between looks, a loaded machine
    await until(
        postgres_url, "SELECT last_outcome FROM bindu_dspy.jobs WHERE agent_id = 'default'", "improved", seconds=60
    )
    again, orphan = await storage.runs("default")
    assert (again.outcome, again.resumes, orphan.outcome) == ("improved", orphan.id, "aborted")
    assert "interrupted" in (orphan.reason or "")  # it ended with its worker: nobody trained beside the second one
    code, err = await ended(second, signal.SIGTERM)
    assert code == 0, err
    assert "train ended after" in err


async def test_stopped_it_stops_its_training_and_gives_the_job_back(
    storage: PostgresStorage, replicas: Replicas, postgres_url: str
) -> None:
    await talk(storage, 210)
    await storage.enroll_job("default", "train", slot=LONG_AGO)
    busy = replicas.start(DSPY__WORKER__CANARY="")
    await replicas.wait_for_requests(150)
    code, err = await ended(busy, signal.SIGTERM)
    assert code == 0, err
    [job] = await storage.jobs("default")
    assert (job.holder, job.last_slot, job.last_outcome) == (None, LONG_AGO, "interrupted")
    [run] = await storage.runs("default")
    assert (run.state, run.outcome) == ("ended", "aborted")
    spent = replicas.server.requests
    idle = replicas.start(DSPY__WORKER__TRAIN="")
    await until(postgres_url, "SELECT count(*) FROM bindu_dspy.jobs WHERE name = 'canary'", 1)
    code, err = await ended(idle, signal.SIGINT)
    assert code == 130, err
    assert replicas.server.requests == spent


async def test_once_runs_what_is_due_and_says_it_as_one_object(storage: PostgresStorage, bindu: Bindu) -> None:
    await storage.bootstrap("a", "Be kind.")
    first = bindu("worker", "--once", "--json", **RARELY)
    assert json.loads(first.stdout) == {"ended": [], "dry_run": False}, first.stderr
    assert {job.name for job in await storage.jobs("a")} == {"canary", "train"}
    await storage.enroll_job("b", "canary", slot=LONG_AGO)
    await storage.bootstrap("b", "Be kind.")
    looked = bindu("worker", "--dry-run", "--agent", "b", **RARELY)
    assert (looked.returncode, looked.stdout[:34]) == (0, "canary of agent 'b' is due since 2")
    done = bindu("worker", "--once", "--json", **RARELY)
    [one] = json.loads(done.stdout)["ended"]
    assert (one["agent_id"], one["job"], one["outcome"]) == ("b", "canary", "nothing to decide")
    assert "Nothing is due" in bindu("worker", "--once", **RARELY).stdout


async def test_once_exits_with_1_when_a_job_failed_and_says_which(storage: PostgresStorage, bindu: Bindu) -> None:
    await storage.bootstrap("a", "Be kind.")
    for name in ("canary", "train"):
        await storage.enroll_job("a", name, slot=LONG_AGO)
    done = bindu("worker", "--once", "--json", **RARELY, DSPY__WORKER__STRATEGY="no-such-strategy")
    outcomes = {job["job"]: job["outcome"] for job in json.loads(done.stdout)["ended"]}
    assert outcomes == {"canary": "nothing to decide", "train": "failed: exit code 2"}
    assert done.returncode == 1, done.stderr
    again = bindu("worker", "--once", "--json", **RARELY)  # a failed job waits for its next time
    assert (json.loads(again.stdout)["ended"], again.returncode) == ([], 0)


def test_what_cannot_be_asked_for_is_said(bindu: Bindu) -> None:
    wrong = bindu("worker", "--json")
    assert (wrong.returncode, "Add --once" in wrong.stderr) == (2, True)
    wrong = bindu("worker", "--once", DSPY__WORKER__TRAIN="daily")
    assert (wrong.returncode, "DSPY__WORKER__TRAIN is 'daily'" in wrong.stderr) == (4, True)
    wrong = bindu("worker", "--once", STORAGE__POSTGRES_URL="postgresql://nobody@127.0.0.1:1/none")
    assert wrong.returncode == 4
    assert "Traceback" not in wrong.stderr
