"""``bindu canary``: one step of the rollout. Also ``python -m bindu.dspy.cli.canary``."""

from __future__ import annotations

import typer

from bindu.dspy.canary.controller import run_step
from bindu.dspy.cli.output import AgentOption, JsonOption, emit, run, start
from bindu.dspy.errors import StaleRolloutError
from bindu.dspy.insights import agent_status
from bindu.dspy.models import Decision
from bindu.settings import agent_or_default

__all__ = ["app"]

NOTHING = "No candidate is on trial: nothing to do."

app = typer.Typer(help="Move traffic between the active and the candidate prompt.", invoke_without_command=True)


@app.callback()
def default(ctx: typer.Context, agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Run one step when no subcommand is named.

    Example: bindu canary
    """
    if ctx.invoked_subcommand is None:
        step(agent, as_json)


@app.command("run")
def step(agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Look at the evidence once and move traffic by at most one step.

    Example: bindu canary run --agent support
    """
    decision, reason = run(lambda: _step(agent_or_default(agent)))
    emit({"decision": decision, "reason": reason}, as_json=as_json, text=lambda: _sentence(decision, reason))


@app.command("status")
def status(agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Say how the experiment stands, a sentence first.

    Example: bindu canary status --json
    """
    found = run(lambda: agent_status(agent_id=agent_or_default(agent)))
    emit(found, as_json=as_json, text=lambda: found.sentence)


async def _step(agent_id: str) -> tuple[Decision | None, str]:
    """The decision and its reason; coming second is no failure of the schedule, as the next run looks again."""
    try:
        decision = await run_step(agent_id=agent_id)
    except StaleRolloutError as error:
        return None, str(error)
    return decision, NOTHING if decision is None else decision.reason


def _sentence(decision: Decision | None, reason: str) -> str:
    if decision is None:
        return reason
    move = f"{decision.share_before:.0%} -> {decision.share_after:.0%}"
    return f"{decision.verdict}: candidate's traffic {move}. {reason}"


def main() -> None:
    """Entry point of ``python -m bindu.dspy.cli.canary``."""
    start(app)


if __name__ == "__main__":
    main()
