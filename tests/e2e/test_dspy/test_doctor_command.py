"""The doctor says what is amiss and what to do, changes nothing and never takes long."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from commands import Bindu, bindu_at
from conftest import execute

CONVERSATION = {
    "id": "a1",
    "conversation_id": "c1",
    "messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "On its way."}],
    "feedback": {"thumbs_up": True},
}


def findings(stdout: str) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in json.loads(stdout)["findings"]}


def test_an_empty_folder_is_told_to_begin(tmp_path: Path) -> None:
    done = bindu_at(tmp_path, "")("doctor", "--json")
    found = findings(done.stdout)
    assert done.returncode == 4
    assert (found["database"]["state"], found[".env"]["state"]) == ("problem", "note")
    assert "bindu init" in found["database"]["advice"]
    assert list(tmp_path.iterdir()) == []


def test_an_embedded_database_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    done = bindu_at(tmp_path, "embedded:")("doctor")
    assert done.returncode == 4
    assert "Run 'bindu init'." in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_blank_database_is_not_migrated(tmp_path: Path, blank_url: str) -> None:
    call = bindu_at(tmp_path, blank_url)
    done = call("doctor", "--json")
    assert done.returncode == 4
    assert findings(done.stdout)["schema"]["advice"] == "Run 'bindu db upgrade'."
    assert json.loads(call("db", "check", "--json").stdout)["applied"] == []


def test_an_agent_without_a_prompt_is_a_problem_that_names_the_others(bindu: Bindu) -> None:
    bindu("prompt", "add", stdin="You help.")
    assert bindu("doctor").returncode == 0
    done = bindu("doctor", "--json", "--agent", "typo")
    assert done.returncode == 4
    assert "There are others: default." in findings(done.stdout)["prompt"]["advice"]


def test_a_working_loop_is_well(bindu: Bindu) -> None:
    bindu("feedback", "import", "-", "--system-prompt", "You help.", stdin=json.dumps(CONVERSATION))
    done = bindu("doctor", "--json", OPENAI_API_KEY="sk-hidden")
    found = findings(done.stdout)
    assert (done.returncode, json.loads(done.stdout)["sentence"]) == (0, "All is well.")
    assert found["feedback"]["text"].startswith("Votes in the past week: 1;")
    assert found["model"]["text"] == "openai/gpt-4o-mini, with the key in OPENAI_API_KEY."
    assert "hidden" not in done.stdout


def test_a_silent_database_does_not_keep_it_long(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        call = bindu_at(tmp_path, f"postgresql://me:hidden@127.0.0.1:{silent.getsockname()[1]}/none")
        began = monotonic()
        done = call("doctor")
        took = monotonic() - began
    assert done.returncode == 4
    assert "It did not answer within 4 seconds." in done.stdout
    assert "hidden" not in done.stdout + done.stderr
    assert took < 10


@pytest.mark.parametrize("name", ["DSPY__AGENTID", "DSPY__CANARY__GAIN"])
def test_wrong_settings_are_a_problem_and_the_rest_is_looked_at(tmp_path: Path, name: str) -> None:
    done = bindu_at(tmp_path, "")("doctor", "--json", **{name: "0"})
    found = findings(done.stdout)
    assert done.returncode == 4
    assert name in found["settings"]["text"]
    assert found["extras"]["state"] == "ok"
    assert "database" not in found


def test_what_others_may_read_and_what_is_ignored_are_warnings(bindu: Bindu, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("STORAGE__TYPE=postgres\n")
    (tmp_path / ".env").chmod(0o644)
    done = bindu("doctor")
    assert "warning .env: Other users of this machine may read it." in done.stdout
    assert "warning settings: Ignored: STORAGE__TYPE." in done.stdout


def test_exchanges_that_wait_for_the_database_are_counted(bindu: Bindu, tmp_path: Path) -> None:
    spool = tmp_path / ".bindu/spool"
    spool.mkdir(parents=True)
    (spool / "0197f3c2.jsonl").write_bytes(b"{}\n{}\n")
    found = findings(bindu("doctor", "--json").stdout)["spool"]
    assert (found["state"], found["text"][:20]) == ("warning", "2 exchanges wait in ")
    assert (spool / "0197f3c2.jsonl").exists()


def test_a_stale_canary_and_a_dead_trainer_are_warnings(bindu: Bindu, postgres_url: str) -> None:
    bindu("prompt", "add", stdin="You help.")
    bindu("prompt", "add", stdin="You help a lot.")
    asyncio.run(
        execute(
            postgres_url,
            "UPDATE bindu_dspy.experiments SET started_at = started_at - interval '10 days'",
            "INSERT INTO bindu_dspy.training_runs "
            "(agent_id, id, optimizer, strategy, seed, state, calls, cost, details, started_at, seen_at) VALUES "
            "('default', gen_random_uuid(), 'simba', 'last_turn', 0, 'running', 0, 0, '{}', "
            "now() - interval '2 hours', now() - interval '1 hour')",
            "INSERT INTO bindu_dspy.jobs (agent_id, name, last_slot, last_outcome) "
            "VALUES ('default', 'canary', now() - interval '2 days', 'hold'), "
            "('default', 'train', now() - interval '2 days', 'failed: exit code 1')",
            "UPDATE bindu_dspy.jobs SET holder = 'gone:1', lease_until = now() - interval '1 day' "
            "WHERE name = 'canary'",
        )
    )
    done = bindu("doctor", "--json")
    found = findings(done.stdout)
    assert done.returncode == 0
    assert {found[name]["state"] for name in ("experiment", "training", "worker's train", "worker's canary")} == {
        "warning"
    }
    assert "nobody ran it" in found["worker's canary"]["text"]
    assert "windows have ended and nobody looked" in found["experiment"]["text"]
    assert "no sign of life" in found["training"]["text"]


def test_the_upstream_distribution_in_the_same_environment_is_a_problem(bindu: Bindu, tmp_path: Path) -> None:
    bindu("prompt", "add", stdin="You help.")
    there = tmp_path / "site/bindu-2026.36.dist-info"
    there.mkdir(parents=True)
    (there / "METADATA").write_text("Metadata-Version: 2.1\nName: bindu\nVersion: 2026.36\n")
    script = f"import sys; sys.path.append({str(tmp_path / 'site')!r}); from bindu.dspy.cli.app import main; main()"
    done = bindu("doctor", "--json", program=(sys.executable, "-c", script))
    assert done.returncode == 1
    assert "'bindu' 2026.36 is in it" in findings(done.stdout)["environment"]["text"]
