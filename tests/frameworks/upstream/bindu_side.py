"""Runs in Bindu's own environment: ``bindu_side.py store URL`` and ``bindu_side.py ask EXAMPLE``."""

import asyncio
import json
import runpy
import sys
from pathlib import Path
from uuid import UUID, uuid4

DID = "did:bindu:ann:support:0f3c"


async def store(url: str) -> dict:
    """Tables, tasks and feedback, by Bindu's own storage."""
    from bindu.server.storage.postgres_storage import PostgresStorage

    storage = PostgresStorage(url, did=DID)
    await storage.connect()
    context, rated = uuid4(), uuid4()
    for task, question, answer in ((rated, "Where is my parcel?", "On its way."), (uuid4(), "And now?", "Here.")):
        await storage.submit_task(context, message(task, context, "user", question))
        await storage.update_task(task, "completed", new_messages=[message(task, context, "assistant", answer)])
    open_task = uuid4()
    await storage.submit_task(context, message(open_task, context, "user", "Hello?"))
    sent = {"task_id": rated, "feedback": "quick", "rating": 4, "metadata": {"user_id": "ann"}}
    await storage.store_task_feedback(rated, sent)
    await storage.close()
    return {"rated": str(rated), "context": str(context)}


def message(task: UUID, context: UUID, role: str, text: str) -> dict:
    parts = [{"kind": "text", "text": text}]
    return {
        "role": role, "kind": "message", "parts": parts, "message_id": uuid4(), "task_id": task, "context_id": context
    }  # fmt: skip


async def ask(example: str) -> dict:
    """What the example's handler answers in two conversations of two turns, each asked by Bindu's own worker."""
    from bindu.penguin.bindufy import bindufy
    from bindu.server.storage.memory_storage import InMemoryStorage
    from bindu.server.workers.manifest_worker import ManifestWorker

    config = {
        "author": "ann@example.com",
        "name": "support",
        "deployment": {"url": "http://localhost:3773", "expose": False},
    }
    handler = runpy.run_path(example)["handler"]
    manifest = bindufy(config, handler, run_server=False, key_dir=Path.cwd() / "keys")
    storage = InMemoryStorage()
    worker = ManifestWorker(scheduler=None, storage=storage, manifest=manifest)
    contexts = [uuid4(), uuid4()]
    tasks = [(uuid4(), context) for context in contexts * 2]
    for task, context in tasks:
        await storage.submit_task(context, message(task, context, "user", "Where is my parcel?"))
    await asyncio.gather(*(worker.run_task({"task_id": task, "context_id": context}) for task, context in tasks))
    answers = [text_of(await storage.load_task(task)) for task, _ in tasks]
    return {"answers": answers, "contexts": [str(context) for _, context in tasks]}


def text_of(task: dict) -> str:
    """The text of a task that has been completed."""
    assert task["status"]["state"] == "completed", task["status"]
    return task["artifacts"][0]["parts"][0]["text"]


if __name__ == "__main__":
    verb, what = sys.argv[1:]
    print("\n" + json.dumps(asyncio.run(store(what) if verb == "store" else ask(what))))
