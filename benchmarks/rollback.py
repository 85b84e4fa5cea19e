"""How long a rolled-back candidate still answers: 20 router processes, one PostgreSQL.

``python benchmarks/rollback.py [WITH_NOTICES] [BY_POLLS]``, the numbers of rollbacks. Every process asks each
millisecond for one of 100 units and remembers when the candidate was served last. A rollback takes from its commit,
by the server's own timestamp, to the last such request of any process. Bars: 99 of 100 rollbacks within
.1 s with notices and within 1 s by polls alone (``STORAGE__LISTEN=false``); exit code 1 when one is missed. Routers,
server and this program share the machine's cores: with more processes than that, part of a figure is their queue.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from time import sleep, time
from typing import Any

import asyncpg
from machine import machine

from bindu.dspy.models import Rollout, Serving, Trial
from bindu.dspy.postgres.embedded import EmbeddedServer, start
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import select_prompt_with_canary
from bindu.settings import StorageSettings
from bindu.utils.loop import run

ROUTERS = 20
UNITS = [f"conversation-{number}" for number in range(100)]
PAUSE = 0.001  # seconds between two requests of a process
AGENT = "bench"
BARS = {"with notices": 0.1, "by polls alone": 1.0}
COMMITTED = (
    f"SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM bindu_dspy.serving WHERE agent_id = '{AGENT}'"
)
LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"


async def route() -> None:
    """One router process. It says ``on`` when the candidate begins to answer, and ``off`` with the last time it did."""
    parent, turn, last, on_trial = os.getppid(), 0, 0.0, None
    while os.getppid() == parent:
        turn += 1
        prompt = await select_prompt_with_canary(unit_id=UNITS[turn % len(UNITS)], agent_id=AGENT)
        if prompt is None:
            raise SystemExit("error: there is no prompt")
        if prompt["arm"] == "candidate":
            last = time()
            if on_trial is None:
                on_trial = prompt["experiment_id"]
                print("on", on_trial, last, flush=True)
        elif on_trial is not None and prompt["experiment_id"] is None:
            print("off", on_trial, last, flush=True)
            on_trial = None
        await asyncio.sleep(PAUSE)


async def told(routers: list[Process], word: str, experiment_id: int) -> list[float]:
    """What every router says next. Anything else but the expected word is an error, such as an answer after the end."""

    async def next_line(router: Process) -> float:
        line = await asyncio.wait_for(router.stdout.readline(), 60) if router.stdout else b""
        said, number, value = line.decode().split() or ("nothing", "0", "0")
        if (said, int(number)) != (word, experiment_id):
            raise RuntimeError(f"a router said {said} {number} instead of {word} {experiment_id}")
        return float(value)

    return await asyncio.gather(*map(next_line, routers))


async def serving(storage: PostgresStorage) -> Serving:
    found = await storage.serving(AGENT)
    if found is None:
        raise SystemExit("error: there is no prompt")
    return found


async def rollback(storage: PostgresStorage, routers: list[Process], chance: random.Random, url: str) -> float:
    """Seconds from the commit to the candidate's last answer."""
    before = await serving(storage)
    trial = Trial(
        agent_id=AGENT,
        text=f"You help, take {before.version}.",
        expected_version=before.version,
        origin="manual",
        parent_id=1,
        share=0.5,
    )
    experiment = await storage.begin_trial(trial)
    await told(routers, "on", experiment.id)
    await asyncio.sleep(chance.uniform(0.2, 0.8))  # at any moment between two polls
    now = await serving(storage)
    move = Rollout(
        agent_id=AGENT,
        experiment_id=experiment.id,
        expected_version=now.version,
        verdict="roll_back",
        share_before=0.5,
        share_after=0.0,
        outcome="rolled_back",
        reason="The benchmark says so.",
    )
    await storage.apply(move)
    last = max(await told(routers, "off", experiment.id))
    return last - float(await value(url, COMMITTED))


async def value(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def until(url: str, query: str, expected: object) -> None:
    async with asyncio.timeout(60):
        while await value(url, query) != expected:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.1)


def start_with_timestamps(folder: Path) -> EmbeddedServer:
    """A server that notes when each transaction was committed."""
    server = start(folder)
    asyncio.run(value(server.url, "ALTER SYSTEM SET track_commit_timestamp = on"))
    while asyncio.run(value(server.url, "SHOW track_commit_timestamp")) != "on":
        server.close()
        sleep(2)  # until it has stopped, as nobody else uses it
        server = start(folder)
    return server


async def measure(url: str, rounds: int, *, listen: bool) -> list[float]:
    storage = await PostgresStorage.connect(url, StorageSettings())
    await storage.bootstrap(AGENT, "You help.")
    env = os.environ | {"STORAGE__POSTGRES_URL": url, "STORAGE__LISTEN": str(listen), "STORAGE__POOL_SIZE": "2"}
    command = (sys.executable, __file__, "route")
    routers = [await asyncio.create_subprocess_exec(*command, env=env, stdout=PIPE) for _ in range(ROUTERS)]
    chance = random.Random(7)
    try:
        if listen:
            await until(url, LISTENERS, ROUTERS)
        await rollback(storage, routers, chance, url)  # everybody is awake
        return [await rollback(storage, routers, chance, url) for _ in range(rounds)]
    finally:
        for router in routers:
            router.kill()
            await router.wait()
        await storage.close()


def report(name: str, taken: list[float]) -> bool:
    p99 = statistics.quantiles(taken, n=100, method="inclusive")[98]
    print(
        f"{name:15} {len(taken):4} rollbacks  p50 {statistics.median(taken) * 1e3:6.1f} ms  p99 {p99 * 1e3:6.1f} ms  "
        f"max {max(taken) * 1e3:6.1f} ms  bar {BARS[name] * 1e3:.0f} ms"
    )
    return p99 <= BARS[name]


def main() -> int:
    if sys.argv[1:] == ["route"]:
        run(route())
        return 0
    with_notices = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    by_polls = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    print(machine())
    print(f"{ROUTERS} processes that each pause {PAUSE * 1e3:.0f} ms between two requests")
    met = True
    with tempfile.TemporaryDirectory() as folder:
        server = start_with_timestamps(Path(folder) / "postgres")
        for name, rounds in zip(BARS, (with_notices, by_polls), strict=True):
            met &= report(name, asyncio.run(measure(server.url, rounds, listen=name == "with notices")))
        server.close()
    print("all bars met" if met else "a bar was missed")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
