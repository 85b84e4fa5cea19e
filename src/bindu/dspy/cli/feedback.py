"""``bindu feedback``: votes from the shell and from files of logs."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from bindu.dspy.bindu_importer import import_bindu
from bindu.dspy.cli.output import AgentOption, DryRunOption, JsonOption, emit, read_stdin, run, user_name
from bindu.dspy.collector import record_feedback
from bindu.dspy.errors import InvalidArgumentError
from bindu.dspy.importer import import_jsonl
from bindu.dspy.postgres.bindu_source import open_bindu
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.reports import ImportReport
from bindu.settings import agent_or_default, app_settings

__all__ = ["app"]

app = typer.Typer(help="Record a vote, or import conversations with their feedback.", no_args_is_help=True)


@app.command("add")
def add(
    task_id: Annotated[str, typer.Argument(help="The task's id, ours or yours.")],
    rating: Annotated[float | None, typer.Option(help="1 to 5.")] = None,
    thumbs_up: Annotated[bool | None, typer.Option("--thumbs-up/--thumbs-down", help="A thumb.")] = None,
    comment: Annotated[str | None, typer.Option(help="What the user said.")] = None,
    rater: Annotated[str | None, typer.Option(help="Who voted; a rater has one vote per task.")] = None,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record one vote on a recorded task.

    Example: bindu feedback add 0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f --rating 4
    """
    given = {"rating": rating, "thumbs_up": thumbs_up, "comment": comment}
    shape = {key: value for key, value in given.items() if value is not None}
    vote = run(lambda: record_feedback(task_id, shape, rater_id=rater, agent_id=agent_or_default(agent)))
    emit({"id": vote}, as_json=as_json, text=lambda: f"Vote {vote} is recorded.")


@app.command("import")
def import_(
    file: Annotated[Path | None, typer.Argument(help="One conversation a line; '-' reads standard input.")] = None,
    from_bindu: Annotated[
        str | None, typer.Option(metavar="URL", help="A Bindu agent's PostgreSQL, instead of a file; it is only read.")
    ] = None,
    schema: Annotated[
        list[str] | None, typer.Option(help="Of that database, the agent's; can be repeated. Default all.")
    ] = None,
    format_: Annotated[Literal["jsonl"], typer.Option("--format", help="The only format so far.")] = "jsonl",
    system_prompt: Annotated[
        str | None, typer.Option(help="The prompt that answered; becomes version 1 of an agent without one.")
    ] = None,
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import recorded conversations and their votes; importing the same twice changes nothing.

    Example: bindu feedback import --format jsonl conversations.jsonl --agent support
    """

    async def service() -> ImportReport:
        agent_id = agent_or_default(agent)
        if (file is None) == (from_bindu is None):
            raise InvalidArgumentError("Name what to import: either a file or --from-bindu URL.")
        if schema and from_bindu is None:
            raise InvalidArgumentError("--schema belongs to --from-bindu: a file has none.")
        if system_prompt is not None and not dry_run:
            await bootstrap_prompt(system_prompt, agent_id=agent_id, actor=user_name())
        if from_bindu is not None:
            async with open_bindu(from_bindu, app_settings.storage) as source:
                return await import_bindu(source, schemas=schema or (), agent_id=agent_id, dry_run=dry_run)
        with nullcontext(read_stdin()) if str(file) == "-" else cast("Path", file).open(encoding="utf-8") as lines:
            return await import_jsonl(lines, agent_id=agent_id, dry_run=dry_run)

    report = run(service)
    emit(report, as_json=as_json, text=lambda: report.sentence)
