"""The commands as a user runs them: help, exit codes, one JSON object on standard output."""

import json
import os
import sys
from pathlib import Path

import pytest

from bindu.dspy.cli.output import user_name
from commands import BIN, Bindu, bindu_at
from inprocess import PATHS

CONVERSATION = {
    "id": "a1",
    "conversation_id": "c1",
    "messages": [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "On its way."}],
    "feedback": {"thumbs_up": True},
}


def test_a_prompt_is_added_served_listed_and_shown(bindu: Bindu) -> None:
    added = bindu("prompt", "add", "--json", stdin="You help.\n")
    again = bindu("prompt", "add", "--json", stdin="You help a lot.\n")
    listed = json.loads(bindu("prompt", "list", "--json").stdout)["prompts"]
    shown = bindu("prompt", "show", "2")
    assert json.loads(added.stdout)["traffic"] == 1.0
    assert json.loads(again.stdout)["status"] == "candidate"
    assert [(p["id"], p["status"], p["traffic"]) for p in listed] == [(1, "active", 0.9), (2, "candidate", 0.1)]
    assert shown.stdout == "You help a lot.\n"
    trail = json.loads(bindu("audit", "list", "--json").stdout)["entries"]
    assert [(one["action"], one["actor"]) for one in trail] == [("open", user_name()), ("bootstrap", user_name())]


def test_the_preview_uses_the_threshold_that_training_uses(bindu: Bindu) -> None:
    bindu("feedback", "import", "-", "--system-prompt", "You help.", stdin=json.dumps(CONVERSATION))
    bindu("feedback", "add", "a1", "--rating", "3", "--rater", "second")
    loose = json.loads(bindu("dataset", "preview", "--json").stdout)["funnel"]
    strict = json.loads(bindu("dataset", "preview", "--json", DSPY__MIN_FEEDBACK_THRESHOLD="0.9").stdout)["funnel"]
    assert (loose["golden"], strict["golden"], strict["drops"]) == (1, 0, {"below_threshold": 1})


def test_a_dry_run_changes_nothing(bindu: Bindu) -> None:
    bindu("prompt", "add", "--dry-run", stdin="You help.")
    assert json.loads(bindu("prompt", "list", "--json").stdout) == {"prompts": []}


def test_a_list_without_rows_says_whose_it_is(bindu: Bindu) -> None:
    prompts, runs = (bindu(word, "list", "--agent", "typo").stdout for word in ("prompt", "runs"))
    assert prompts.startswith("Agent 'typo' has no prompt yet: ")
    assert runs.startswith("Agent 'typo' has no training run yet. ")


def test_importing_twice_changes_nothing(bindu: Bindu) -> None:
    line = json.dumps(CONVERSATION)
    words = ("feedback", "import", "-", "--format", "jsonl", "--system-prompt", "You help.", "--json")
    first, second = (json.loads(bindu(*words, stdin=line).stdout) for _ in range(2))
    assert (first["tasks_new"], first["votes_new"]) == (1, 1)
    assert (second["tasks_new"], second["votes_new"]) == (0, 0)
    assert (second["tasks_known"], second["votes_known"]) == (1, 1)


def test_feedback_out_of_range_is_a_sentence_and_stores_nothing(bindu: Bindu) -> None:
    bindu("feedback", "import", "-", "--system-prompt", "You help.", stdin=json.dumps(CONVERSATION | {"feedback": []}))
    refused = bindu("feedback", "add", "a1", "--rating", "99")
    preview = json.loads(bindu("dataset", "preview", "--require-feedback", "--json").stdout)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "1 to 5" in refused.stderr
    assert preview["funnel"]["golden"] == 0


def test_feedback_for_an_unknown_task_says_what_to_do(bindu: Bindu) -> None:
    bindu("prompt", "add", stdin="You help.")
    refused = bindu("feedback", "add", "nobody", "--rating", "4")
    assert refused.returncode == 2
    assert "has no task nobody" in refused.stderr


