"""The README's demo, as a newcomer runs it: real conversations, then the closed loop."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bindu.dspy.strategies import STRATEGIES

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


def test_the_same_seed_tells_the_same_story(worlds: list[dict[str, Any]], tmp_path: Path) -> None:
    assert demo(0, tmp_path) | {"seconds": 0} == worlds[0] | {"seconds": 0}
