"""``bindu runs``: what training did, and why; what it is doing, and how to stop it."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any, Final

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from bindu.dspy.cli.output import (
    AgentOption,
    DryRunOption,
    JsonOption,
    emit,
    fail,
    run,
    short,
    stack,
    table,
    user_name,
)
from bindu.dspy.errors import InvalidArgumentError
from bindu.dspy.insights.run_figures import run_parts
from bindu.dspy.models import TrainingRun
from bindu.dspy.runs import BY_HAND, RunReport, cancel_run, list_runs, run_name, run_report
from bindu.settings import agent_or_default

__all__ = ["app"]

EVERY: Final = 2.0  # seconds between looks at a run

LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="How many.")]

app = typer.Typer(help="Training runs and their outcomes.", no_args_is_help=True)


@app.command("list")
def list_(agent: AgentOption = None, limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """List the newest runs.

    Example: bindu runs list --limit 5
    """
    found = run(lambda: list_runs(limit=limit, agent_id=agent_or_default(agent)))
    emit({"runs": found}, as_json=as_json, text=lambda: _table(found) if found else _nothing(agent))


@app.command("show")
def show(
    run_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Its id, or the beginning of it; default the newest.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again until the run has ended.")] = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how a run is doing or how it ended: a sentence first, then what it read, spent, learned and proved.

    Example: bindu runs show --watch
    """
    if watch:
        if as_json or not sys.stdout.isatty():
            fail(InvalidArgumentError("--watch draws on a terminal. Leave it out, or leave out --json and the pipe."))
        run(lambda: _watch(run_id, agent))
        return
    found = run(lambda: run_report(run_id, agent_id=agent_or_default(agent)))
    emit(found, as_json=as_json, text=lambda: _shown(found))


@app.command("cancel")
def cancel(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, or the beginning of it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the run.")] = BY_HAND,
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a run to stop; one whose process is gone ends at once.

    Example: bindu runs cancel 0197f3c2 --reason 'The wrong data was imported.'
    """
    done = run(
        lambda: cancel_run(run_id, reason=reason, actor=user_name(), dry_run=dry_run, agent_id=agent_or_default(agent))
    )
    result: dict[str, Any] = {"sentence": done.sentence, "did": done.did, "run": done.run, "dry_run": dry_run}
    emit(result, as_json=as_json, text=lambda: done.sentence)


async def _watch(run_id: str | None, agent: str | None) -> None:
    """Draw a run over itself until it has ended; what does not fit on the screen is shown then."""
    agent_id = agent_or_default(agent)
    seen = await run_report(run_id, agent_id=agent_id)
    with Live(_shown(seen), console=Console(highlight=False), auto_refresh=False, redirect_stdout=False) as picture:
        while seen.run.state == "running":
            picture.refresh()
            await asyncio.sleep(EVERY)
            seen = await run_report(seen.run.id, agent_id=agent_id)
            picture.update(_shown(seen))


def _shown(found: RunReport) -> RenderableType:
    return stack(found.sentence, *run_parts(found.run))


def _nothing(agent: str | None) -> str:
    whose = f"Agent '{agent_or_default(agent)}'"
    return f"{whose} has no training run yet. 'bindu dataset build' says whether one would begin."


def _table(runs: list[TrainingRun]) -> Table:
    return table(
        *("run", "how", "outcome", "spent", "reason"),
        rows=[
            (
                f"{run_name(item)}\n{item.started_at:%y-%m-%d %H:%M}" if item.started_at else run_name(item),
                f"{item.optimizer}\n{item.strategy}",
                item.outcome or item.state,
                f"{item.calls:,} calls" + (f"\n${item.cost:.2f}" if item.cost else ""),
                short(item.reason or item.step or ""),
            )
            for item in runs
        ],
    )