@pytest.mark.parametrize(
    "program", [(sys.executable, "-m", "bindu.dspy.cli.train"), (str(BIN / "bindu"), "train")], ids=["module", "bindu"]
)
def test_training_with_too_few_examples_is_refused_with_3(bindu: Bindu, program: tuple[str, ...]) -> None:
    bindu("prompt", "add", stdin="You help.")
    words = ("--optimizer", "simba", "--strategy", "last_turn", "--require-feedback")
    refused = bindu(*words, program=program, DSPY__API_BASE="http://127.0.0.1:9", DSPY__API_KEY="none")
    skipped = bindu(*words, "--ok-if-skipped", program=program, DSPY__API_BASE="http://127.0.0.1:9")
    assert refused.returncode == 3, refused.stderr
    assert "100" in refused.stdout + refused.stderr
    assert skipped.returncode == 0


def test_training_during_an_experiment_is_refused_with_3(bindu: Bindu) -> None:
    bindu("prompt", "add", stdin="You help.")
    bindu("prompt", "add", stdin="You help a lot.")
    refused = bindu("train", "--optimizer", "simba")
    assert refused.returncode == 3
    assert "still on trial with 10% of traffic" in refused.stderr


def test_without_a_database_it_leaves_with_4_and_a_way_out(bindu: Bindu) -> None:
    unset = bindu("status", STORAGE__POSTGRES_URL="")
    away = bindu("status", STORAGE__POSTGRES_URL="postgresql://me:hidden@127.0.0.1:9/none")
    assert (unset.returncode, away.returncode) == (4, 4), unset.stderr + away.stderr
    assert "embedded:" in unset.stderr
    assert "127.0.0.1:9" in away.stderr
    assert "hidden" not in away.stderr


@pytest.mark.parametrize("command", ["status", "demo"])
def test_a_misspelt_setting_is_a_sentence_and_4(bindu: Bindu, command: str) -> None:
    done = bindu(command, DSPY__AGENTID="x")
    assert done.returncode == 4
    assert "Did you mean DSPY__AGENT_ID?" in done.stderr


WORDS = {  # what a command must be told
    "canary explain": ("1",),
    "dataset export": ("-",),
    "db erase": ("--unit", "nobody", "--reason", "x"),
    "db prune": ("--older-than", "180d"),
    **{f"canary {verb}": ("--reason", "x") for verb in ("abort", "pause", "promote", "resume", "rollback")},
    "feedback add": ("a1", "--rating", "4"),
    "feedback import": ("-",),
    "keys add": ("web-shop",),
    "keys revoke": ("0197f3c2",),
    "prompt show": ("1",),
    "runs cancel": ("0197f3c2",),
}


HEALERS = ("doctor", "config schema")  # which work with wrong settings, as they help to put them right


EVERY_ONE = """
import json, sys
from typer.testing import CliRunner
from bindu.dspy.cli.app import app
ended = {path: CliRunner().invoke(app, words, input="You help.") for path, words in json.load(sys.stdin).items()}
print(json.dumps({path: [one.exit_code, one.stdout, one.stderr] for path, one in ended.items()}))
"""


def test_a_wrong_setting_is_a_sentence_and_4_whatever_the_command(tmp_path: Path) -> None:
    asked = {path: [*path.split(), *WORDS.get(path, ())] for path in PATHS if path not in HEALERS}
    program = (sys.executable, "-c", EVERY_ONE)
    done = bindu_at(tmp_path, "")(program=program, stdin=json.dumps(asked), DSPY__CANARY__GAIN="0")
    ended = json.loads(done.stdout)
    assert set(ended) == set(asked)
    for path, (code, stdout, stderr) in ended.items():
        assert (code, stdout) == (4, ""), (path, stderr)
        assert stderr.startswith("error: DSPY__CANARY__GAIN: Input should be greater than or equal to 0.001."), path
        assert stderr.count("\n") == 1, path


def test_settings_that_cannot_be_read_are_a_sentence_and_4(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"DSPY__AGENT_ID=\xff")
    done = bindu_at(tmp_path, "")("status")
    assert done.returncode == 4
    assert done.stderr.startswith("error: .env cannot be read: ")


@pytest.mark.parametrize("words", [("canary",), ("canary", "run"), ("canary", "run", "--dry-run")])
def test_the_canary_of_an_agent_without_a_prompt_says_so(bindu: Bindu, words: tuple[str, ...]) -> None:
    done = bindu(*words, "--agent", "typo")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Agent 'typo' has no prompt yet: ")


