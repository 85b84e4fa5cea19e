"""Training in a process of its own, so that DSPy never loads into the worker."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from typing import Final

from bindu.dspy.errors import StorageUnavailableError
from bindu.settings import WorkerSettings
from bindu.utils.logging import get_logger

__all__ = ["FAILED", "command", "train_apart"]

FAILED: Final = "failed"  # how the outcome of a job that did not get to its end begins

_GRACE: Final = 20.0  # seconds to save a checkpoint in
_PR_SET_PDEATHSIG: Final = 1
_UNAVAILABLE: Final = 4
_EXITS: Final = {_UNAVAILABLE: "unavailable", 5: "budget", 130: "cancelled"}

logger = get_logger("bindu.dspy.worker")


def command(agent_id: str, settings: WorkerSettings) -> list[str]:
    """``bindu train`` with the worker's settings."""
    feedback = ["--require-feedback"] if settings.require_feedback else []
    how = ["--optimizer", settings.optimizer, "--strategy", settings.strategy, *feedback]
    told = ["--ok-if-skipped", "--json", "--for-worker"]
    return [sys.executable, "-m", "bindu.dspy.cli.train", *how, *told, "--agent", agent_id]


async def train_apart(agent_id: str, settings: WorkerSettings) -> str:
    """Train and return the outcome in a word; its log goes to standard error.

    Cancelled, it asks the process to stop, which leaves a checkpoint, and kills one that does not. Raises
    StorageUnavailableError when the database was away for it: asked again, it goes on where it was.
    """
    child = await asyncio.create_subprocess_exec(
        *command(agent_id, settings),
        stdin=DEVNULL,
        stdout=PIPE,
        start_new_session=True,  # a terminal's Ctrl-C is for the worker, which stops it in order
        preexec_fn=_dies_with_us(),
    )
    reading = asyncio.create_task(child.communicate())
    try:
        printed, _ = await asyncio.shield(reading)
    except asyncio.CancelledError:
        await _stopped(child, reading)
        raise
    finally:
        if child.returncode is None:
            child.kill()
    return _outcome(child.returncode or 0, printed)


async def _stopped(child: Process, reading: asyncio.Task[tuple[bytes, bytes]]) -> None:
    if child.returncode is None:
        child.terminate()
    try:
        await asyncio.wait_for(asyncio.shield(reading), _GRACE)
    except TimeoutError:
        logger.warning("Training (process %s) did not stop within %.0f seconds and is killed", child.pid, _GRACE)
        child.kill()
        await reading


def _outcome(code: int, printed: bytes) -> str:
    if code == _UNAVAILABLE and printed.strip():
        raise StorageUnavailableError(**json.loads(printed)["storage_unavailable"])
    if code:
        return _EXITS.get(code, f"{FAILED}: exit code {code}")
    if not printed.strip():
        return "skipped"  # a guard said no, and why, on standard error
    outcome: str | None = json.loads(printed)["outcome"]
    return outcome or "nothing"


def _dies_with_us() -> Callable[[], None] | None:
    """On Linux a trainer is asked to stop when its worker is killed: the next one would train beside it."""
    if not sys.platform.startswith("linux"):
        return None
    prctl: Callable[[int, int], int] = ctypes.CDLL(None).prctl  # loaded before the fork
    us = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != us:
            os._exit(1)

    return ask
