"""From an empty folder to a prompt that is served, and nothing that was there is lost on the way."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from bindu.dspy.cli.output import user_name
from bindu.setting_texts import MEANINGS
from commands import BIN, Bindu, bindu_at

UNSET = ("env", "-u", "STORAGE__POSTGRES_URL")
BINDU = (*UNSET, str(BIN / "bindu"))
KILLED = """
import os, signal
from bindu.dspy.cli import {module} as module
from bindu.dspy.cli.app import main
module.{name} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    return tmp_path


@pytest.fixture
def fresh(folder: Path) -> Bindu:
    """The command in a folder of git's, without a database in the environment."""

    def call(*words: str, **options: Any) -> Any:
        return bindu_at(folder, "")(*words, **({"program": BINDU} | options))

    return call


def said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_empty_folder_becomes_a_served_prompt(fresh: Bindu, folder: Path) -> None:
    done = said(fresh("init", "--embedded", "--agent", "support", "--prompt", "-", "--json", stdin="You help.\n"))
    assert (done["env_file"], done["prompt_id"], done["prompt_origin"]) == ("written", 1, "file")
    assert done["gitignore"] == [".env", ".bindu/"]
    assert (folder / ".gitignore").read_text() == ".env\n.bindu/\n"
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    assert fresh("prompt", "export").stdout == "You help."
    assert [one["actor"] for one in said(fresh("audit", "list", "--json"))["entries"]] == [user_name()]
    assert fresh("status").stdout.startswith("Prompt 1 answers every request")
    told = said(fresh("doctor", "--json"))
    assert told["healthy"]
    assert {one["check"] for one in told["findings"] if one["state"] == "ok"} >= {"database", "schema", "prompt"}


def test_running_it_again_changes_nothing(fresh: Bindu, folder: Path) -> None:
    fresh("init", "--prompt", "-", stdin="You help.")
    before = {file: file.read_bytes() for file in (folder / ".env", folder / ".gitignore")}
    again = said(fresh("init", "--json"))
    assert (again["env_file"], again["migrations"], again["gitignore"], again["prompt_id"]) == ("kept", [], [], 1)
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize(
    ("module", "name"),
    [("files", "os.fsync"), ("starting", "migrate.upgrade"), ("starting", "bootstrap_prompt")],
)
def test_killed_on_the_way_it_is_run_again(fresh: Bindu, folder: Path, module: str, name: str) -> None:
    script = KILLED.format(module=module, name=name)
    killed = fresh("init", program=(*UNSET, sys.executable, "-c", script))
    assert killed.returncode == -9
    again = said(fresh("init", "--json"))
    assert again["prompt_id"] == 1
    assert dotenv_values(folder / ".env")["STORAGE__POSTGRES_URL"] == "embedded:"


def test_an_unreachable_database_is_4_and_nothing_is_written(fresh: Bindu, folder: Path) -> None:
    done = fresh("init", "--url", "postgresql://me:hidden@127.0.0.1:9/none")
    assert done.returncode == 4
    assert "127.0.0.1:9" in done.stderr
    assert "hidden" not in done.stdout + done.stderr
    assert os.listdir(folder) == [".git"]


def test_a_prompt_that_cannot_be_is_2_and_nothing_is_written(fresh: Bindu, folder: Path) -> None:
    assert fresh("init", "--prompt", "-", stdin="  \n").returncode == 2
    assert fresh("init", "--prompt", "absent.txt").returncode == 2
    assert os.listdir(folder) == [".git"]


def test_a_server_is_named_without_its_password(fresh: Bindu, folder: Path, blank_url: str) -> None:
    url = blank_url.replace("@", ":hid%24den@", 1) if "@" in blank_url else blank_url
    done = fresh("init", "--url", url, "--json")
    told = said(done)
    assert len(told["migrations"]) >= 5
    assert "hid" not in done.stdout + done.stderr
    assert dotenv_values(folder / ".env")["STORAGE__POSTGRES_URL"] == url
    shown = fresh("config", "show", "--origin")
    assert "hid" not in shown.stdout
    assert fresh("status").returncode == 0


def test_a_dry_run_says_all_and_makes_nothing(fresh: Bindu, folder: Path) -> None:
    done = said(fresh("init", "--dry-run", "--json"))
    assert (done["env_file"], done["prompt_id"]) == ("written", None)
    assert len(done["migrations"]) >= 5
    assert os.listdir(folder) == [".git"]


def test_an_env_file_that_is_there_stays_unless_forced_and_is_kept_then(fresh: Bindu, folder: Path) -> None:
    (folder / ".env").write_text("OPENAI_API_KEY=sk-1\nDSPY__AGENT_ID=mine\n")
    refused = fresh("init")
    assert refused.returncode == 4
    assert "does not set STORAGE__POSTGRES_URL" in refused.stderr
    assert "STORAGE__POSTGRES_URL=embedded:" in refused.stderr
    assert sorted(os.listdir(folder)) == [".env", ".git"]
    forced = said(fresh("init", "--force", "--json"))
    assert forced["backup"] == ".env.bak"
    assert (folder / ".env.bak").read_text() == "OPENAI_API_KEY=sk-1\nDSPY__AGENT_ID=mine\n"
    assert (folder / ".env.bak").stat().st_mode & 0o777 == 0o600
    assert ".env.bak*" in (folder / ".gitignore").read_text()
    kept = dotenv_values(folder / ".env")
    assert (kept["OPENAI_API_KEY"], kept["DSPY__AGENT_ID"]) == ("sk-1", "default")
    assert said(fresh("init", "--force", "--dry-run", "--json"))["backup"] == ".env.bak2"


