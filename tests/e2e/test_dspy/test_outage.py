"""``bindu serve`` under load while its database is away: no request fails, and no exchange is lost or stored twice.

OUTAGE_SECONDS=60 makes the outages longer than the few seconds that CI waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic

import httpx
import psutil
import pytest

from bindu.dspy.postgres import embedded
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.simulation.server import SimulatedServer
from bindu.settings import StorageSettings
from commands import BIN
from conftest import fetch, until, value
from samples import open_trial

OUTAGE = float(os.environ.get("OUTAGE_SECONDS", "3"))
RATE = 50.0  # requests per second
TEXT = "Be kind."  # what open_trial begins with
KINDS = ("killed", "stopped")


class Database:
    """A PostgreSQL of its own that tests may treat badly."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._share = embedded.start(folder)
        self.url = self._share.url

    def _processes(self) -> list[psutil.Process]:
        parent = psutil.Process(int((self._folder / "data" / "postmaster.pid").read_text().split()[0]))
        return [*parent.children(recursive=True), parent]

    def go(self, kind: str) -> None:
        self._stopped = self._processes()
        if kind == "killed":
            self._stopped.insert(0, self._stopped[-1].parent())  # the supervisor, which would start another one
        for process in self._stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL if kind == "killed" else signal.SIGSTOP)

    def come_back(self, kind: str) -> None:
        if kind == "killed":
            psutil.wait_procs(self._stopped, 10)
            before, self._share = self._share, embedded.start(self._folder)
            before.close()
            assert self._share.url == self.url
        else:
            for process in self._stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._share.close()


def _lasting_port() -> int:
    """A free port that no client is given while the server is away: one below those that the system hands out."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


class Server:
    """``bindu serve`` as a subprocess, on one port however often it is started."""

    def __init__(self, folder: Path, url: str, upstream: str) -> None:
        self._port = _lasting_port()
        self.origin = f"http://127.0.0.1:{self._port}"
        self._folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "STORAGE__POSTGRES_URL": url,
            "DSPY__PROXY__UPSTREAM": upstream,
        }
        self.start()

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(BIN / "bindu"), "serve", "--port", str(self._port), "--json"],
                cwd=self._folder,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline()) == {"url": self.origin}

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(30) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    def log(self) -> str:
        return (self._folder / "log").read_text()


class Load:
    """Chats at a steady rate, each in a conversation of its own; ``served`` are the prompts by the answers' ids."""

    def __init__(self, server: Server, *, tries: int = 1) -> None:
        self._server = server
        self._tries = tries
        self._asked = 0
        self.served: dict[str, str] = {}
        self.failed: list[str] = []
        self.phase = "before"
        self.seconds: dict[str, list[float]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self._run())
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def _run(self) -> None:
        chance = random.Random(7)
        limits = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(base_url=self._server.origin, limits=limits, timeout=30) as http,
            asyncio.TaskGroup() as group,
        ):
            with contextlib.suppress(asyncio.CancelledError):
                while True:
                    group.create_task(self._ask(http))
                    await asyncio.sleep(chance.expovariate(RATE))

    async def _ask(self, http: httpx.AsyncClient) -> None:
        began, phase, number = monotonic(), self.phase, self._asked
        self._asked += 1
        messages = [{"role": "system", "content": TEXT}, {"role": "user", "content": f"Question {number}?"}]
        body = {"model": "m", "messages": messages, "stream": bool(number % 2)}
        for left in reversed(range(self._tries)):
            try:
                answer = await http.post("/v1/chat/completions", json=body, headers={"X-Prompt-Name": "support"})
                answer.raise_for_status()
                break
            except httpx.HTTPError as error:
                if not left:
                    self.failed.append(repr(error))
                    return
                await asyncio.sleep(0.1)
        self.seconds.setdefault(phase, []).append(monotonic() - began)
        first = answer.text.partition("\n")[0].removeprefix("data: ") if number % 2 else answer.text
        self.served[json.loads(first)["id"]] = answer.headers["x-prompt-version"]

    def figures(self) -> str:
        told = []
        for phase, took in self.seconds.items():
            ranked = sorted(1e3 * seconds for seconds in took)
            median, late = ranked[len(ranked) // 2], ranked[len(ranked) * 99 // 100]
            told.append(f"{phase}: {len(took)} requests, median {median:.1f}, p99 {late:.1f}, max {ranked[-1]:.0f} ms")
        return "; ".join(told)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "postgres")
    yield database
    database.close()


@pytest.fixture
async def server(database: Database, tmp_path: Path) -> AsyncIterator[Server]:
    """It serves agent support, two prompts of which share the traffic."""
    storage = await PostgresStorage.connect(database.url, StorageSettings())
    await open_trial(storage, "support", 0.5)
    await storage.close()
    with SimulatedServer() as model:
        server = Server(tmp_path, database.url, model.base_url)
        yield server
        if server.process.poll() is None:
            server.stop()


async def everything_once(url: str, load: Load) -> dict[str, int]:
    """Wait until all that was answered is stored, look that it is stored once, and return the prompts it counts for."""
    assert load.failed == []
    await until(url, "SELECT count(*) FROM bindu_dspy.tasks", len(load.served), seconds=30)
    query = "SELECT k.external_id, t.prompt_id FROM bindu_dspy.tasks t JOIN bindu_dspy.task_keys k ON k.task_id = t.id"
    prompts = {row["external_id"]: row["prompt_id"] for row in await fetch(url, query)}
    assert prompts.keys() == load.served.keys()
    assert await value(url, "SELECT count(*) FROM bindu_dspy.tasks WHERE state <> 'completed'") == 0
    return prompts


@pytest.mark.parametrize("kind", KINDS)
async def test_while_the_database_is_away_every_request_is_answered_and_every_exchange_is_stored_once(
    kind: str, database: Database, server: Server
) -> None:
    load = Load(server)
    async with load.running():
        await asyncio.sleep(1)
        load.phase = kind
        database.go(kind)
        await asyncio.sleep(OUTAGE)
        await asyncio.to_thread(database.come_back, kind)
        load.phase = "after"
        await asyncio.sleep(1)
    prompts = await everything_once(database.url, load)
    print(load.figures())
    assert {name: str(number) for name, number in prompts.items()} == load.served  # each counts for what answered it
    assert set(prompts.values()) == {1, 2}
    assert statistics.median(load.seconds[kind]) < 0.1
    assert max(load.seconds[kind]) < 1.5
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("kind", KINDS if "OUTAGE_SECONDS" in os.environ else KINDS[:1])  # the other takes long
async def test_a_server_restarted_while_the_database_is_away_loses_nothing_either(
    kind: str, database: Database, server: Server
) -> None:
    load = Load(server, tries=200)
    async with load.running():
        await asyncio.sleep(0.5)
        load.phase = kind
        database.go(kind)
        await asyncio.sleep(OUTAGE / 3)
        began = monotonic()
        await asyncio.to_thread(server.stop)
        stopped = monotonic() - began
        await asyncio.to_thread(server.start)
        started = monotonic() - began - stopped
        await asyncio.sleep(OUTAGE / 3)
        await asyncio.to_thread(database.come_back, kind)
        load.phase = "after"
        await asyncio.sleep(0.5)
    await everything_once(database.url, load)
    print(f"stopped in {stopped:.1f} s, started in {started:.1f} s; {load.figures()}")
    assert "default" in load.served.values()  # what answers before the database was ever reached
    assert "Traceback" not in server.log()
