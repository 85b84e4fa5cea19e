"""``bindu prompt add`` as a person uses it: a text that lost is refused, a word makes it pass, and time is foretold."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt, update_prompt_status

BINDU = str(Path(sys.executable).parent / "bindu")
LOSER = "You help customers of a parcel service and you answer in one sentence."

Add = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def add(tmp_path: Path, postgres_url: str) -> Add:
    def call(text: str, *words: str, rule: str = "evidence") -> Any:
        environment = {"PATH": os.environ["PATH"], "STORAGE__POSTGRES_URL": postgres_url, "NO_COLOR": "1"}
        return subprocess.run(
            [BINDU, "prompt", "add", *words],
            cwd=tmp_path,
            env=environment | {"DSPY__CANARY__RULE": rule},
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return call


async def test_a_text_that_lost_needs_a_persons_word(storage: PostgresStorage, add: Add) -> None:
    await bootstrap_prompt("You help.")
    await update_prompt_status(await insert_prompt(LOSER, "candidate", 0.1), "rolled_back")
    before = await storage.prompts("default")
    for words in ((), ("--dry-run",)):
        refused = add(LOSER, *words)
        assert refused.returncode == 3
        assert refused.stdout == ""
        assert "error: This text was tried before: prompt 2 is the same or much like it" in refused.stderr
        assert "--again" in refused.stderr
    rehearsed = add(LOSER, "--again", "--dry-run")
    assert rehearsed.stdout == "Would become candidate with 10% of the traffic.\n"
    assert await storage.prompts("default") == before
    added = json.loads(add(LOSER, "--again", "--json").stdout)
    assert (added["id"], added["status"], added["dry_run"]) == (3, "candidate", False)


async def test_who_adds_a_candidate_is_told_how_long_it_takes(storage: PostgresStorage, add: Add) -> None:
    first = add("You help.")
    second = add("You help well.")
    assert first.stdout == "Prompt 1 is active with 100% of the traffic.\n"
    assert second.stdout == (
        "Prompt 2 is candidate with 10% of the traffic. "
        "There is no feedback to decide by yet: without a verdict it ends after 14 days.\n"
    )
    (experiment,) = await storage.experiments("default")
    assert experiment.policy["rule"] == "evidence"


def test_under_the_means_rule_no_time_is_foretold(add: Add) -> None:
    add("You help.", rule="means")
    assert add("You help well.", rule="means").stdout == "Prompt 2 is candidate with 10% of the traffic.\n"
