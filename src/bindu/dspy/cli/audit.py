"""``bindu audit``: what people did, and whether that record is whole."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from bindu.dspy.cli.output import AgentOption, JsonOption, emit, run, short, table
from bindu.dspy.errors import InvalidArgumentError
from bindu.dspy.housekeeping import AuditEntry, AuditTrail
from bindu.dspy.insights import audit_log, audit_trail
from bindu.dspy.storage import get_storage
from bindu.settings import agent_or_default

__all__ = ["app"]

_ROW = re.compile(r"[0-9]{1,18}")  # what the database can hold

BROKEN = 1  # exit code of a check that found something

app = typer.Typer(help="See what people did, and check that nobody changed the record.", no_args_is_help=True)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    before: Annotated[
        int | None, typer.Option(min=1, max=2**31 - 1, metavar="N", help="Those before this number.")
    ] = None,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what people did to an agent, newest first; --agent '*' lists what concerns all of them.

    Example: bindu audit list --limit 5
    """
    found = run(lambda: audit_log(agent_or_default(agent), before=before, limit=limit))
    emit({"entries": found}, as_json=as_json, text=lambda: _table(found))


@app.command("verify")
def verify(
    head: Annotated[
        str | None, typer.Option(metavar="N:DIGEST", help="What an earlier run printed, kept where no one here writes.")
    ] = None,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that every row of the trail follows from the one before; exit 1 when one does not.

    Only a head that was kept elsewhere shows that the whole trail was written anew, or its end cut off.

    Example: bindu audit verify --agent support
    """
    kept = None if head is None else run(lambda: _parsed(head))

    async def service() -> tuple[AuditTrail, bool]:
        agent_id = agent_or_default(agent)
        trail = await audit_trail(agent_id)
        return trail, kept is None or await _holds(agent_id, *kept)

    trail, holds = run(service)
    sentence = _sentence(trail, head, holds)
    now = None if trail.digest is None else f"{trail.last_id}:{trail.digest}"
    is_whole = trail.broken is None and holds
    told: dict[str, Any] = {"sentence": sentence, "whole": is_whole, "head": now, "trail": trail}
    emit(told, as_json=as_json, text=lambda: sentence)
    if not is_whole:
        raise typer.Exit(BROKEN)


async def _parsed(head: str) -> tuple[int, str]:
    number, colon, digest = head.strip().partition(":")
    if not colon or not _ROW.fullmatch(number) or not digest:
        raise InvalidArgumentError(f"A head is N:DIGEST, as 'bindu audit verify' prints it, not '{short(head)}'.")
    return int(number), digest.lower()


async def _holds(agent_id: str, number: int, digest: str) -> bool:
    entry = await (await get_storage()).audit_entry(agent_id, number)
    return entry is not None and entry.digest == digest


def _sentence(trail: AuditTrail, head: str | None, holds: bool) -> str:
    whose = f"The audit trail of agent '{trail.agent_id}'"
    if trail.broken is not None:
        return (
            f"{whose} is broken: row {trail.broken} does not follow from the one before it. Somebody changed or "
            "removed rows; compare with a backup."
        )
    if not holds:
        return (
            f"{whose} follows, but does not hold the head {head}: it was written anew or cut off since. Compare with "
            "a backup."
        )
    if trail.digest is None:
        return f"{whose} is empty."
    rows = "1 row" if trail.entries == 1 else f"{trail.entries:,} rows"
    return f"{whose} is whole: {rows}. Keep this elsewhere: {trail.last_id}:{trail.digest}"


def _table(found: list[AuditEntry]) -> RenderableType:
    if not found:
        return "Nobody did anything yet."
    rows = [
        (str(one.id), f"{one.at:%Y-%m-%d %H:%M}", one.actor, one.action, one.subject, short(one.reason))
        for one in found
    ]
    return table("no", "when", "who", "did", "to", "why", rows=rows)
