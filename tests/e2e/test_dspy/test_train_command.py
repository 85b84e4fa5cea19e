"""``bindu train`` as people and schedulers run it, against a model behind HTTP: killed, detached, limited, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.simulation.server import Faults, SimulatedServer
from talks import talk

PRICE = (0.5, 1.5)  # dollars per million tokens, in and out
TRAIN = ("train", "--optimizer", "gepa", "--require-feedback", "--json")


class Machine:
    """A machine with the agent's data, where commands are run against a simulated model on loopback."""

    def __init__(self, folder: Path, url: str, server: SimulatedServer) -> None:
        self.folder = folder
        self.server = server
        self.environment = {
            "PATH": os.environ["PATH"],
            "NO_COLOR": "1",
            "STORAGE__POSTGRES_URL": url,
            "DSPY__DEFAULT_MODEL": "openai/simulated",
            "DSPY__API_BASE": server.base_url,
            "DSPY__API_KEY": "none",
            "DSPY__TRAINING__NUM_THREADS": "4",
            "DSPY__TRAINING__PRICES": json.dumps({"openai/simulated": PRICE}),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "bindu.dspy.cli.app", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> tuple[int, Any, str]:
        """Exit code, what was printed as JSON (else as text), and standard error."""
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        return process.returncode, json.loads(out) if out.startswith("{") else out, err

    @property
    def billed(self) -> float:
        """US dollars that the provider asks for everything it answered."""
        tokens = self.server.billed
        return (tokens["input"] * PRICE[0] + tokens["output"] * PRICE[1]) / 1_000_000

    def wait_for_requests(self, number: int, process: subprocess.Popen[str] | None = None) -> None:
        until = time.monotonic() + 60
        while self.server.requests < number:
            assert process is None or process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.005)


@pytest.fixture
def machine(tmp_path: Path, postgres_url: str, storage: PostgresStorage) -> Iterator[Machine]:
    with SimulatedServer(0) as server:
        yield Machine(tmp_path, postgres_url, server)


async def test_killed_three_times_it_goes_on_and_asks_only_what_is_missing(
    storage: PostgresStorage, machine: Machine
) -> None:
    await talk(storage, 210)
    for kill in range(1, 4):
        process = machine.start(*TRAIN)
        await asyncio.to_thread(machine.wait_for_requests, 250 * kill, process)
        process.kill()
        await asyncio.to_thread(process.communicate)
    code, run, err = await asyncio.to_thread(machine.run, *TRAIN)
    assert code == 0, err
    assert run["outcome"] == "improved"
    in_flight = 3 * int(machine.environment["DSPY__TRAINING__NUM_THREADS"])  # noted when it was killed, or just sent
    assert machine.server.requests <= run["calls"] <= machine.server.requests + in_flight
    assert run["calls"] <= run["details"]["estimate"]["total"]
    again = [one.outcome for one in await storage.runs("default")]
    assert again == ["improved", "aborted", "aborted", "aborted"]
    assert not list((machine.folder / ".bindu" / "runs").glob("*/*/calls.jsonl.part"))


async def test_it_never_spends_more_than_it_may_and_goes_on_when_it_may_spend_more(
    storage: PostgresStorage, machine: Machine
) -> None:
    await talk(storage, 210)
    machine.server.faults = Faults(malformed=0.03, dead=0.03, latency_ms=5)
    code, _, err = await asyncio.to_thread(machine.run, *TRAIN, "--max-cost", "0.10")
    assert code == 5, err
    assert "would pass its limit of $0.10" in err
    assert 0.05 < machine.billed <= 0.10
    machine.server.faults = Faults()
    code, run, err = await asyncio.to_thread(machine.run, *TRAIN, "--max-cost", "50")
    assert code == 0, err
    assert run["outcome"] == "improved"
    assert 0.10 < machine.billed <= run["cost"] + 1e-6
    assert run["resumes"] is not None


async def test_detached_it_returns_at_once_and_can_be_followed_and_stopped(
    storage: PostgresStorage, machine: Machine
) -> None:
    await talk(storage, 210)
    machine.server.faults = Faults(latency_ms=100)
    begun = time.monotonic()
    code, started, err = await asyncio.to_thread(machine.run, *TRAIN, "--detach")
    assert code == 0, err
    assert time.monotonic() - begun < 8
    await asyncio.to_thread(machine.wait_for_requests, 60)
    code, shown, err = await asyncio.to_thread(machine.run, "runs", "show", started["run_id"], "--json")
    assert code == 0, err
    assert "running" in json.dumps(shown)
    code, _, err = await asyncio.to_thread(machine.run, "runs", "cancel", started["run_id"], "--reason", "enough")
    assert code == 0, err
    async with asyncio.timeout(30):
        while (await storage.runs("default"))[0].state == "running":  # noqa: ASYNC110 - another process ends it
            await asyncio.sleep(0.2)
    (run,) = await storage.runs("default")
    assert (run.outcome, run.details["cause"]) == ("aborted", "cancelled")
    assert "enough" in (run.reason or "")
    assert str(run.id) == started["run_id"]


async def test_a_dry_run_says_what_it_would_cost_and_spends_nothing(storage: PostgresStorage, machine: Machine) -> None:
    await talk(storage, 210)
    code, told, err = await asyncio.to_thread(machine.run, *TRAIN[:-1], "--dry-run")
    assert code == 0, err
    assert "at most" in told
    assert "$" in told
    assert machine.server.requests == 0
    assert await storage.runs("default") == []


async def test_what_cannot_be_gone_on_with_is_said(storage: PostgresStorage, machine: Machine) -> None:
    await talk(storage, 210)
    code, _, err = await asyncio.to_thread(machine.run, *TRAIN, "--resume")
    assert code == 3
    assert "no run of this command to go on with" in err
