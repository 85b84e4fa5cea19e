"""Real processes at once: they share nothing but the database."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import Storage
from bindu.settings import StorageSettings
from samples import AGENT, open_trial

RACER = """
import asyncio, json, sys
from samples import AGENT, a_rollout, a_task, a_vote
from bindu.dspy.errors import StaleRolloutError
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.settings import StorageSettings

async def main(url, deed, number):
    storage = await PostgresStorage.connect(url, StorageSettings(pool_size=2))
    rollout = await a_rollout(storage, verdict="step_up", share_after=0.2) if deed == "apply" else None
    print("ready", flush=True)
    sys.stdin.readline()
    if deed == "bootstrap":
        done = (await storage.bootstrap(AGENT, f"Be kind, says {number}.")).text
        ids = await storage.add_tasks([a_task(external_id=f"r{n}") for n in range(50)])
        await storage.add_feedback([a_vote(task_id, number / 7) for task_id in ids])
        done = [done, [str(task_id) for task_id in ids]]
    else:
        try:
            done = (await storage.apply(rollout)).window
        except StaleRolloutError:
            done = None
    await storage.close()
    print(json.dumps(done))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def race(url: str, deed: str, count: int = 8) -> list[object]:
    """Let processes get ready, send them off together, and collect what each did."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, url, deed, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in range(count)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        return [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()


async def test_eight_processes_on_a_blank_database_make_one_schema_one_prompt_and_one_task_per_id(
    blank_url: str,
) -> None:
    done = race(blank_url, "bootstrap")
    assert all(one == done[0] for one in done)
    storage = await PostgresStorage.connect(blank_url, StorageSettings())
    assert len(await storage.prompts(AGENT)) == 1
    metrics = (await storage.prompt_metrics(AGENT, [1]))[1]
    assert (metrics.num_interactions, metrics.num_rated) == (50, 50)
    await storage.close()


async def test_of_eight_controllers_in_eight_processes_one_moves_traffic(storage: Storage, postgres_url: str) -> None:
    await open_trial(storage)
    done = race(postgres_url, "apply")
    assert sorted(done, key=str) == [1, *[None] * 7]
    serving = await storage.serving(AGENT)
    assert serving is not None
    assert (serving.share, serving.version, serving.epoch) == (0.2, 3, 1)
