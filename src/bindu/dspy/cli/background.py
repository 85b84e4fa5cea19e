"""Training that goes on after its command has returned."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from uuid_utils.compat import uuid7

from bindu.dspy.guard import ensure_system_stable
from bindu.dspy.storage import serving_or_raise
from bindu.settings import app_settings

__all__ = ["Started", "start_in_background"]

_WORD: Final = "--detach"
_PRIVATE: Final = 0o600  # a log may quote what users wrote


@dataclass(frozen=True, slots=True)
class Started:
    """A run that has just begun in a process of its own."""

    run_id: UUID
    log: str
    sentence: str


async def start_in_background(agent_id: str) -> Started:
    """Run this command once more, without waiting for it, once nothing forbids it.

    Raises ExperimentActiveError and NoActivePromptError, as the run itself would.
    """
    await serving_or_raise(agent_id)
    await ensure_system_stable(agent_id)
    return _started(uuid7())


def _started(run_id: UUID) -> Started:
    folder = Path(app_settings.dspy.training.runs_folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = folder / f"{run_id}.log"
    words = [word for word in sys.argv[1:] if word != _WORD]
    if words[:1] == ["train"]:
        words = words[1:]
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT, _PRIVATE), "wb") as written:
        subprocess.Popen(  # noqa: S603 - the words that this command was called with
            [sys.executable, "-m", "bindu.dspy.cli.train", *words, "--run-id", str(run_id)],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    sentence = f"Run {run_id} has begun. Follow it with 'bindu runs show --watch'; its log is {log}."
    return Started(run_id, str(log), sentence)
