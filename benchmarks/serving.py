"""What serving costs: a fresh process from import to the first recorded vote, and one selection.

``python benchmarks/serving.py [ROUNDS]``. The peer is the same work without us: a process that imports asyncpg,
connects to the same PostgreSQL and reads one row. Exit code 1 when a bar is missed by the median.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import timeit
from pathlib import Path

from machine import machine

from bindu.dspy.models import Prompt, Serving
from bindu.dspy.postgres.embedded import start
from bindu.dspy.prompt_selector import Snapshot
from bindu.dspy.routing import select

BARS = {"seconds": 0.3, "megabytes": 60.0, "select ns": 1_000.0}
END = "import psutil; print(time.perf_counter() - began, psutil.Process().memory_info().rss / 2**20)"
OURS = f"""
import time; began = time.perf_counter()
import asyncio
from bindu.dspy import bootstrap_prompt, close_storage, record_feedback, record_task
from bindu.dspy import select_prompt_with_canary, stop_prompt_refresh

async def main():
    await bootstrap_prompt("You help.")
    prompt = await select_prompt_with_canary(unit_id="one")
    talk = [{{"role": "user", "content": "Where?"}}, {{"role": "assistant", "content": "There."}}]
    task = await record_task(talk, prompt=prompt)
    await record_feedback(task, {{"thumbs_up": True}})
    await stop_prompt_refresh()
    await close_storage()

asyncio.run(main())
{END}
"""
PEER = f"""
import time; began = time.perf_counter()
import asyncio, os
import asyncpg

async def main():
    connection = await asyncpg.connect(os.environ["STORAGE__POSTGRES_URL"])
    await connection.fetchrow("SELECT 1")
    await connection.close()

asyncio.run(main())
{END}
"""


def measured(code: str, url: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"STORAGE__POSTGRES_URL": url},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def nanoseconds(statement: str, names: dict[str, object]) -> float:
    return min(timeit.repeat(statement, globals=names, number=100_000, repeat=9)) / 100_000 * 1e9


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder) / "postgres")
        measured(OURS, server.url)  # migrates, and warms the disk cache
        pairs = [(measured(OURS, server.url), measured(PEER, server.url)) for _ in range(rounds)]
        server.close()
    figures = {}
    for place, name in enumerate(("seconds", "megabytes")):
        ours, peer = (statistics.median(pair[side][place] for pair in pairs) for side in (0, 1))
        figures[name] = ours
        print(f"{name:10} {ours:8.3f}  {ours / peer:5.2f} x asyncpg alone ({peer:.3f})  bar {BARS[name]}")
    prompts = [Prompt(agent_id="a", id=n, text="You help.", status="active", traffic=0.5) for n in (1, 2)]
    serving = Serving(agent_id="a", version=1, active=prompts[0], candidate=prompts[1], share=0.1, experiment_id=7)
    names = {"select": select, "serving": serving, "chosen": Snapshot(serving, {"active": {}, "candidate": {}})}
    figures["select ns"] = nanoseconds("select(serving, 'conversation-17', .5)", names)
    whole = nanoseconds("chosen.choose('conversation-17', .5)", names)
    print(f"select     {figures['select ns']:8.0f} ns, with the answer's dictionary {whole:.0f} ns  bar 1000 ns")
    missed = [name for name, bar in BARS.items() if figures[name] > bar]
    print(f"missed: {', '.join(missed)}" if missed else "all bars met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
