"""``bindu canary``: the rollout, its evidence, and a person's word. Also ``python -m bindu.dspy.cli.canary``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import RenderableType

from bindu.dspy.canary.checking import check_experiment, explain_decision
from bindu.dspy.canary.controller import next_step, run_step, why_no_step
from bindu.dspy.canary.verbs import Verb, carry_out, ordered
from bindu.dspy.cli.band import PlotOption, band_of
from bindu.dspy.cli.output import (
    AgentOption,
    DryRunOption,
    JsonOption,
    emit,
    fail,
    plot_width,
    run,
    stack,
    start,
    user_name,
    with_sentence,
)
from bindu.dspy.errors import InvalidArgumentError, StaleRolloutError
from bindu.dspy.insights import agent_status, experiment_plan
from bindu.dspy.insights.figures import explained, status_parts
from bindu.dspy.models import Decision, Rollout
from bindu.dspy.sheet import Sheet
from bindu.settings import agent_or_default

__all__ = ["app"]

DIFFERENT = 1  # exit code of a check that found something

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the decision log.")]
ActorOption = Annotated[str | None, typer.Option("--actor", help="Who says so; default the system's user name.")]

app = typer.Typer(invoke_without_command=True)


@app.callback()
def default(
    ctx: typer.Context, dry_run: DryRunOption = False, agent: AgentOption = None, as_json: JsonOption = False
) -> None:
    """Move traffic between the active and the candidate prompt; alone, run one step.

    Example: bindu canary
    """
    if ctx.invoked_subcommand is None:
        step(dry_run, agent, as_json)
        return
    given = {"--dry-run": dry_run, f"--agent {agent}": agent is not None, "--json": as_json}
    early = " ".join(option for option, is_given in given.items() if is_given)
    if early:
        after = f"bindu canary {ctx.invoked_subcommand} {early}"
        fail(InvalidArgumentError(f"Options stand after the verb: '{after}'. Nothing was done."))


@app.command("run")
def step(dry_run: DryRunOption = False, agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Look at the evidence once and move traffic by at most one step.

    Example: bindu canary run --agent support
    """

    async def service() -> tuple[Decision | Rollout | None, str]:
        agent_id = agent_or_default(agent)
        return await (_next_step(agent_id) if dry_run else _step(agent_id))

    _tell(run(service), dry_run=dry_run, as_json=as_json)


