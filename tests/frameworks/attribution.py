"""The claim that is tested with each framework: an exchange counts for the prompt that the model really saw."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from bindu.dspy.integrations import flush, turn
from fake_model import FakeModel

CONVERSATIONS = 200
ACTIVE, CANDIDATE = "You are prompt-active, an agent of a shop.", "You are prompt-candidate, an agent of a shop."
EXAMPLES = Path(__file__).parents[2] / "examples"
Ask = Callable[[str], Awaitable[object]]


class Stored:
    """What was recorded, once everything is in the database."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def tasks(self) -> list[dict[str, Any]]:
        await asyncio.to_thread(flush, 30)
        connection = await asyncpg.connect(self.url)
        try:
            rows = await connection.fetch("SELECT * FROM bindu_dspy.tasks ORDER BY created_at, id")
        finally:
            await connection.close()
        return [{**row, "history": json.loads(row["history"])} for row in rows]


async def check_example(name: str, folder: Path, stored: Stored, model: FakeModel) -> None:
    """The file of ``examples/`` runs, and what it asked is recorded with the prompt that the model saw."""
    await asyncio.to_thread(_run_example, name, folder, stored.url, model)
    [task] = await stored.tasks()
    assert "parcel" in task["history"][0]["content"]
    assert misattributed([task]) == 0
    assert task["state"] == "completed"


async def conversations(ask: Ask, count: int = CONVERSATIONS) -> None:
    """As many at once, each a turn, with awaits before and after the agent's own."""
    waits = random.Random(1)

    async def one(number: int) -> None:
        with turn(f"conversation-{number}"):
            await asyncio.sleep(waits.random() / 50)
            await ask(f"Question {number}?")
            await asyncio.sleep(waits.random() / 50)

    await asyncio.gather(*map(one, range(count)))


def answers(tasks: list[dict[str, Any]]) -> dict[str, tuple[int, str]]:
    """The prompt that each task was recorded with and what the model said it saw, by question."""
    return {task["history"][0]["content"]: (task["prompt_id"], task["history"][-1]["content"]) for task in tasks}


def misattributed(tasks: list[dict[str, Any]]) -> int:
    """How many were recorded with another prompt than the model saw."""
    truth = {"saw prompt-active": 1, "saw prompt-candidate": 2}
    return sum(truth.get(said) != prompt_id for prompt_id, said in answers(tasks).values())


async def check_attribution(ask: Ask, stored: Stored, model: FakeModel, count: int = CONVERSATIONS) -> None:
    """The central claim: every exchange is recorded, once, with the prompt that the model really saw."""
    await conversations(ask, count)
    tasks = await stored.tasks()
    assert len(tasks) == count
    assert {question: said for question, (_, said) in answers(tasks).items()} == {
        question: f"saw {mark}" for mark, question in model.asked
    }
    assert misattributed(tasks) == 0
    shares = [task["prompt_id"] for task in tasks]
    assert min(shares.count(1), shares.count(2)) > count / 4  # both were live
    assert {task["unit_id"] for task in tasks} == {f"conversation-{number}" for number in range(count)}


def _run_example(name: str, folder: Path, url: str, model: FakeModel) -> None:
    """Run the file as its reader would."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}_hello.py")],
        cwd=folder,
        env={**os.environ, **model.environment, "STORAGE__POSTGRES_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
