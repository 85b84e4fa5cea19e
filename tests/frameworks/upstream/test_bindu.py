"""Against the real Bindu, in its own environment: BINDU_UPSTREAM_PYTHON is its interpreter."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from bindu.dspy.bindu_importer import import_bindu
from bindu.dspy.dataset import fetch_raw_task_data
from bindu.dspy.postgres.bindu_source import open_bindu
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import insert_prompt
from bindu.settings import StorageSettings

UPSTREAM = os.environ.get("BINDU_UPSTREAM_PYTHON", "")
HERE = Path(__file__).parent
EXAMPLE = HERE.parents[2] / "examples" / "bindu_sidecar.py"
DEFAULT = "You are a friendly support agent of an online shop. You asked:"
ABSENT = "http://127.0.0.1:1"

pytestmark = pytest.mark.skipif(not UPSTREAM, reason="BINDU_UPSTREAM_PYTHON names no environment with Bindu")


def upstream(folder: Path, *words: str, **extra: str) -> Any:
    """What the script in Bindu's environment printed last, and its log."""
    done = subprocess.run(
        [UPSTREAM, str(HERE / "bindu_side.py"), *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **extra},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"log": done.stderr}


async def test_what_bindus_own_storage_wrote_is_imported(
    storage: PostgresStorage, blank_url: str, tmp_path: Path
) -> None:
    await storage.bootstrap("default", "Be kind.")
    wrote = await asyncio.to_thread(upstream, tmp_path, "store", blank_url)
    async with open_bindu(blank_url, StorageSettings()) as source:
        assert await source.schemas() == ["did_bindu_ann_support_0f3c"]
        report = await import_bindu(source)
        again = await import_bindu(source)
    assert (report.tasks_new, report.votes_new, report.skipped) == (2, 1, {"tasks_that_have_not_ended": 1})
    assert (again.tasks_new, again.tasks_known, again.votes_known) == (0, 2, 1)
    [rated] = [task async for task in fetch_raw_task_data() if task.votes]
    assert await storage.find_task("default", wrote["rated"]) == rated.id
    assert rated.context_id == rated.unit_id == wrote["context"]
    assert [message["content"] for message in rated.history] == ["Where is my parcel?", "On its way."]
    [vote] = rated.votes
    assert (vote.score, vote.comment, vote.rater_id) == (0.8, "quick", "ann")


@contextmanager
def sidecar(folder: Path, url: str) -> Iterator[str]:
    """The address of our server, a process in our environment on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--factory", "bindu.dspy.web.app:create_app", "--fd", str(number)],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "STORAGE__POSTGRES_URL": url},
            pass_fds=[number],
        )
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            urllib.request.urlopen(f"{address}/livez", timeout=20).close()  # waits in the queue until the server is up
            yield address
        finally:
            server.terminate()
            server.wait(20)


async def asked(folder: Path, address: str) -> Any:
    """Two conversations of two turns, each turn asked by Bindu's worker, with the example as its handler."""
    return await asyncio.to_thread(upstream, folder, "ask", str(EXAMPLE), BINDU_DSPY_URL=address)


async def test_a_bindu_handler_asks_the_sidecar_for_its_prompt_and_records_its_answers(
    storage: PostgresStorage, postgres_url: str, tmp_path: Path
) -> None:
    await storage.bootstrap("support", "You answer in verse.")
    with sidecar(tmp_path, postgres_url) as address:
        said = await asked(tmp_path, address)
    assert set(said["answers"]) == {"You answer in verse. You asked: Where is my parcel?"}
    tasks = [task async for task in fetch_raw_task_data(agent_id="support")]
    assert {task.prompt_id for task in tasks} == {1}
    assert all(task.history[-1] == {"role": "assistant", "content": said["answers"][0]} for task in tasks)
    recorded = Counter((task.unit_id, task.context_id) for task in tasks)
    assert recorded == Counter((context, context) for context in said["contexts"])  # Bindu's ids, two turns of each


async def test_a_bindu_conversation_keeps_its_prompt_while_an_experiment_runs(
    storage: PostgresStorage, postgres_url: str, tmp_path: Path
) -> None:
    await storage.bootstrap("support", "You answer in verse.")
    await insert_prompt("You answer in prose.", "candidate", 0.5, agent_id="support")
    prompts: dict[str, set[str]] = {}
    with sidecar(tmp_path, postgres_url) as address:
        for _ in range(3):
            said = await asked(tmp_path, address)
            for context, answer in zip(said["contexts"], said["answers"], strict=True):
                prompts.setdefault(context, set()).add(answer)
    assert len(prompts) == 6
    assert all(len(answers) == 1 for answers in prompts.values())


async def test_an_agent_without_a_stored_prompt_begins_with_its_default(
    storage: PostgresStorage, postgres_url: str, tmp_path: Path
) -> None:
    with sidecar(tmp_path, postgres_url) as address:
        said = await asked(tmp_path, address)
    assert all(answer.startswith(DEFAULT) for answer in said["answers"])
    assert "was not recorded" not in said["log"]
    assert {task.prompt_id async for task in fetch_raw_task_data(agent_id="support", require_feedback=False)} == {1}


@pytest.mark.parametrize(
    ("away", "logged"),
    [
        ("database", "The answer was not recorded: HTTP Error 503"),
        ("sidecar", "Answered with the default prompt: <urlopen error"),
    ],
)
async def test_without_the_sidecar_or_its_database_the_user_has_an_answer_all_the_same(
    away: str, logged: str, tmp_path: Path
) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    with sidecar(tmp_path, nowhere) if away == "database" else nullcontext(ABSENT) as address:
        said = await asked(tmp_path, address)
    assert all(answer.startswith(DEFAULT) for answer in said["answers"])
    assert said["log"].count(logged) == 4
