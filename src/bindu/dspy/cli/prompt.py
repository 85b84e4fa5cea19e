"""``bindu prompt``: the versions of an agent's prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bindu.dspy.cli.output import AgentOption, DryRunOption, JsonOption, emit, read_stdin, run, table, user_name
from bindu.dspy.cli.versions import diff, export
from bindu.dspy.errors import UnknownPromptError
from bindu.dspy.models import Prompt
from bindu.dspy.opening import check_may_open, told_at_opening
from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt
from bindu.dspy.sentences import no_prompt_sentence
from bindu.dspy.storage import get_storage
from bindu.settings import agent_or_default, app_settings

__all__ = ["app"]

NumberArgument = Annotated[int, typer.Argument(min=1, max=2**31 - 1, help="The version's number.")]

app = typer.Typer(help="List, show, compare, add and export prompt versions.", no_args_is_help=True)


@app.command("list")
def list_prompts(agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """List all versions, oldest first.

    Example: bindu prompt list
    """

    async def service() -> list[Prompt]:
        return await (await get_storage()).prompts(agent_or_default(agent))

    found = run(service)
    nothing = no_prompt_sentence(agent_or_default(agent))
    emit({"prompts": found}, as_json=as_json, text=lambda: _table(found) if found else nothing)


@app.command("show")
def show(number: NumberArgument, agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Print one version's text.

    Example: bindu prompt show 2
    """

    async def service() -> Prompt:
        agent_id = agent_or_default(agent)
        found = await (await get_storage()).prompt(agent_id, number)
        if found is None:
            raise UnknownPromptError(agent_id, number)
        return found

    found = run(service)
    emit(found, as_json=as_json, text=lambda: found.text)


@app.command("add")
def add(
    file: Annotated[Path | None, typer.Argument(help="The prompt's text; '-' or nothing reads standard input.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Try a text even if one like it was on trial and did not win.")
    ] = False,
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the text the first, active prompt; if there is one already, put the text on trial beside it.

    Example: echo 'You are a helpful support agent.' | bindu prompt add
    """

    async def service() -> dict[str, Any]:
        text = read_stdin().read() if file is None or str(file) == "-" else file.read_text(encoding="utf-8")
        return await _add(text, agent_or_default(agent), again=again, dry_run=dry_run)

    result = run(service)
    emit(result, as_json=as_json, text=lambda: result["sentence"])


app.command("diff")(diff)
app.command("export")(export)


async def _add(text: str, agent_id: str, *, again: bool, dry_run: bool) -> dict[str, Any]:
    clean = normalize_prompt(text)
    first = await (await get_storage()).serving(agent_id) is None
    share = 1.0 if first else app_settings.dspy.canary.initial_share
    status = "active" if first else "candidate"
    result: dict[str, Any] = {"id": None, "status": status, "traffic": share, "dry_run": dry_run}
    if dry_run:
        if not first:
            await check_may_open(clean, agent_id=agent_id, again=again)
        return result | {"sentence": f"Would become {status} with {share:.0%} of the traffic."}
    if first:
        result["id"] = (await bootstrap_prompt(clean, agent_id=agent_id, actor=user_name()))["id"]
    else:
        result["id"] = await insert_prompt(
            clean, status="candidate", traffic=share, agent_id=agent_id, again=again, actor=user_name()
        )
    sentence = f"Prompt {result['id']} is {status} with {share:.0%} of the traffic."
    if not first:
        [opened] = await (await get_storage()).experiments(agent_id, limit=1)
        sentence = told_at_opening(sentence, opened.policy)
    return result | {"sentence": sentence}


def _table(prompts: list[Prompt]) -> Table:
    return table(
        *("id", "status", "traffic", "origin", "created", "text"),
        rows=[
            (
                str(prompt.id),
                prompt.status,
                f"{prompt.traffic:.0%}",
                prompt.origin,
                prompt.created_at.isoformat(timespec="minutes") if prompt.created_at else "",
                prompt.text.splitlines()[0][:60],
            )
            for prompt in prompts
        ],
    )
