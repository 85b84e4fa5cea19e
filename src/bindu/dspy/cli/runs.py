"""``bindu runs``: what training did, and why."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from bindu.dspy.cli.output import AgentOption, JsonOption, emit, run, table
from bindu.dspy.models import TrainingRun
from bindu.dspy.storage import get_storage
from bindu.settings import agent_or_default

__all__ = ["app"]

LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="How many.")]

app = typer.Typer(help="Training runs and their outcomes.", no_args_is_help=True)


@app.command("list")
def list_runs(agent: AgentOption = None, limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """List the newest runs.

    Example: bindu runs list --limit 5
    """

    async def service() -> list[TrainingRun]:
        return await (await get_storage()).runs(agent_or_default(agent), limit=limit)

    found = run(service)
    emit({"runs": found}, as_json=as_json, text=lambda: _table(found))


def _table(runs: list[TrainingRun]) -> Table:
    return table(
        *("started", "optimizer", "strategy", "outcome", "calls", "reason"),
        rows=[
            (
                item.started_at.isoformat(timespec="minutes") if item.started_at else "",
                item.optimizer,
                item.strategy,
                item.outcome or item.state,
                str(item.calls),
                item.reason or "",
            )
            for item in runs
        ],
    )
