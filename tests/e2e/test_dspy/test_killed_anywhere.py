"""Training killed at any moment leaves a stable system, and the next run goes on."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.simulation.desk import IDEAL_PROMPT, START_PROMPT, Desk
from bindu.dspy.simulation.server import SimulatedServer
from bindu.dspy.storage import Storage, use_storage
from bindu.dspy.train import run_training
from bindu.settings import StorageSettings, app_settings
from faults import FaultyStorage, Killed
from talks import Proposes

CONVERSATIONS = 260


async def talk(storage: Storage) -> Desk:
    desk = Desk(seed=1, agent_id="default")
    with use_storage(storage):
        await bootstrap_prompt(START_PROMPT)
        await desk.converse(CONVERSATIONS, now=datetime.now(UTC))
        await stop_prompt_refresh()
    return desk


async def assert_stable(storage: Storage) -> None:
    """Either nothing happened or the whole trial began: one transaction."""
    serving = await storage.serving("default")
    experiments = await storage.experiments("default")
    assert serving is not None
    if serving.candidate is None:
        assert (serving.active.traffic, experiments) == (1.0, [])
        return
    assert serving.active.traffic + serving.candidate.traffic == 1.0
    assert serving.share == 0.1
    assert [(e.candidate_id, e.state) for e in experiments] == [(serving.candidate.id, "running")]
    assert [d.verdict for d in await storage.decisions("default")] == ["open"]
    assert [r.outcome for r in await storage.runs("default") if r.outcome not in (None, "aborted")] == ["improved"]


async def train(storage: Storage, desk: Desk) -> Any:
    with use_storage(storage):
        return await run_training(Proposes(IDEAL_PROMPT), engine=desk.engine, agent_id="default")


async def test_killed_before_or_after_any_storage_call_the_next_run_goes_on(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # who dies in the proof has spent its conversations: small proofs leave enough for the runs after it
    monkeypatch.setattr(app_settings.dspy.training, "min_accept_conversations", 8)
    monkeypatch.setattr("bindu.dspy.splits._ACCEPT_SHARE", 0.07)
    desk = await talk(storage)
    place, after = 1, False
    while True:
        faulty = FaultyStorage(storage, fail_at=place, after=after)
        try:
            await train(faulty, desk)
        except Killed:
            await assert_stable(storage)
        else:
            break
        if (await storage.experiments("default")) != []:
            break  # killed after the one transaction that deploys: there is nothing left to kill
        place, after = (place, True) if not after else (place + 1, False)
    assert place >= 5
    await assert_stable(storage)
    assert (await storage.serving("default")).candidate.text == IDEAL_PROMPT


def command(url: str, base_url: str, *words: str) -> tuple[list[str], dict[str, str]]:
    environment = {
        "PATH": os.environ["PATH"],
        "STORAGE__POSTGRES_URL": url,
        "DSPY__DEFAULT_MODEL": "openai/simulated",
        "DSPY__API_BASE": base_url,
        "DSPY__API_KEY": "none",
        "NO_COLOR": "1",
    }
    return [sys.executable, "-m", "bindu.dspy.cli.train", *words], environment


def test_after_trainers_killed_with_9_the_train_command_trains_over_http(postgres_url: str, tmp_path: Path) -> None:
    asyncio.run(prepare(postgres_url))
    with SimulatedServer(1) as server:
        words, environment = command(
            postgres_url, server.base_url, "--optimizer", "simba", "--strategy", "last_turn", "--require-feedback"
        )
        for requests in (20, 700):
            kill_after(server, requests, words, environment, tmp_path)
            asyncio.run(look(postgres_url))
        time.sleep(0.5)  # what the dead trainers had sent has arrived
        before = server.requests
        done = subprocess.run(
            [*words, "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        run = json.loads(done.stdout)
        assert run["outcome"] == "improved"
        assert run["resumes"] is not None
        assert before < server.requests <= run["calls"] <= server.requests + 2 * 8  # those in flight at each death
    asyncio.run(look(postgres_url, trained=True))


def kill_after(
    server: SimulatedServer, requests: int, words: list[str], environment: dict[str, str], folder: Path
) -> None:
    process = subprocess.Popen(words, env=environment, cwd=folder, stderr=subprocess.DEVNULL)
    wanted, deadline = server.requests + requests, time.monotonic() + 60
    while server.requests < wanted:
        assert time.monotonic() < deadline, "it spends nothing"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


async def prepare(url: str) -> None:
    storage = await PostgresStorage.connect(url, StorageSettings())
    await talk(storage)
    await storage.close()


async def look(url: str, *, trained: bool = False) -> None:
    storage = await PostgresStorage.connect(url, StorageSettings())
    await assert_stable(storage)
    assert bool(await storage.experiments("default")) is trained
    await storage.close()