@pytest.mark.parametrize(
    "program",
    [(sys.executable, "-m", "bindu.dspy.cli.canary"), (str(BIN / "bindu"), "canary")],
    ids=["module", "bindu"],
)
def test_the_canary_has_nothing_to_do_without_a_candidate(bindu: Bindu, program: tuple[str, ...]) -> None:
    bindu("prompt", "add", stdin="You help.")
    done = bindu(program=program)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout


def test_each_canary_run_writes_one_decision(bindu: Bindu) -> None:
    bindu("prompt", "add", stdin="You help.")
    bindu("prompt", "add", stdin="You help a lot.", DSPY__CANARY__RULE="means")
    decisions = [json.loads(bindu("canary", "--json").stdout)["decision"] for _ in range(2)]
    assert [(d["verdict"], d["window"], d["share_after"]) for d in decisions] == [("hold", 1, 0.1), ("hold", 2, 0.1)]


def test_what_users_write_is_shown_and_not_obeyed_as_markup(bindu: Bindu) -> None:
    line = json.dumps(
        CONVERSATION | {"messages": [{"role": "user", "content": "[/oops]"}, {"role": "agent", "content": "[bold]x"}]}
    )
    imported = bindu("feedback", "import", "-", "--system-prompt", "New [/nope]", stdin=line)
    listed, preview = bindu("prompt", "list"), bindu("dataset", "preview")
    assert (imported.returncode, listed.returncode, preview.returncode) == (0, 0, 0), listed.stderr + preview.stderr
    assert "[/nope]" in listed.stdout
    assert "[/oops]" in preview.stdout
    assert "[bold]x" in preview.stdout


@pytest.mark.parametrize(
    ("shell", "code", "sentence"),
    [
        ("bindu prompt add <&-", 2, "Standard input is closed"),
        ("bindu status --json >/dev/full", 2, "No space left on device"),
        ("bindu prompt add /tmp", 2, "Is a directory"),
        ("printf '\\xff' | bindu prompt add", 2, "can't decode"),
        ("printf 'h\\xc3\\xa9' | LC_ALL=C PYTHONIOENCODING=ascii PYTHONUTF8=0 bindu prompt add", 0, ""),
        ("bindu status >&-", 0, ""),
        ("bindu status --json >&-", 0, ""),
    ],
)
def test_odd_surroundings_are_a_sentence_too(bindu: Bindu, shell: str, code: int, sentence: str) -> None:
    done = bindu(shell, program=("bash", "-c"), PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_without_columns_shows_everything(bindu: Bindu) -> None:
    bindu("prompt", "add", stdin="You help.")
    assert bindu("--help", COLUMNS="0").stdout == bindu("--help", COLUMNS="80").stdout
    assert bindu("prompt", "list", COLUMNS="0").stdout == bindu("prompt", "list", COLUMNS="80").stdout
    assert "You help." in bindu("prompt", "list", COLUMNS="0").stdout


def test_what_an_ascii_terminal_cannot_show_is_spelled_out(bindu: Bindu) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "COLUMNS": "40"}
    bindu("prompt", "add", stdin="Hé " * 40)
    assert bindu("prompt", "show", "1", **ascii_only).stdout.startswith("H\\xe9 H")
    assert "\\u2026" in bindu("prompt", "list", **ascii_only).stdout
    told = json.loads(bindu("prompt", "show", "1", "--json", **ascii_only).stdout)
    assert told["text"].startswith("Hé Hé")


def test_the_beginning_of_a_reason_is_enough_for_a_status(bindu: Bindu) -> None:
    bindu("prompt", "add", stdin="You help.")
    bindu("prompt", "add", stdin="You help a lot.")
    bindu("canary", "pause", "--reason", "x" * 100_000)
    for words in (("status",), ("canary", "status")):
        shown = bindu(*words).stdout
        assert "x" in shown
        assert len(shown) < 10_000
    assert json.loads(bindu("status", "--json").stdout)["decisions"][0]["reason"] == "x" * 100_000


def test_the_schema_can_be_checked_and_upgraded(bindu: Bindu) -> None:
    upgraded = json.loads(bindu("db", "upgrade", "--json").stdout)
    checked = json.loads(bindu("db", "check", "--json").stdout)
    assert upgraded["applied"] == []
    assert checked["pending"] == []
    assert checked["applied"]
