"""An experiment from its plan to its end, by commands alone."""

import asyncio
import getpass
import json
import os
import pty
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bindu.dspy.canary.controller import run_step
from bindu.dspy.models import Experiment
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import use_storage
from bindu.settings import StorageSettings
from commands import BIN, Bindu
from conftest import execute
from trials import open_evidence_trial, rate_units

SCORES = ((0.4, 0.6, 0.4), (0.6, 1.0, 0.6))  # of an hour's units, active and candidate

Seed = Callable[[PostgresStorage, Experiment, datetime], Awaitable[None]]


def begun(postgres_url: str, hours: int, seed: Seed | None = None, **numbers: Any) -> None:
    """An experiment that began so many hours ago, rated in every hour since."""

    async def service() -> None:
        storage = await PostgresStorage.connect(postgres_url, StorageSettings())
        with use_storage(storage):
            start = await storage.now() - timedelta(hours=hours, minutes=5)
            experiment = await open_evidence_trial(storage, start, **numbers)
            await rate_units(storage, experiment, start, hours=hours, scores=SCORES)
            if seed is not None:
                await seed(storage, experiment, start)
        await storage.close()

    asyncio.run(service())


def read(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_new_experiment_waits_is_paused_and_aborted(bindu: Bindu) -> None:
    bindu("prompt", "add", stdin="You help.")
    bindu("prompt", "add", stdin="You help a lot.", DSPY__CANARY__RULE="evidence")
    waiting = read(bindu("canary", "run", "--json"))
    assert waiting["decision"] is None
    assert waiting["reason"].startswith("The next window closes at ")
    assert bindu("canary").stdout.startswith("The next window closes at ")
    status = read(bindu("canary", "status", "--json"))
    assert status["sentence"].startswith("Too early to say: no window of candidate 2 has been closed yet")
    assert (status["policy"]["rule"], status["trial"]["window"]) == ("evidence", 0)

    would = read(bindu("canary", "pause", "--reason", "A release.", "--dry-run", "--json"))
    assert (would["decision"], would["rollout"]["verdict"], would["dry_run"]) == (None, "pause", True)
    paused = read(bindu("canary", "pause", "--reason", "A release.", "--actor", "ada", "--json"))["decision"]
    assert (paused["verdict"], paused["actor"], paused["reason"]) == ("pause", "ada", "A release.")
    again = bindu("canary", "pause", "--reason", "A release.")
    assert (again.returncode, again.stdout) == (0, "The experiment is paused already.\n")
    assert "paused, so its share does not rise" in bindu("canary", "status").stdout
    assert read(bindu("canary", "resume", "--reason", "It is out.", "--json"))["decision"]["actor"] == getpass.getuser()
    assert bindu("canary", "resume", "--reason", "It is out.").stdout == "The experiment is not paused.\n"

    ended = read(bindu("canary", "abort", "--reason", "The shop was down.", "--json"))["decision"]
    assert (ended["verdict"], ended["share_after"]) == ("roll_back", 0.0)
    after = read(bindu("canary", "status", "--json"))
    assert (after["share"], after["experiment"]["outcome"]) == (0.0, "inconclusive")
    assert [decision["verdict"] for decision in after["decisions"]] == ["roll_back", "resume", "pause", "open"]
    assert bindu("canary").stdout == "No candidate is on trial: nothing to do.\n"


def test_a_win_is_foretold_found_explained_checked_and_promoted(bindu: Bindu, postgres_url: str) -> None:
    begun(postgres_url, hours=30)
    foretold = read(bindu("canary", "run", "--dry-run", "--json"))
    assert (foretold["decision"], foretold["rollout"]["verdict"]) == (None, "won")
    assert bindu("canary", "--dry-run").stdout.startswith("would be won: candidate's traffic 50% -> 50%.")
    found = read(bindu("canary", "run", "--json"))["decision"]
    assert found["closed_window"] == 30
    assert {name: found[name] for name in ("verdict", "reason", "evidence", "inputs")} == {
        name: foretold["rollout"][name] for name in ("verdict", "reason", "evidence", "inputs")
    }
    assert read(bindu("canary", "--json"))["decision"] is None

    explained = read(bindu("canary", "explain", str(found["id"]), "--json"))
    assert (explained["same"], explained["replayed"]["verdict"]) == (True, "won")
    text = bindu("canary", "explain", str(found["id"]))
    assert text.stdout.startswith(f"Decision {found['id']}: won, candidate's traffic 50% -> 50%. Candidate 2 is better")
    for row in ("the candidate is better", "share epoch", "hours_at_step", "rule evidence version 1"):
        assert row in text.stdout
    checked = read(bindu("canary", "check", "--json"))
    assert (checked["windows"], checked["units"], checked["differences"]) == (30, 180, [])
    assert checked["sentence"].endswith("all agree with the log.")

    status = bindu("canary", "status")
    assert status.stdout.startswith("Candidate 2 has won and is rising: +0.333 (95 % +")
    for row in (
        "90 of 90",
        "the candidate is better",
        "it is worse since the win",
        "guardrail: error",
        "Window 31 ends",
    ):
        assert row in status.stdout
    promoted = bindu("canary", "promote", "--reason", "Seen enough.")
    assert promoted.stdout == "promote: candidate's traffic 50% -> 100%. Seen enough.\n"
    assert "Prompt 2 answers every request" in bindu("status").stdout
    for verb in ("promote", "resume"):
        refused = bindu("canary", verb, "--reason", "Too late.")
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "is on trial" in refused.stderr


def test_a_log_that_was_tampered_with_does_not_pass_the_check(bindu: Bindu, postgres_url: str) -> None:
    begun(postgres_url, hours=26)
    bindu("canary")
    tamper = """UPDATE bindu_dspy.decisions SET evidence = jsonb_set(evidence, '{low}', '0.5') WHERE verdict = 'won'"""
    asyncio.run(execute(postgres_url, tamper))
    checked = bindu("canary", "check", "--json")
    assert checked.returncode == 1
    assert json.loads(checked.stdout)["differences"] == ["Decision 2 said won, its inputs give won."]
    assert read(bindu("canary", "explain", "2", "--json"))["same"] is False


def test_a_rollback_sends_everybody_to_the_active_prompt(bindu: Bindu, postgres_url: str) -> None:
    begun(postgres_url, hours=2)
    assert bindu("canary", "rollback", "--reason", "It promises discounts.", "--dry-run").stdout.startswith("would be")
    bindu("canary", "rollback", "--reason", "It promises discounts.")
    status = read(bindu("canary", "status", "--json"))
    assert (status["active"]["prompt"]["id"], status["candidate"]) == (1, None)
    assert (status["experiment"]["outcome"], status["prompts"][1]["prompt"]["status"]) == ("rolled_back", "rolled_back")


def test_of_four_people_at_once_one_is_obeyed_and_the_others_learn_that_they_are_not(
    bindu: Bindu, postgres_url: str, tmp_path: Path
) -> None:
    begun(postgres_url, hours=1)
    environment = {"PATH": os.environ["PATH"], "STORAGE__POSTGRES_URL": postgres_url}
    words = [str(BIN / "bindu"), "canary", "promote", "--reason", "Mine."]
    people = [
        subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert sorted(person.wait(timeout=120) for person in people) == [0, 3, 3, 3]
    verdicts = [decision["verdict"] for decision in read(bindu("canary", "status", "--json"))["decisions"]]
    assert verdicts == ["promote", "open"]


@pytest.mark.parametrize("verb", ["pause", "resume", "abort", "promote", "rollback"])
def test_a_person_has_to_say_why(bindu: Bindu, verb: str) -> None:
    empty = bindu("canary", verb, "--reason", " ")
    assert empty.returncode == 2
    assert empty.stderr.startswith("error: Say why")


def test_a_reason_is_asked_for_by_name(bindu: Bindu) -> None:
    unsaid = bindu("canary", "promote")
    assert unsaid.returncode == 2
    assert "--reason" in unsaid.stderr


def test_a_plan_needs_no_database_when_the_rate_is_given(bindu: Bindu) -> None:
    words = ("canary", "plan", "--gain", "0.05", "--feedback-per-day", "120")
    planned = bindu(*words, STORAGE__POSTGRES_URL="")
    assert planned.stdout.startswith("At 120 votes a day a difference of 5 points shows after about ")
    assert "\n  10% of traffic for " in planned.stdout
    wide = read(bindu(*words, "--share", "0.4", "--json", STORAGE__POSTGRES_URL=""))
    assert wide["path"][0]["share"] == 0.4
    assert wide["sentence"].startswith("At 120 votes a day")


def test_the_means_rule_is_shown_with_its_caution_and_explained(bindu: Bindu) -> None:
    bindu("prompt", "add", stdin="You help.")
    bindu("prompt", "add", stdin="You help a lot.", DSPY__CANARY__RULE="means")
    held = read(bindu("canary", "--json"))["decision"]
    status = bindu("canary", "status", "--plot")
    assert "knows no uncertainty" in status.stdout
    assert "evidence that" not in status.stdout
    assert "candidate.num_interactions" in bindu("canary", "explain", str(held["id"])).stdout
    assert read(bindu("canary", "check", "--json"))["decisions"] == 2


async def _look_often(storage: PostgresStorage, _: Experiment, start: datetime) -> None:
    for hour in range(1, 7):
        await run_step(now=start + timedelta(hours=hour))


def in_a_terminal(words: list[str], environment: dict[str, str]) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(words, env=environment, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    chunks = []
    try:
        while chunk := os.read(ours, 65536):
            chunks.append(chunk)
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(ours)
    assert done.wait(timeout=120) == 0
    return b"".join(chunks).decode("utf-8")


def test_the_band_is_drawn_in_a_terminal_and_on_request(bindu: Bindu, postgres_url: str, tmp_path: Path) -> None:
    begun(postgres_url, hours=6, seed=_look_often)
    legend = "• difference, within its 95 % band"
    assert legend not in bindu("canary", "status").stdout
    assert legend in bindu("canary", "status", "--plot").stdout
    assert legend not in bindu("canary", "status", "--plot", PYTHONIOENCODING="ascii").stdout
    words = [str(BIN / "bindu"), "canary", "status"]
    environment = {
        "PATH": os.environ["PATH"],
        "STORAGE__POSTGRES_URL": postgres_url,
        "TERM": "xterm-256color",
        "COLUMNS": "90",
        "PYTHONUTF8": "1",
        "HOME": str(tmp_path),
    }
    coloured, plain = in_a_terminal(words, environment), in_a_terminal(words, environment | {"NO_COLOR": "1"})
    assert legend in coloured
    assert "\x1b[34m" in coloured
    assert legend in plain
    assert "\x1b[34m" not in plain
    assert "│\r\n" in plain
    assert legend not in in_a_terminal([*words, "--no-plot"], environment)


def test_only_a_plot_loads_the_plotting_library() -> None:
    look = "import sys, bindu.dspy.cli.app; print([name for name in ('plotext', 'dspy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
