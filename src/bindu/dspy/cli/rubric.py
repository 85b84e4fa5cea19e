"""``bindu dataset rubric``: the rules that training judges answers by, and a person's hand on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import RenderableType

from bindu.dspy.arguments import checked_actor
from bindu.dspy.cli.output import (
    AgentOption,
    DryRunOption,
    JsonOption,
    emit,
    read_stdin,
    run,
    short,
    stack,
    table,
    user_name,
)
from bindu.dspy.errors import InvalidArgumentError
from bindu.dspy.insights.run_figures import rule_rows
from bindu.dspy.models import JsonObject
from bindu.dspy.rubric import RubricRule, StoredRubric, parse_rules, rules_as_json
from bindu.dspy.storage import get_storage
from bindu.settings import agent_or_default

__all__ = ["rubric"]

KEPT: Final = "Training keeps to it until 'bindu dataset rubric --release'."


def rubric(
    edit: Annotated[
        Path | None, typer.Option("--edit", metavar="FILE", help="Keep these rules; '-' is standard input.")
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="Let the edited rules go.")] = False,
    tasks: Annotated[bool, typer.Option("--tasks", help="Name the tasks behind each rule.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; it is kept with the rubric.")] = None,
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the rules that training judges answers by, or keep rules of your own until you release them.

    FILE holds a rule a line, or what --json printed.

    Example: bindu dataset rubric --edit rules.txt --reason 'Two rules said the same.'
    """

    async def service() -> JsonObject:
        agent_id = agent_or_default(agent)
        asked = (edit is not None) + release
        if asked > 1 or (reason is not None and not asked):
            raise InvalidArgumentError("Give --edit or --release, one of them; --reason goes with either.")
        if edit is not None:
            text = read_stdin().read() if str(edit) == "-" else edit.read_text(encoding="utf-8")
            return await _edit(agent_id, text, reason or "edited by hand", dry_run=dry_run)
        return await (_release(agent_id, reason or "released by hand", dry_run=dry_run) if release else _show(agent_id))

    found = run(service)
    emit(found | {"dry_run": dry_run}, as_json=as_json, text=lambda: _text(found, with_tasks=tasks))


async def _show(agent_id: str) -> JsonObject:
    """The one that a person keeps, else the last one that training learned."""
    storage = await get_storage()
    found, then = await storage.standing_rubric(agent_id), KEPT
    if found is None:
        induced = await storage.rubrics(agent_id, limit=1, origin="induced")
        found, then = (induced[0] if induced else None), "The next training learns anew."
    if found is None:
        return _told(f"Agent '{agent_id}' has no rubric yet: its first training writes one.", ())
    return _told(f"{_name(found)} {then}", found.rules, found)


async def _edit(agent_id: str, text: str, reason: str, *, dry_run: bool) -> JsonObject:
    rules = parse_rules(text)
    if dry_run:
        return _told(f"Would keep {_count(rules)} for agent '{agent_id}'.", rules)
    kept = await (await get_storage()).save_rubric(
        agent_id, rules, origin="edited", actor=checked_actor(user_name()), reason=reason
    )
    return _told(f"{_name(kept)} {KEPT}", rules, kept)


async def _release(agent_id: str, reason: str, *, dry_run: bool) -> JsonObject:
    storage = await get_storage()
    kept = await storage.standing_rubric(agent_id)
    if kept is None:
        return _told(f"Nothing to release: agent '{agent_id}' has no edited rubric.", ())
    if dry_run:
        return _told(f"Would release rubric {kept.id}.", kept.rules, kept)
    gone = await storage.save_rubric(agent_id, (), origin="released", actor=checked_actor(user_name()), reason=reason)
    return _told(f"Rubric {kept.id} is released: the next training learns its own.", (), gone)


def _told(sentence: str, rules: Sequence[RubricRule], stored: StoredRubric | None = None) -> JsonObject:
    """What ``--edit`` can read again: the rules stand at the top."""
    about = {"id", "origin", "prompt_id", "run_id", "actor", "reason", "created_at"}
    rubric = None if stored is None else {name: one for name, one in asdict(stored).items() if name in about}
    return {"sentence": sentence, "rules": rules_as_json(rules), "rubric": rubric}


def _name(stored: StoredRubric) -> str:
    did = "edited" if stored.origin == "edited" else "learned"
    said = f"Rubric {stored.id} has {_count(stored.rules)}, {did} by {stored.actor} on {stored.created_at:%Y-%m-%d}"
    return f"{said}: {short(stored.reason).rstrip('.')}."


def _count(rules: Sequence[RubricRule]) -> str:
    return "1 rule" if len(rules) == 1 else f"{len(rules)} rules"


def _text(found: JsonObject, *, with_tasks: bool) -> RenderableType:
    if not found["rules"]:
        return str(found["sentence"])
    rows = rule_rows(found["rules"])
    if with_tasks:
        rows = [(*row[:2], "\n".join(rule["task_ids"])) for row, rule in zip(rows, found["rules"], strict=True)]
    return stack(found["sentence"], table("", "rule", "tasks", rows=rows))
