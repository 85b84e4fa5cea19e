"""``bindu prompt diff`` and ``bindu prompt export``: two versions side by side, and one as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from bindu.dspy.cli.files import write_file, write_stdout
from bindu.dspy.cli.output import AgentOption, DryRunOption, JsonOption, emit, has_colour, run, styled
from bindu.dspy.errors import NoExperimentError, UnknownPromptError
from bindu.dspy.insights import DiffPiece, PromptDiff, prompt_diff
from bindu.dspy.models import Prompt
from bindu.dspy.storage import get_storage, serving_or_raise
from bindu.settings import agent_or_default

__all__ = ["diff", "export"]

NumberArgument = Annotated[
    int | None, typer.Argument(min=1, max=2**31 - 1, metavar="NUMBER", help="Default the active version.")
]
FileOption = Annotated[
    Path | None, typer.Option("--file", metavar="F", help="Write it there instead of printing it; '-' prints it.")
]

STYLES: Final = {"same": "", "removed": "red strike", "added": "green underline"}
MARKS: Final = {"same": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}
KEPT: Final = " on grey23"


def diff(
    old: Annotated[int | None, typer.Argument(min=1, max=2**31 - 1, help="Default the active version.")] = None,
    new: Annotated[
        int | None,
        typer.Argument(min=1, max=2**31 - 1, help="Default the candidate; after one number the active version."),
    ] = None,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show word by word how one version becomes another: [-gone-] and {+come+}, in colours on a terminal.

    Regions that only people may change stand out in colours; else by their marks.

    Example: bindu prompt diff 1 2
    """

    async def service() -> PromptDiff:
        agent_id = agent_or_default(agent)
        return await prompt_diff(*(await _pair(agent_id, old, new)), agent_id=agent_id)

    found = run(service)
    told: dict[str, Any] = {"sentence": _sentence(found), "old": found.old, "new": found.new, "pieces": found.pieces}
    emit(told, as_json=as_json, text=lambda: _drawn(found))


def export(
    number: NumberArgument = None,
    file: FileOption = None,
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a version's text out, byte by byte as it is served; --json tells what is known of it too.

    Example: bindu prompt export 2 --file prompt.txt
    """

    async def service() -> Prompt:
        agent_id = agent_or_default(agent)
        wanted = (await serving_or_raise(agent_id)).active.id if number is None else number
        found = await (await get_storage()).prompt(agent_id, wanted)
        if found is None:
            raise UnknownPromptError(agent_id, wanted)
        return found

    found = run(service)
    data = found.text.encode()
    if file is not None and (str(file) != "-" or dry_run):
        sentence = write_file(file, data, f"prompt {found.id}", dry_run=dry_run)
        told = {"sentence": sentence, "file": str(file), "bytes": len(data), "prompt": found, "dry_run": dry_run}
        emit(told, as_json=as_json, text=lambda: sentence)
    elif as_json:
        emit({"prompt": found, "dry_run": dry_run}, as_json=True, text=str)
    else:
        write_stdout(data)


async def _pair(agent_id: str, old: int | None, new: int | None) -> tuple[int, int]:
    if old is not None and new is not None:
        return old, new
    serving = await serving_or_raise(agent_id)
    if old is not None:
        return old, serving.active.id
    if serving.candidate is None:
        raise NoExperimentError(agent_id)
    return serving.active.id, serving.candidate.id


def _sentence(found: PromptDiff) -> str:
    gone, come = (sum(len(one.text.split()) for one in found.pieces if one.change == c) for c in ("removed", "added"))
    protected = any(one.kept and one.change != "same" for one in found.pieces)
    told = "Its words are the same" if not gone and not come else f"words gone {gone}, come {come}"
    where = ", also in a region that only people may change" if protected else ""
    return f"Prompt {found.old.id} ({found.old.status}) to {found.new.id} ({found.new.status}): {told}{where}."


def _drawn(found: PromptDiff) -> Text:
    return styled([(f"{_sentence(found)}\n\n", "bold"), *map(_piece, found.pieces)])


def _piece(piece: DiffPiece) -> tuple[str, str]:
    if has_colour():
        return piece.text, STYLES[piece.change] + (KEPT if piece.kept else "")
    before, after = MARKS[piece.change]
    return f"{before}{piece.text}{after}", ""
