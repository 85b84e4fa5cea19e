"""What recording and reading cost, against what the same server does without any client.

``python benchmarks/storage.py [PAIRS]``: (task of 2 kB, vote) pairs, durable, in batches and one by one, then the
dataset's stream and the metrics over what was stored. The bar for batches is 55 % of the in-server limit.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from machine import machine

from bindu.dspy.collector import new_id, record_feedback, record_task
from bindu.dspy.models import Feedback, Task, TaskQuery
from bindu.dspy.postgres.embedded import start
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import use_storage
from bindu.settings import StorageSettings

BAR = 0.55
AGENT = "bench"
TALK = [{"role": "user", "content": "q" * 1_000}, {"role": "assistant", "content": "a" * 1_000}]
LIMIT = """
WITH given AS (
    SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n), 3, '0')
            || '8' || substr(md5(n::text || random()::text), 1, 15))::uuid AS id
    FROM generate_series(1, $1) AS n
), stored AS (
    INSERT INTO bindu_dspy.tasks (agent_id, id, prompt_id, unit_id, state, history, created_at)
    SELECT 'bench', id, 1, id::text, 'completed', $2::jsonb, now() FROM given RETURNING id
)
SELECT count(*) FROM stored
"""
LIMIT_VOTES = """
INSERT INTO bindu_dspy.task_feedback
    (agent_id, task_id, id, prompt_id, unit_id, rater_id, kind, score, feedback_data, created_at)
SELECT 'bench', t.id, gen_random_uuid(), 1, t.unit_id, '', 'rating', .8, '{"rating": 4}', now()
FROM bindu_dspy.tasks AS t
WHERE NOT EXISTS (SELECT FROM bindu_dspy.task_feedback AS f WHERE f.agent_id = 'bench' AND f.task_id = t.id)
"""


async def seconds(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def in_server(url: str, pairs: int) -> float:
    connection = await asyncpg.connect(url)
    history = json.dumps(TALK)
    taken = 0.0
    for _ in range(pairs // 2_000):
        taken += await seconds(connection.execute(LIMIT.replace("$1", "2000").replace("$2", f"'{history}'")))
        taken += await seconds(connection.execute(LIMIT_VOTES))
    await connection.close()
    return pairs / taken


def a_pair() -> tuple[Task, Feedback]:
    task = Task(agent_id=AGENT, id=new_id(), prompt_id=1, history=TALK)
    vote = Feedback(
        agent_id=AGENT, task_id=task.id, id=new_id(), kind="rating", score=0.8, data={"rating": 4}, rater_id=""
    )
    return task, vote


async def batches(storage: PostgresStorage, pairs: int, size: int = 500) -> float:
    async def writer(count: int) -> None:
        for _ in range(count // size):
            tasks, votes = zip(*(a_pair() for _ in range(size)), strict=True)
            await storage.add_tasks(tasks)
            await storage.add_feedback(votes)

    async def both() -> None:
        await asyncio.gather(writer(pairs // 2), writer(pairs // 2))

    return pairs / await seconds(both())


async def one_by_one(pairs: int, at_once: int = 8) -> float:
    async def writer() -> None:
        for _ in range(pairs // at_once):
            task = await record_task(TALK, prompt_id=1, agent_id=AGENT)
            await record_feedback(task, {"rating": 4}, agent_id=AGENT)

    async def all_of_them() -> None:
        await asyncio.gather(*(writer() for _ in range(at_once)))

    return pairs / await seconds(all_of_them())


async def stream(storage: PostgresStorage) -> tuple[float, int]:
    count = 0
    began = time.perf_counter()
    async for _ in storage.read_tasks(TaskQuery(agent_id=AGENT, limit=1_000_000)):
        count += 1
    return count / (time.perf_counter() - began), count


async def measure(pairs: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder) / "postgres")
        storage = await PostgresStorage.connect(server.url, StorageSettings())
        await storage.bootstrap(AGENT, "You help.")
        await storage.add_tasks([Task(agent_id=AGENT, id=new_id(datetime.now(UTC)), prompt_id=1, history=TALK)])
        limit = await in_server(server.url, pairs)
        batched = await batches(storage, pairs)
        with use_storage(storage):
            single = await one_by_one(pairs // 10)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        read, count = await stream(storage)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1_000
        metrics = await seconds(storage.prompt_metrics(AGENT, [1]))
        await storage.close()
        server.close()
    print(f"in the server, no client   {limit:9,.0f} pairs/s")
    print(f"batches of 500, 2 writers  {batched:9,.0f} pairs/s  {batched / limit:5.2f} x the limit  bar {BAR}")
    print(f"one by one, 8 at once      {single:9,.0f} pairs/s  {single / limit:5.2f} x the limit")
    print(f"read_tasks, rated          {read:9,.0f} tasks/s over {count:,}, memory grew by {grown:.0f} MB")
    print(f"prompt_metrics             {metrics * 1_000:9.1f} ms over {count:,} rated tasks")
    return 0 if batched >= BAR * limit else 1


def main() -> int:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    print(machine())
    return asyncio.run(measure(pairs))


if __name__ == "__main__":
    sys.exit(main())
