"""Every command, found by walking the program: its exit codes, its one JSON object, its sentences for errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import execute, fetch
from inprocess import PATHS, PROGRAM, Run, in_process

AWAY = "postgresql://me:hidden@127.0.0.1:9/none"
TASK = {
    "id": "a1",
    "conversation_id": "c1",
    "messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "On its way."}],
    "feedback": {"thumbs_up": True},
}
NO_SUCH = "0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f"
REASON = ("--reason", "x")
RUNNING = "0197f3c2-7b1e-7cc3-98c4-dc0c0c073990"
RUN = f"""
INSERT INTO bindu_dspy.training_runs
    (agent_id, id, optimizer, strategy, seed, state, calls, cost, details, started_at, seen_at)
VALUES ('default', '{RUNNING}', 'simba', 'last_turn', 0, 'running', 0, 0, '{{}}', now(), now())
"""
WORDS: dict[str, tuple[str, ...]] = {  # what a command must be told to do something in a fresh database
    "audit verify": (),
    **{f"canary {verb}": REASON for verb in ("abort", "pause", "promote", "resume", "rollback")},
    "canary explain": ("1",),
    "dataset export": ("-",),
    "db erase": ("--unit", "nobody", *REASON),
    "db prune": ("--older-than", "180d"),
    "feedback add": ("a1", "--rating", "4"),
    "feedback import": ("-", "--system-prompt", "You help."),
    "keys add": ("web-shop",),
    "keys revoke": (NO_SUCH,),
    "prompt diff": ("1", "1"),
    "prompt show": ("1",),
    "runs cancel": (NO_SUCH,),
    "worker": ("--once",),
}
STAY = {"demo", "serve"}  # have tests of their own: one takes a minute, the other goes on without a database
NEED_NO_DATABASE = STAY | {"config show", "config schema"}
CODES = {  # in a database with one prompt, one task and one vote; all others end with 0
    **{f"canary {verb}": 3 for verb in ("abort", "pause", "promote", "resume", "rollback", "check")},
    "canary explain": 2,
    "keys revoke": 2,
    "runs cancel": 2,
    "runs show": 2,
    "train": 3,
}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    with in_process(monkeypatch) as run:
        yield lambda path, *words, url="", stdin="You help.": run(url, path, *words, stdin=stdin)


def needed(kind: str) -> dict[str, tuple[str, ...]]:
    return {path: WORDS.get(path, ()) for path in PATHS if path not in NEED_NO_DATABASE | {kind}}


def test_every_word_of_this_file_is_about_a_command_that_there_is() -> None:
    assert {*WORDS, *CODES, *NEED_NO_DATABASE} <= set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_option_is_usage(call: Run, path: str) -> None:
    done = call(path, "--nonsense")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "No such option" in done.stderr


@pytest.mark.parametrize("path", PATHS)
def test_help_ends_in_an_example_and_names_json(call: Run, path: str) -> None:
    done = call(path, "--help")
    assert done.exit_code == 0
    assert "--json" in done.stdout
    assert f"bindu {path}" in done.stdout.partition("Example: ")[2]


@pytest.mark.parametrize("path", needed("init"))
def test_without_a_database_it_is_4_and_a_way_out(call: Run, path: str) -> None:
    done = call(path, *WORDS.get(path, ()))
    assert done.exit_code == 4, done.output
    assert "embedded:" in done.output


@pytest.mark.parametrize("path", needed("init"))
def test_with_the_database_away_it_is_4_and_no_password(call: Run, path: str) -> None:
    done = call(path, *WORDS.get(path, ()), url=AWAY)
    assert done.exit_code == 4, done.output
    assert "127.0.0.1:9" in done.output
    assert "hidden" not in done.output


def test_all_commands_end_as_they_say_and_print_one_object(call: Run, postgres_url: str) -> None:
    assert call("feedback import", *WORDS["feedback import"], url=postgres_url, stdin=json.dumps(TASK)).exit_code == 0
    ended = {}
    for path in [*sorted(set(PATHS) - STAY - {"init", "prompt add"}), "prompt add"]:
        stdin = json.dumps(TASK) if path == "feedback import" else "You help, always."
        done = call(path, *WORDS.get(path, ()), "--json", url=postgres_url, stdin=stdin)
        ended[path] = done.exit_code
        if done.exit_code in (0, 1):
            assert isinstance(json.loads(done.stdout), dict), path
        else:
            assert done.stdout == "", path
            assert done.stderr.startswith("error: "), path
    assert ended == {path: CODES.get(path, 0) for path in ended}


def test_a_dry_run_of_whatever_writes_changes_nothing(call: Run, postgres_url: str) -> None:
    lines = [TASK, TASK | {"id": "a0", "created_at": "2020-03-05T00:00:00Z"}]
    call("feedback import", *WORDS["feedback import"], url=postgres_url, stdin="\n".join(map(json.dumps, lines)))
    call("prompt add", url=postgres_url, stdin="You help, always.")
    key = json.loads(call("keys add", "web-shop", "--json", url=postgres_url).stdout)["id"]
    asyncio.run(execute(postgres_url, RUN))
    known = {"db erase": ("--unit", "c1", *REASON), "keys revoke": (key,), "runs cancel": (RUNNING,)}
    before, said = dump(postgres_url), {}
    writers = [path for path in PATHS if "--dry-run" in options(path) and path not in STAY | {"init"}]
    for path in writers:
        words = ("out.txt",) if path == "dataset export" else known.get(path, WORDS.get(path, ()))
        words += ("--file", "out.txt") if path == "prompt export" else ()
        words += ("--edit", "-", *REASON) if path == "dataset rubric" else ()
        stdin = "Be brief." if path == "dataset rubric" else json.dumps(TASK | {"id": "a2"})
        done = call(path, *words, "--dry-run", url=postgres_url, stdin=stdin)
        assert done.exit_code == (3 if path in {"train", "prompt add"} else 0), (path, done.output)  # one is on trial
        said[path] = done.output
    assert len(writers) > 10
    assert "Would drop 2020-03" in said["db prune"]
    assert "Would erase: 2 tasks" in said["db erase"]
    assert dump(postgres_url) == before
    assert not Path("out.txt").exists()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("train", "--optimizer", "bootstrap"), 2, "simba"),
        (("train", "--strategy", "last_trun"), 2, "last_turn"),
        (("train",), 4, "has no active prompt"),
        (("prompt", "show", "7"), 2, "has no prompt 7"),
        (("prompt", "show", "99999999999"), 2, "less than or equal to"),
        (("prompt", "add", "absent.txt"), 2, "absent.txt"),
        (("runs", "list", "--limit", "-1"), 2, "greater than or equal to 1"),
        (("runs", "show"), 2, "Begin with 'bindu train'"),
        (("runs", "show", "nonsense"), 2, "has no training run 'nonsense'"),
        (("runs", "show", "--watch"), 2, "--watch draws on a terminal"),
        (("runs", "cancel", "0197f3c2"), 2, "'bindu runs list' shows"),
        (("runs", "cancel"), 2, "Missing argument"),
        (("dataset", "rubric", "--edit", "absent.txt"), 2, "absent.txt"),
        (("dataset", "rubric", "--edit", "-"), 2, "The rubric has no rule"),
        (("dataset", "rubric", "--edit", "-", "--release"), 2, "Give --edit or --release"),
        (("dataset", "rubric", "--reason", "x"), 2, "Give --edit or --release"),
        (("nonsense",), 2, "No such command"),
        (("canary", "explain", "7"), 2, "has no decision 7"),
        (("canary", "plan"), 4, "has no active prompt"),
        (("canary", "plan", "--gain", "2", "--feedback-per-day", "9"), 2, "a gain between"),
        (("canary", "plan", "--feedback-per-day", "inf", "--json"), 2, "votes a day, not inf"),
        (("canary", "plan", "--feedback-per-day", "nan"), 2, "votes a day, not nan"),
        (("canary", "plan", "--feedback-per-day", "-1"), 2, "votes a day, not -1"),
        (("canary", "plan", "--feedback-per-day", "1e308"), 2, "votes a day, not 1e+308"),
        (("canary", "plan", "--feedback-per-day", "9", "--share", "1e-12"), 2, "a share between 1e-09"),
        (("canary", "check"), 3, "Begin one with 'bindu train'"),
        (("canary", "pause", "--reason", "x"), 3, "Begin one with 'bindu train'"),
        (("feedback", "import", "absent.jsonl"), 2, "absent.jsonl"),
    ],
)
def test_bad_input_is_a_sentence_and_its_exit_code(
    call: Run, postgres_url: str, words: tuple[str, ...], code: int, sentence: str
) -> None:
    done = call("", *words, url=postgres_url, stdin="")
    assert done.exit_code == code, done.output
    assert sentence in done.stderr
    assert done.stdout == ""


def dump(url: str) -> dict[str, list[str]]:
    """Every row of every table."""

    async def read() -> dict[str, list[str]]:
        tables = await fetch(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'bindu_dspy' ORDER BY 1")
        return {
            name: [
                row[0] for row in await fetch(url, f"SELECT to_jsonb(t)::text FROM bindu_dspy.{name} AS t ORDER BY 1")
            ]
            for (name,) in tables
        }

    return asyncio.run(read())


def options(path: str) -> set[str]:
    command: Any = PROGRAM
    for word in path.split():
        command = command.commands[word]
    return {option for parameter in command.params for option in parameter.opts}
