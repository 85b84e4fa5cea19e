"""Training runs and rubrics from the shell: looked at, watched, cancelled, edited, released."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import pty
import subprocess
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bindu.dspy.models import TrainingRun
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.rubric import RubricRule
from bindu.settings import StorageSettings
from commands import BIN, Bindu
from samples import AGENT, a_run, open_trial

Result = TypeVar("Result")

LEARNED = (RubricRule("Say when it [bold]arrives[/nope].", ("a1", "b2#1")), RubricRule("Name a person.", ("c3",)))
DETAILS: dict[str, Any] = {
    "progress": {"calls_done": 12, "calls_expected": 50, "eta_seconds": 240},
    "rubric": {"instructions": "", "rules": [{"rule": "Say when \x1b]0;it arrives.", "task_ids": ["a", "b"]}]},
    "diff": "-Be kind.\n+Be kinder [/nope] \x1b[31m.",
}


def on_storage(url: str, work: Callable[[PostgresStorage], Awaitable[Result]]) -> Result:
    """What another process does to the database."""

    async def service() -> Result:
        storage = await PostgresStorage.connect(url, StorageSettings())
        try:
            return await work(storage)
        finally:
            await storage.close()

    return asyncio.run(service())


def saved(url: str, ago: float = 0.0, **fields: Any) -> TrainingRun:
    """A run that was last heard of so many seconds ago."""

    async def work(storage: PostgresStorage) -> TrainingRun:
        return await storage.save_run(a_run(**fields), now=await storage.now() - timedelta(seconds=ago))

    return on_storage(url, work)


def learned(url: str) -> int:
    return on_storage(
        url, lambda s: s.save_rubric(AGENT, LEARNED, origin="induced", actor="trainer", reason="From 3 comments.")
    ).id


def read(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_runs_are_listed_with_the_piece_of_their_id_that_show_and_cancel_take(bindu: Bindu, postgres_url: str) -> None:
    run = saved(postgres_url, calls=1234, cost=0.5, step="judging [/oops]", details=DETAILS)
    listed = bindu("runs", "list")
    assert listed.returncode == 0, listed.stderr
    for piece in (str(run.id)[:13], "simba", "last_turn", "running", "1,234 calls", "$0.50", "judging [/oops]"):
        assert piece in listed.stdout
    [told] = read(bindu("runs", "list", "--json"))["runs"]
    assert (told["id"], told["cost"], told["details"]) == (str(run.id), 0.5, DETAILS)
    assert read(bindu("runs", "show", str(run.id)[:13], "--json"))["run"] == told


def test_a_run_is_shown_a_sentence_first(bindu: Bindu, postgres_url: str) -> None:
    run = saved(postgres_url, step="judging", details=DETAILS)
    shown = bindu("runs", "show")
    name = str(run.id)[:13]
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"Run {name} is at work: judging; 12 of about 50 calls; about 4 minutes left.\n")
    assert "Be kinder [/nope]" in shown.stdout
    assert bindu("runs", "show", str(run.id).upper()).stdout == shown.stdout
    assert read(bindu("runs", "show", "--json"))["sentence"] == shown.stdout.splitlines()[0]


def test_an_ambiguous_piece_of_an_id_is_a_sentence_and_2(bindu: Bindu, postgres_url: str) -> None:
    runs = [saved(postgres_url) for _ in range(2)]
    for verb in ("show", "cancel"):
        done = bindu("runs", verb, "0")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: Several training runs begin with '0', such as ")
        assert all(str(run.id) in done.stderr for run in runs)


def test_a_live_run_is_asked_to_stop_and_reads_why(bindu: Bindu, postgres_url: str) -> None:
    run = saved(postgres_url)
    before = read(bindu("runs", "show", "--json"))["run"]
    rehearsed = read(bindu("runs", "cancel", str(run.id), "--dry-run", "--json"))
    assert (rehearsed["did"], rehearsed["dry_run"], rehearsed["run"]) == ("asked", True, before)
    asked = bindu("runs", "cancel", str(run.id)[:13], "--reason", "The wrong [/data].")
    assert asked.returncode == 0, asked.stderr
    assert "to stop: The wrong [/data]." in asked.stdout
    told = on_storage(postgres_url, lambda storage: storage.save_run(run))
    assert (told.state, told.cancel_reason) == ("running", "The wrong [/data].")


def test_a_run_without_a_process_ends_and_one_that_ended_is_left_alone(bindu: Bindu, postgres_url: str) -> None:
    run = saved(postgres_url, ago=3600)
    assert "gave no sign of life for about 60 minutes" in bindu("runs", "show").stdout
    ended = read(bindu("runs", "cancel", str(run.id), "--json"))
    assert (ended["did"], ended["run"]["outcome"]) == ("ended", "aborted")
    assert ended["run"]["cancel_reason"] == "cancelled by hand"
    again = read(bindu("runs", "cancel", str(run.id), "--reason", "Again.", "--json"))
    assert (again["did"], again["run"]) == ("nothing", ended["run"])
    assert again["sentence"].startswith("Nothing to cancel. Run ")


def test_a_run_that_put_a_prompt_on_trial_says_so_when_it_is_cancelled(bindu: Bindu, postgres_url: str) -> None:
    run = saved(postgres_url)
    on_storage(postgres_url, lambda storage: open_trial(storage, run_id=run.id))
    assert "It put prompt 2 on trial." in bindu("runs", "cancel", str(run.id)).stdout


def test_an_empty_reason_is_a_sentence_and_2(bindu: Bindu, postgres_url: str) -> None:
    run = saved(postgres_url)
    done = bindu("runs", "cancel", str(run.id), "--reason", " ")
    assert done.returncode == 2
    assert done.stderr.startswith("error: Say why")


class Terminal:
    """A command at work in a terminal, and what it has written so far."""

    def __init__(self, words: list[str], folder: Path, url: str) -> None:
        self._ours, theirs = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "STORAGE__POSTGRES_URL": url, "TERM": "xterm-256color"}
        environment |= {"PYTHONUTF8": "1", "HOME": str(folder), "COLUMNS": "100", "LINES": "60"}
        self.command = subprocess.Popen(
            [str(BIN / "bindu"), *words], env=environment, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self.text = ""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while chunk := os.read(self._ours, 65536):
                with self._changed:
                    self.text += chunk.decode("utf-8", "replace")
                    self._changed.notify_all()
        except OSError:  # how Linux says that the other side has closed
            pass

    def until(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.text, timeout=60), self.text

    def ended(self) -> int:
        code = self.command.wait(timeout=60)
        self._reader.join(timeout=60)
        os.close(self._ours)
        return code


def test_a_run_is_watched_in_a_terminal_until_it_ends(postgres_url: str, tmp_path: Path) -> None:
    run = saved(postgres_url, step="judging", details=DETAILS)
    terminal = Terminal(["runs", "show", str(run.id)[:13], "--watch"], tmp_path, postgres_url)
    terminal.until("is at work: judging")
    on_storage(postgres_url, lambda storage: storage.save_run(replace(run, step="proving")))
    saved(postgres_url, step="a newer run")
    terminal.until("is at work: proving")
    ended = replace(run, state="ended", outcome="unchanged", reason="Nothing is better.")
    on_storage(postgres_url, lambda storage: storage.save_run(ended))
    assert terminal.ended() == 0
    last = terminal.text.rpartition(f"Run {str(run.id)[:13]} ended unchanged: Nothing is better.")[2]
    assert "Be kinder [/nope]" in last
    assert "a newer run" not in terminal.text
    assert "\x1b]0;it" not in terminal.text
    assert "\x1b[31m." not in terminal.text


def test_watching_ends_with_ctrl_c_and_leaves_the_run_alone(postgres_url: str, tmp_path: Path) -> None:
    run = saved(postgres_url, step="judging")
    terminal = Terminal(["runs", "show", "--watch"], tmp_path, postgres_url)
    terminal.until("is at work: judging")
    terminal.command.send_signal(2)
    assert terminal.ended() == 130
    assert "Traceback" not in terminal.text
    assert "\x1b[?25h" in terminal.text  # the cursor is back
    [left] = on_storage(postgres_url, lambda storage: storage.runs(AGENT))
    assert left == run


def test_a_run_that_has_ended_is_not_waited_for(postgres_url: str, tmp_path: Path) -> None:
    saved(postgres_url, state="ended", outcome="worse", reason="It lost.")
    terminal = Terminal(["runs", "show", "--watch"], tmp_path, postgres_url)
    assert terminal.ended() == 0
    assert "ended worse: It lost." in terminal.text


@pytest.mark.parametrize("words", [("--watch",), ("--watch", "--json")])
def test_watching_without_a_terminal_is_refused(bindu: Bindu, postgres_url: str, words: tuple[str, ...]) -> None:
    saved(postgres_url)
    done = bindu("runs", "show", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --watch draws on a terminal.")


def test_before_the_first_training_there_is_no_rubric(bindu: Bindu) -> None:
    shown = bindu("dataset", "rubric")
    assert (shown.returncode, shown.stdout) == (
        0,
        "Agent 'default' has no rubric yet: its first training writes one.\n",
    )
    assert read(bindu("dataset", "rubric", "--json"))["rules"] == []
    assert bindu("dataset", "rubric", "--release").stdout.startswith("Nothing to release")


def test_what_training_learned_is_shown_with_the_tasks_behind_it(bindu: Bindu, postgres_url: str) -> None:
    learned(postgres_url)
    shown, named = bindu("dataset", "rubric"), bindu("dataset", "rubric", "--tasks")
    assert shown.stdout.startswith("Rubric 1 has 2 rules, learned by trainer on ")
    assert ": From 3 comments. The next training learns anew.\n" in shown.stdout
    assert "Say when it [bold]arrives[/nope]." in shown.stdout
    assert "b2#1" not in shown.stdout
    assert all(task in named.stdout for task in ("a1", "b2#1", "c3"))


def test_what_json_prints_can_be_edited_and_kept_until_it_is_released(
    bindu: Bindu, postgres_url: str, tmp_path: Path
) -> None:
    learned(postgres_url)
    printed = read(bindu("dataset", "rubric", "--json"))
    assert printed["rubric"]["origin"] == "induced"
    (tmp_path / "rubric.json").write_text(json.dumps(printed | {"rules": printed["rules"][::-1]}), encoding="utf-8")
    edit = ("dataset", "rubric", "--edit", "rubric.json", "--reason", "The person first.")
    assert read(bindu(*edit, "--dry-run", "--json"))["rubric"] is None
    assert read(bindu("dataset", "rubric", "--json")) == printed
    kept = read(bindu(*edit, "--json"))
    assert kept["rules"] == printed["rules"][::-1]
    assert (kept["rubric"]["id"], kept["rubric"]["origin"]) == (2, "edited")
    assert (kept["rubric"]["actor"], kept["rubric"]["reason"]) == (getpass.getuser(), "The person first.")
    learned(postgres_url)  # by a training that was under way
    shown = bindu("dataset", "rubric")
    assert "The person first. Training keeps to it until 'bindu dataset rubric --release'." in shown.stdout
    assert read(bindu("dataset", "rubric", "--json"))["rubric"]["id"] == 2
    assert bindu("dataset", "rubric", "--release", "--dry-run").stdout.startswith("Would release rubric 2.")
    released = read(bindu("dataset", "rubric", "--release", "--json"))
    assert (released["rubric"]["origin"], released["rules"]) == ("released", [])
    assert read(bindu("dataset", "rubric", "--json"))["rubric"]["id"] == 3
    assert on_storage(postgres_url, lambda storage: storage.standing_rubric(AGENT)) is None


def test_the_rubrics_own_json_fed_back_is_the_same_rubric(bindu: Bindu) -> None:
    one, other = "0199ca9c-6200-7000-8000-00000000008d", "0199ca9c-6200-7000-8000-00000000008e#1"
    lines = f'# mine\n1. Say "when" [{one}, {other}]\n\n- Nenne die Größe.\n3) Say\ttabs [not ids!]\n'
    first = read(bindu("dataset", "rubric", "--edit", "-", "--json", stdin=lines))
    again = read(bindu("dataset", "rubric", "--edit", "-", "--json", stdin=bindu("dataset", "rubric", "--json").stdout))
    assert first["rules"][0] == {"rule": 'Say "when"', "task_ids": [one, other]}
    assert [rule["rule"].split() for rule in again["rules"]] == [rule["rule"].split() for rule in first["rules"]]
    assert [rule["task_ids"] for rule in again["rules"]] == [[one, other], [], []]
    assert again["rubric"]["id"] == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("\n".join(f"Rule {number}." for number in range(13)), "The rubric has 13 rules and may have 12."),
        ("# nothing\n", "The rubric has no rule."),
        ("x" * 301, "Rule 1 has 301 characters"),
        ('{"rules": [{"text": "Be kind."}]}', "The rubric is no JSON of the form"),
    ],
)
def test_a_rubric_that_cannot_be_is_a_sentence_and_stores_nothing(bindu: Bindu, text: str, sentence: str) -> None:
    done = bindu("dataset", "rubric", "--edit", "-", stdin=text)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {sentence}")
    assert read(bindu("dataset", "rubric", "--json"))["rules"] == []


def test_twelve_rules_are_kept_and_numbered(bindu: Bindu) -> None:
    text = "\n".join(f"Rule {number}." for number in range(1, 13))
    kept = bindu("dataset", "rubric", "--edit", "-", stdin=text)
    assert "has 12 rules, edited by " in kept.stdout
    assert "│ 12 │ Rule 12. │ 0     │" in kept.stdout


def test_agents_have_rubrics_of_their_own(bindu: Bindu) -> None:
    bindu("dataset", "rubric", "--edit", "-", "--agent", "shop", stdin="Be kind.")
    assert read(bindu("dataset", "rubric", "--json"))["rules"] == []
    assert read(bindu("dataset", "rubric", "--json", "--agent", "shop"))["rubric"]["id"] == 1
