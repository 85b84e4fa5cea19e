"""``bindu init``: from an empty folder to a prompt that is served."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bindu.dspy.cli.files import read_text
from bindu.dspy.cli.output import INTERRUPTED, DryRunOption, JsonOption, emit, fail, read_stdin, run
from bindu.dspy.cli.starting import DEFAULT_PROMPT, Beginning, Wish, begin, give_prompt
from bindu.dspy.errors import InvalidArgumentError
from bindu.dspy.promptcheck import normalize_prompt

__all__ = ["init"]

UrlOption = Annotated[
    str | None, typer.Option("--url", help="A PostgreSQL 15 or newer: postgresql://user:password@host/database.")
]
EmbeddedOption = Annotated[
    bool, typer.Option("--embedded", help="A PostgreSQL of its own under .bindu/; the default without --url.")
]
AgentOption = Annotated[str | None, typer.Option("--agent", help="The agent's name; default DSPY__AGENT_ID.")]
PromptOption = Annotated[Path | None, typer.Option("--prompt", help="Its prompt as a file; '-' is standard input.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="What training answers with, as provider/name.")]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force", help="Write .env anew, from options and defaults; a copy is kept, and the lines of other programs."
    ),
]


def init(
    url: UrlOption = None,
    embedded: EmbeddedOption = False,
    agent: AgentOption = None,
    prompt: PromptOption = None,
    model: ModelOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented .env, make the database ready and give the agent its first prompt.

    The database must answer before anything is written. An .env that is there stays as it is, unless --force.
    Running it again is harmless. Only a terminal is asked for what is missing.

    Example: bindu init --agent support --prompt prompt.txt
    """
    if url is not None and embedded:
        fail(InvalidArgumentError("--url names a server and --embedded makes one. Give one of them."))
    text = run(lambda: _read(prompt))
    wish = Wish(url="embedded:" if embedded else url, agent=agent, model=model, force=force, dry_run=dry_run)
    begun = run(lambda: begin(wish))
    if begun.prompt_id is None:
        origin = "file" if text is not None else "default"
        if text is None and not dry_run and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
            origin, text = _asked()
        chosen, first = text or DEFAULT_PROMPT, begun
        begun = run(lambda: give_prompt(first, chosen, origin))
    elif text is not None:
        begun.lines.append(f"It has prompt {begun.prompt_id} already. Put yours on trial: bindu prompt add {prompt}")
    emit(begun, as_json=as_json, text=lambda: _told(begun))


async def _read(prompt: Path | None) -> str | None:
    if prompt is None:
        return None
    return normalize_prompt(read_stdin().read() if str(prompt) == "-" else read_text(prompt))


def _asked() -> tuple[str, str | None]:
    question = "The agent's system prompt, in one line (Enter for a plain one)"
    try:
        said = str(typer.prompt(question, default="", show_default=False, err=True))
    except typer.Abort:
        sys.stderr.write("\ninterrupted\n")
        raise typer.Exit(INTERRUPTED) from None
    return ("asked", said) if said.strip() else ("default", None)


def _told(begun: Beginning) -> str:
    after = "Nothing was changed." if begun.dry_run else "Next:\n" + "\n".join(f"  {line}" for line in begun.next)
    return "\n".join([*begun.lines, after])
