"""What training finds: the true held-out quality of SIMBA's prompt in five simulated worlds.

``python benchmarks/training.py [SEED ...]``. Model, users, reflector and judge are simulated; the database and the
whole run are real. The peer is the imitation objective, the baseline that the judge replaces, on the same logs.
Exit code 1 when the mean of the judge's prompts misses its bar.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from machine import machine

from bindu.dspy.objective import ObjectiveName
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.simulation.desk import START_PROMPT, Desk
from bindu.dspy.storage import use_storage
from bindu.dspy.train import run_training
from bindu.settings import StorageSettings, app_settings

BAR = 0.88  # mean true quality, from a start of about .29
CONVERSATIONS = 400


async def one(seed: int, objective: ObjectiveName) -> tuple[str, float, int, float, float]:
    """Outcome, true quality of the best known prompt, calls, wall seconds and milliseconds of CPU per call."""
    with tempfile.TemporaryDirectory() as folder:
        storage = await PostgresStorage.connect(f"embedded:{Path(folder) / 'postgres'}", StorageSettings())
        with use_storage(storage):
            desk = Desk(seed=seed, agent_id="bench")
            await bootstrap_prompt(START_PROMPT, agent_id="bench")
            now = await storage.now() - timedelta(days=2)
            await desk.converse(CONVERSATIONS, now=now)
            wall, cpu = time.perf_counter(), time.process_time()
            run = await run_training("simba", agent_id="bench", engine=desk.engine, seed=seed, objective=objective)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            serving = await storage.serving("bench")
            assert serving is not None
            found = (serving.candidate or serving.active).text
            await stop_prompt_refresh()
        await storage.close()
    return run.outcome or "", desk.measure(found), run.calls, wall, cpu / run.calls * 1_000


def main() -> int:
    app_settings.dspy.training.num_threads = 1  # repeatable
    seeds = [int(word) for word in sys.argv[1:]] or list(range(5))
    print(machine())
    print(f"{'objective':10} seed  start  outcome    quality  calls  seconds  CPU ms/call")
    means = {}
    objectives: tuple[ObjectiveName, ...] = ("judge", "imitation")
    for objective in objectives:
        qualities = []
        for seed in seeds:
            start = Desk(seed=seed, agent_id="bench").measure(START_PROMPT)
            outcome, quality, calls, wall, cpu = asyncio.run(one(seed, objective))
            qualities.append(quality)
            print(
                f"{objective:10} {seed:4} {start:6.3f}  {outcome:9} {quality:8.3f} {calls:6,} {wall:8.1f} {cpu:10.2f}"
            )
        means[objective] = statistics.fmean(qualities)
    ratio = means["judge"] / means["imitation"]
    print(f"mean {means['judge']:.3f}, {ratio:.2f} x imitation ({means['imitation']:.3f}); bar {BAR}")
    return 0 if means["judge"] >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
