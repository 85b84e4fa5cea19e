"""``bindu db prune`` and ``bindu db erase``: what is kept how long."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bindu.dspy.cli.output import AgentOption, DryRunOption, JsonOption, emit, fail, run, user_name, with_sentence
from bindu.dspy.errors import BinduError
from bindu.dspy.housekeeping import Erased
from bindu.dspy.retention import PruneReport, age_of, counted, erase_person, prune_months
from bindu.dspy.training.folder import Removal, remove_folders
from bindu.settings import agent_or_default, app_settings

__all__ = ["erase", "prune"]


def prune(
    older_than: Annotated[str, typer.Option("--older-than", metavar="AGE", help="Days or weeks: 180d, 26w.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit trail.")] = "",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop whole months of tasks and votes that ended before, of all agents of the database.

    Prompts, experiments, decisions and the audit trail stay. So do months that a running experiment needs.

    Example: bindu db prune --older-than 180d --dry-run
    """

    async def service() -> PruneReport:
        return await prune_months(age_of(older_than), dry_run=dry_run, actor=user_name(), reason=reason)

    report = run(service)
    emit(with_sentence(report), as_json=as_json, text=lambda: report.sentence)


def erase(
    unit: Annotated[str | None, typer.Option("--unit", metavar="ID", help="Whose conversations.")] = None,
    rater: Annotated[
        str | None, typer.Option("--rater", metavar="ID", help="Whose votes, comments and corrections.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, without the id; it is kept in the audit trail.")] = "",
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete what one person said and what was said with them, by unit id, by rater id or by both.

    What experiments have counted stays, under a name by chance. Training folders on this machine that hold the
    person's rows are removed; other machines, spools and backups are yours to look at. Refused while a training is at
    work, which may have read it all before.

    Example: bindu db erase --unit user-42 --rater user-42 --reason "Request of 3 March" --dry-run
    """

    async def service() -> tuple[Erased, Removal]:
        agent_id = agent_or_default(agent)
        found = await erase_person(
            unit_id=unit, rater_id=rater, reason=reason, actor=user_name(), dry_run=dry_run, agent_id=agent_id
        )
        root = Path(app_settings.dspy.training.runs_folder)
        return found, remove_folders(root, agent_id, found.names, dry_run=dry_run)

    found, folders = run(service)
    counts = {name: value for name, value in asdict(found).items() if name != "names"}
    sentence = _sentence(found, folders, dry_run=dry_run)
    told = {"folders": folders.removed, "folders_in_use": folders.used, "folders_failed": folders.failed}
    emit({"sentence": sentence, **counts, **told, "dry_run": dry_run}, as_json=as_json, text=lambda: sentence)
    if not dry_run:
        _check_gone(folders)


def _check_gone(folders: Removal) -> None:
    left = [*folders.failed, *(f"{path} (a training is at work in it)" for path in folders.used)]
    if left:
        fail(
            BinduError(
                f"The database is done, but these training folders may still hold their words: {', '.join(left)}. "
                "Remove them by hand: the ids by which another run would find them are gone."
            )
        )


def _sentence(found: Erased, folders: Removal, *, dry_run: bool) -> str:
    if not found.anything and not any(folders):
        return "Nothing of them is stored."
    counts = {
        "task": found.tasks,
        "vote": found.votes,
        "remark": found.remarks,
        "training record": found.runs,
        "training folder": folders.removed,
    }
    named = ", ".join(counted(count, name) for name, count in counts.items() if count) or "no task and no vote"
    parts = [f"{'Would erase' if dry_run else 'Erased'}: {named}."]
    if found.units:
        stays = "would stay" if dry_run else "stay"
        parts.append(f"The numbers of {counted(found.units, 'unit')} {stays} in experiments, under names by chance.")
    return " ".join([*parts, *_hints(found, folders, dry_run=dry_run)])


def _hints(found: Erased, folders: Removal, *, dry_run: bool) -> list[str]:
    """What the person who asks has to look at themselves."""
    hints = []
    if found.other_units:
        hints.append(f"Tasks of {counted(found.other_units, 'other unit')} are among them: they share a conversation.")
    if found.other_raters:
        names = ", ".join(found.other_raters[:10])
        hints.append(f"Votes were of {names}: if one of these is the same person, erase them with --rater too.")
    if found.quoted_in:
        hints.append(f"Their words stand in {', '.join(found.quoted_in)}, which stay: look at them.")
    if dry_run and (found.live_runs or folders.used):
        hints.append(
            "A training is at work and may have read them: nothing can be erased before it has ended, see 'bindu runs'."
        )
    if dry_run and folders.failed:
        hints.append(f"These folders cannot be read: {', '.join(folders.failed)}.")
    return hints