@app.command("status")
def status(
    plot: PlotOption = None,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how the experiment stands: a sentence first, then the numbers, then the band over time.

    Example: bindu canary status --no-plot
    """
    width = plot_width(asked=plot)
    with_band = as_json or width is not None
    found = run(lambda: agent_status(agent_id=agent_or_default(agent), with_band=with_band))
    parts: list[RenderableType | Sheet] = [found.sentence, *status_parts(found), *band_of(found, width)]
    emit(found, as_json=as_json, text=lambda: stack(*parts))


@app.command("explain")
def explain(
    number: Annotated[int, typer.Argument(min=1, max=2**31 - 1, metavar="ID", help="The decision's number.")],
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a decision again from its stored inputs, and show them.

    Example: bindu canary explain 12
    """
    found = run(lambda: explain_decision(number, agent_id=agent_or_default(agent)))
    emit(found, as_json=as_json, text=lambda: stack(found.sentence, *explained(found)))


@app.command("plan")
def plan(
    gain: Annotated[
        float | None,
        typer.Option(help="The difference to see, in score points, 0 to 1; default .05, of not_worse the tolerance."),
    ] = None,
    feedback_per_day: Annotated[float | None, typer.Option(help="Votes; default the past week's.")] = None,
    share: Annotated[float | None, typer.Option(help="The candidate's at the start; default the setting.")] = None,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how long an experiment takes, before it opens.

    Example: bindu canary plan --gain 0.05 --feedback-per-day 120
    """
    found = run(
        lambda: experiment_plan(
            gain=gain, share=share, feedback_per_day=feedback_per_day, agent_id=agent_or_default(agent)
        )
    )
    steps = "".join(f"\n  {step.share:.0%} of traffic for {step.days:.1f} days" for step in found.path)
    emit(with_sentence(found), as_json=as_json, text=lambda: found.sentence + steps)


@app.command("check")
def check(agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Rebuild the newest experiment's evidence from its log, take all its decisions again, and compare.

    Example: bindu canary check --json
    """
    found = run(lambda: check_experiment(agent_id=agent_or_default(agent)))
    emit(with_sentence(found), as_json=as_json, text=lambda: found.sentence)
    if found.differences:
        raise typer.Exit(DIFFERENT)


def _register(verb: Verb, text: str) -> None:
    """A command of its own for what a person may order; all of them take the same options."""

    @app.command(verb, help=text)
    def order(
        reason: ReasonOption,
        actor: ActorOption = None,
        dry_run: DryRunOption = False,
        agent: AgentOption = None,
        as_json: JsonOption = False,
    ) -> None:
        _say(verb, reason, actor, dry_run=dry_run, agent=agent, as_json=as_json)


_ORDERS: dict[Verb, str] = {
    "pause": """Forbid that the candidate's share rises; evidence and stops run on.

    Example: bindu canary pause --reason 'A release is under way.'""",
    "resume": """Allow again that the candidate's share rises.

    Example: bindu canary resume --reason 'The release is out.'""",
    "abort": """End the experiment without a judgement on the candidate; the active prompt gets all traffic.

    Example: bindu canary abort --reason 'The shop was down for a day.'""",
    "promote": """Make the candidate the active prompt, whatever the evidence says.

    Example: bindu canary promote --reason 'It fixes the refund policy.'""",
    "rollback": """Take all traffic from the candidate and end the experiment.

    Example: bindu canary rollback --reason 'It promises discounts.'""",
}
for _verb, _text in _ORDERS.items():
    _register(_verb, _text)


async def _step(agent_id: str) -> tuple[Decision | None, str]:
    """The decision and its reason; coming second is no failure of the schedule, as the next run looks again."""
    try:
        decision = await run_step(agent_id=agent_id)
    except StaleRolloutError as error:
        return None, str(error)
    return decision, await why_no_step(agent_id=agent_id) if decision is None else decision.reason


async def _next_step(agent_id: str) -> tuple[Rollout | None, str]:
    rollout = await next_step(agent_id=agent_id)
    return rollout, await why_no_step(agent_id=agent_id) if rollout is None else rollout.reason


def _say(verb: Verb, reason: str, actor: str | None, *, dry_run: bool, agent: str | None, as_json: bool) -> None:
    """Carry a person's word out; unlike the schedule, a person must learn by the exit code that it came too late."""
    already = {"pause": "The experiment is paused already.", "resume": "The experiment is not paused."}.get(verb, "")

    async def service() -> tuple[Decision | Rollout | None, str]:
        do = ordered if dry_run else carry_out
        done = await do(verb, reason=reason, actor=actor or user_name(), agent_id=agent_or_default(agent))
        return done, already if done is None else done.reason

    _tell(run(service), dry_run=dry_run, as_json=as_json)


def _tell(done: tuple[Decision | Rollout | None, str], *, dry_run: bool, as_json: bool) -> None:
    """One shape for all that moves traffic: the logged decision, or with ``--dry-run`` the move that would be."""
    move, reason = done
    result: dict[str, Any] = {"decision": None, "rollout": None, "dry_run": dry_run, "reason": reason}
    result["rollout" if dry_run else "decision"] = move
    emit(result, as_json=as_json, text=lambda: _sentence(move, reason, dry_run))


def _sentence(move: Decision | Rollout | None, reason: str, dry_run: bool) -> str:
    if move is None:
        return reason
    shares = f"{move.share_before:.0%} -> {move.share_after:.0%}"
    return f"{'would be ' if dry_run else ''}{move.verdict}: candidate's traffic {shares}. {reason}"


def main() -> None:
    """Entry point of ``python -m bindu.dspy.cli.canary``."""
    start(app)


if __name__ == "__main__":
    main()
