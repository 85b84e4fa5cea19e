"""``bindu worker``: the canary and training at their times, without cron."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bindu.dspy.cli.output import DryRunOption, JsonOption, emit, fail, run
from bindu.dspy.errors import InvalidArgumentError

if TYPE_CHECKING:
    from bindu.dspy.worker import DueJob, EndedJob

__all__ = ["worker"]

AgentsOption = Annotated[
    list[str] | None, typer.Option("--agent", help="Whose jobs; can be repeated. Default all agents.")
]
OnceOption = Annotated[bool, typer.Option("--once", help="Run what is due now, then end.")]


def worker(
    agent: AgentsOption = None, once: OnceOption = False, dry_run: DryRunOption = False, as_json: JsonOption = False
) -> None:
    """Run the canary and training at the times that DSPY__WORKER__CANARY and DSPY__WORKER__TRAIN say, until stopped.

    Any number of workers may run: each job is run by one of them. What was missed is caught up with once.
    With --once the exit code is 1 when a job failed.

    Example: bindu worker --agent support
    """
    if once or dry_run:
        found = run(lambda: _due(agent) if dry_run else _once(agent), level=logging.INFO)
        _tell(found, dry_run, as_json)
        if not dry_run and any(job.has_failed for job in found):
            raise typer.Exit(1)
    elif as_json:
        fail(InvalidArgumentError("--json prints one object at the end, and a worker has none. Add --once."))
    else:
        run(lambda: _until_stopped(agent), level=logging.INFO)


async def _until_stopped(agents: list[str] | None) -> None:
    from bindu.dspy.worker import Worker  # noqa: PLC0415 - the schedule is an extra

    stop = asyncio.Event()
    if sys.platform != "win32":  # a worker that is asked to stop has done its work
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await Worker(agents).run(stop)


async def _once(agents: list[str] | None) -> list[Any]:
    from bindu.dspy.worker import Worker  # noqa: PLC0415 - the schedule is an extra

    return list(await Worker(agents).run_once())


async def _due(agents: list[str] | None) -> list[Any]:
    from bindu.dspy.worker import Worker  # noqa: PLC0415 - the schedule is an extra

    return list(await Worker(agents).due())


def _tell(found: list[Any], dry_run: bool, as_json: bool) -> None:
    line = _due_line if dry_run else _ended_line
    result = {"due" if dry_run else "ended": found, "dry_run": dry_run}
    emit(result, as_json=as_json, text=lambda: "\n".join(map(line, found)) or "Nothing is due.")


def _due_line(job: DueJob) -> str:
    return f"{job.job} of agent '{job.agent_id}' is due since {job.slot:%Y-%m-%d %H:%M} UTC."


def _ended_line(job: EndedJob) -> str:
    return f"{job.job} of agent '{job.agent_id}', due since {job.slot:%Y-%m-%d %H:%M} UTC: {job.outcome}."
