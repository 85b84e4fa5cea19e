"""The README's demo, as a newcomer runs it: real conversations, the closed loop, then a dashboard to watch it go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bindu.dspy.postgres import embedded
from bindu.dspy.strategies import STRATEGIES
from conftest import until, value

BINDU = Path(sys.executable).parent / "bindu"


def demo(seed: int, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [BINDU, "demo", "--no-serve", "--json", "--seed", str(seed)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    told: dict[str, Any] = json.loads(lines[0])
    assert list(folder.iterdir()) == []  # nothing is left behind
    return told


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return [demo(seed, tmp_path_factory.mktemp(f"world-{seed}")) for seed in (0, 7)]


def test_the_trained_prompt_is_truly_better_and_promoted_in_every_world(worlds: list[dict[str, Any]]) -> None:
    for told in worlds:
        assert 0.2 <= told["quality_before"] <= 0.4
        assert told["quality_after"] >= 0.8
        assert told["promoted"] is True


def test_the_worse_prompt_is_rolled_back_in_every_world(worlds: list[dict[str, Any]]) -> None:
    assert [told["bad_candidate"] for told in worlds] == ["rolled_back", "rolled_back"]


def test_the_real_conversations_are_all_imported_and_accounted_for(worlds: list[dict[str, Any]]) -> None:
    logs = worlds[0]["real_logs"]
    assert (logs["replies"], logs["conversations"], logs["votes"]) == (646, 97, 1162)
    assert set(logs["golden"]) == set(logs["drops"]) == set(STRATEGIES)
    assert logs["golden"]["last_turn"] + sum(logs["drops"]["last_turn"].values()) == 646


def test_another_seed_is_another_world_with_other_numbers(worlds: list[dict[str, Any]]) -> None:
    first, second = worlds
    differing = [
        key for key in ("quality_before", "quality_after", "model_calls", "feedback") if first[key] != second[key]
    ]
    assert len(differing) >= 3
    assert first["real_logs"] == second["real_logs"]


@dataclass
class Watched:
    """A demo that goes on."""

    process: subprocess.Popen[str]
    folder: Path
    told: dict[str, Any]
    database: str

    @property
    def address(self) -> str:
        return self.told["dashboard"].partition("/dashboard")[0]


def started(folder: Path, *words: str, **extra: str) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    return subprocess.Popen(
        [BINDU, "demo", *words],
        cwd=folder,
        env=environment | extra,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str]:
    """The exit code and what was still said."""
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def left_of(folder: Path) -> list[str]:
    """The commands of processes that have to do with a folder: PostgreSQL sits in it, its supervisor names it."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = " ".join(process.info["cmdline"] or ())
        if str(folder) in command or (process.info["cwd"] or "").startswith(str(folder)):
            found.append(command)
    return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Among settings that are not for it, and with a browser that only notes what it is to open."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / ".env").write_text("DSPY__SERVER__REQUIRE_KEY=true\nDSPY__PROXY__SPOOL_FOLDER=spool\n")
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\nexec echo "$1" > {folder}/opened\n')
    browser.chmod(0o755)
    others = {"DSPY__SERVER__RATE_LIMIT": "1/hour", "DSPY__CANARY__RULE": "means", "BROWSER": f"{browser} %s"}
    words = ("--port", "0", "--hour-seconds", "0.2", "--open", "--json")
    with started(folder, *words, **others) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            told = json.loads(process.stdout.readline() or process.communicate()[1])
            url = next(line for line in process.stderr if "STORAGE__POSTGRES_URL=" in line)
            server = embedded.start(Path(url.partition("embedded:")[2].split()[0]))
            server.close()  # the demo's own share keeps it up
            assert any("goes on trial" in line for line in process.stderr)
            yield Watched(process, folder, told, server.url)
        finally:
            process.kill()
            process.communicate()


def test_the_same_seed_tells_the_same_story_whatever_the_settings_say(
    worlds: list[dict[str, Any]], watched: Watched
) -> None:
    differing = {"seconds": 0, "dashboard": None}
    assert watched.told | differing == worlds[0] | differing


async def test_a_newcomer_asks_and_votes_and_the_next_decision_counts_it(watched: Watched) -> None:
    async with httpx.AsyncClient(base_url=watched.address, timeout=20) as http:
        page = (await http.get("/dashboard?agent=support-desk")).raise_for_status()
        assert "support-desk" in page.text
        asked = await http.post("/chat", data={"question": "This is Nadia. Where is my lamp?"})
        talk = asked.headers["location"]
        assert "Nadia" in (await http.get(talk)).text
        assert (await http.post(talk, data={"vote": "up", "comment": "said by a newcomer"})).status_code == 303
        assert "said by a newcomer" in (await http.get("/dashboard/feedback?agent=support-desk")).text
        counted = f"SELECT count(*) FROM bindu_dspy.units WHERE unit_id = 'visitor-{talk.rpartition('/')[2]}'"
        await until(watched.database, f"{counted} AND counted_window IS NOT NULL", 1, seconds=20)
        window = await value(watched.database, counted.replace("count(*)", "counted_window"))
        decided = f"SELECT count(*) FROM bindu_dspy.decisions WHERE closed_window = {window} AND experiment_id = 3"
        assert await value(watched.database, decided) == 1


async def test_the_browser_is_opened_at_the_dashboard(watched: Watched) -> None:
    async with asyncio.timeout(10):
        while not (watched.folder / "opened").is_file():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    assert (watched.folder / "opened").read_text().strip() == watched.told["dashboard"]


def test_ctrl_c_leaves_neither_a_process_nor_a_file_behind(watched: Watched) -> None:
    code, said = ended(watched.process, signal.SIGINT)
    assert (code, said.splitlines()[-1]) == (130, "interrupted")
    assert "Traceback" not in said
    assert sorted(path.name for path in watched.folder.iterdir()) == [".env", "browser", "opened"]
    assert left_of(watched.folder) == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_in_the_middle_leaves_nothing_behind(tmp_path: Path, how: signal.Signals) -> None:
    process = started(tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Act one")
    assert ended(process, how) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []
    assert left_of(tmp_path) == []


def test_a_port_that_somebody_else_has_is_told_before_anything_begins(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = started(tmp_path, "--port", str(port))
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert f"Cannot listen on 127.0.0.1:{port}" in err
    assert list(tmp_path.iterdir()) == []
