"""``bindu keys``: who may call the server from other machines."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import RenderableType

from bindu.dspy.access import create_key, list_keys, revoke_key
from bindu.dspy.cli.output import AgentOption, DryRunOption, JsonOption, emit, run, table, user_name
from bindu.dspy.housekeeping import ApiKey
from bindu.settings import agent_or_default

__all__ = ["app"]

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit trail.")]

SHOWN = 18  # characters of an id: enough to tell two keys apart

app = typer.Typer(help="Make, list and revoke keys for callers of 'bindu serve'.", no_args_is_help=True)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Who uses it.")],
    scope: Annotated[
        list[str],
        typer.Option(
            help="select (serve, proxy), write (record), view (read), operate (read, move traffic) or admin (all); "
            "several by repeating."
        ),
    ] = ["select", "write"],  # noqa: B006 - typer copies it
    reason: ReasonOption = "",
    days: Annotated[float | None, typer.Option(help="That it is good for; default for ever.")] = None,
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it, once; --agent '*' makes one for every agent.

    Example: bindu keys add web-shop --scope select --scope write
    """
    key, text = run(
        lambda: create_key(
            name, scope, days=days, dry_run=dry_run, agent_id=agent_or_default(agent), actor=user_name(), reason=reason
        )
    )
    told = {"agent_id": key.agent_id, "scopes": key.scopes, "expires_at": key.expires_at, "dry_run": dry_run}
    if dry_run:
        emit(told, as_json=as_json, text=lambda: f"Would make a key of agent '{key.agent_id}': {' '.join(key.scopes)}.")
        return
    emit(
        {"key": text, "id": key.id, **told},
        as_json=as_json,
        text=lambda: f"{text}\nKey {key.id} of agent '{key.agent_id}' is shown this once. Keep it like a password.",
    )


@app.command("list")
def list_(agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """List the keys that are good for an agent; none of them can be shown again.

    Example: bindu keys list
    """
    found = run(lambda: list_keys(agent_id=agent_or_default(agent)))
    emit({"keys": found}, as_json=as_json, text=lambda: _table(found))


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As 'bindu keys list' shows it, or more of it.")],
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key worthless, within seconds.

    Example: bindu keys revoke 0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f
    """
    key = run(
        lambda: revoke_key(key_id, dry_run=dry_run, agent_id=agent_or_default(agent), actor=user_name(), reason=reason)
    )
    done = "would be revoked" if dry_run else "is revoked: in five seconds it opens nothing, in any process"
    emit(key, as_json=as_json, text=lambda: f"Key {key.id} ({key.name}) {done}.")


def _table(keys: list[ApiKey]) -> RenderableType:
    rows = [(str(key.id)[:SHOWN], key.agent_id, key.name, " ".join(key.scopes), _state(key)) for key in keys]
    return (
        table("key", "agent", "name", "scopes", "state", rows=rows) if rows else "There are no keys: only this machine."
    )


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    return "good" if key.expires_at is None else f"until {key.expires_at:%Y-%m-%d %H:%M}"