def test_a_value_of_many_lines_is_kept_whole_and_sections_of_ours_are_not(fresh: Bindu, folder: Path) -> None:
    key = "-----BEGIN KEY-----\n# of theirs\nDSPY__AGENT_ID=no\n-----END KEY-----"
    (folder / ".env").write_text(f'CERT="{key}"\nDSPY={{"agent_id": "old"}}\nBROKEN=\'it\nLAST=1\n')
    said(fresh("init", "--force", "--json"))
    kept = dotenv_values(folder / ".env")
    assert (kept["CERT"], kept["LAST"], kept["DSPY__AGENT_ID"]) == (key, "1", "default")
    assert not {"DSPY", "BROKEN"} & set(kept)
    assert "# BROKEN='it\n" in (folder / ".env").read_text()


@pytest.mark.parametrize(("root", "added"), [("/.env\n.bindu/\n", [".env"]), (".*\n", []), ("", [".env", ".bindu/"])])
def test_git_is_asked_what_a_folder_below_ignores(folder: Path, root: str, added: list[str]) -> None:
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / ".gitignore").write_text(root)
    (folder / "sub").mkdir()
    done = said(bindu_at(folder / "sub", "")("init", "--dry-run", "--json", program=BINDU))
    assert done["gitignore"] == added


def test_an_env_file_that_nobody_can_read_can_be_written_anew(fresh: Bindu, folder: Path) -> None:
    (folder / ".env").write_bytes(b"DSPY__AGENT_ID=\xff\n")
    assert fresh("init").returncode == 4
    assert said(fresh("init", "--force", "--json"))["env_file"] == "written"
    assert (folder / ".env.bak").read_bytes() == b"DSPY__AGENT_ID=\xff\n"


def test_an_option_against_the_environment_is_a_sentence(folder: Path) -> None:
    call = bindu_at(folder, "postgresql://127.0.0.1:9/none")
    other = call("init", "--embedded")
    nothing = call("init", STORAGE__POSTGRES_URL="")
    assert (other.returncode, nothing.returncode) == (2, 2)
    assert "wins over .env" in other.stderr
    assert "to nothing" in nothing.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--url", "postgresql://h/d", "--embedded"), 2, "Give one of them"),
        (("--agent", ""), 2, "An option is empty"),
        (("--agent", "*"), 2, "'*' means every agent"),
        (("--agent", "x${HOME}"), 2, "cannot be written into a .env file"),
        (("--url", "postgresql://me:a@b@h/d"), 4, "%40 for @"),
    ],
)
def test_odd_wishes_are_sentences(fresh: Bindu, folder: Path, words: tuple[str, ...], code: int, sentence: str) -> None:
    done = fresh("init", *words)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert os.listdir(folder) == [".git"]


def test_the_env_file_names_every_setting_and_all_of_it_can_be_uncommented(fresh: Bindu, folder: Path) -> None:
    fresh("init")
    text = (folder / ".env").read_text()
    named = {line.lstrip("#").partition("=")[0] for line in text.splitlines() if "__" in line.partition("=")[0]}
    assert named >= set(MEANINGS)
    lines = [
        line.removeprefix("#") if line.startswith(("#DSPY__", "#STORAGE__")) else line for line in text.split("\n")
    ]
    usable = [line for line in lines if not line.endswith("=")]
    (folder / ".env").write_text("\n".join(usable))
    shown = said(fresh("config", "show", "--origin", "--json"))["settings"]
    assert sum(one["origin"] == ".env" for one in shown) > 70


@pytest.mark.skipif(sys.platform == "win32", reason="has no such terminals")
@pytest.mark.parametrize(
    ("deed", "code", "said_at_last"), [("answer", 0, "gets its first prompt, yours"), ("leave", 130, "interrupted")]
)
def test_only_a_terminal_is_asked_for_the_prompt(folder: Path, deed: str, code: int, said_at_last: str) -> None:
    ours, theirs = os.openpty()
    command = subprocess.Popen([*BINDU, "init"], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = read_until(ours, b"in one line")
    if deed == "answer":
        os.write(ours, b"You help in one line.\n")
    else:
        command.send_signal(signal.SIGINT)
    seen += read_until(ours, None)
    os.close(ours)
    assert (command.wait(30), said_at_last in seen) == (code, True), seen


def read_until(terminal: int, words: bytes | None) -> str:
    """What the program on the other end writes, up to these words or to its end."""
    seen = b""
    while words is None or words not in seen:
        assert select.select([terminal], [], [], 30)[0], seen
        try:
            part = os.read(terminal, 4096)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not part:
            break
        seen += part
    return seen.decode()
