"""What is kept how long: old months go at once, and one person's data when they ask for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bindu.dspy.arguments import checked_actor, checked_id, checked_time, shown
from bindu.dspy.errors import BinduError, InvalidArgumentError
from bindu.dspy.housekeeping import Erased, Person, Pruned
from bindu.dspy.storage import agent_named, get_storage

__all__ = ["LEAST_DAYS", "PruneReport", "age_of", "counted", "erase_person", "prune_months"]

LEAST_DAYS: Final = 30  # the canary and the plans of experiments look a week back, training further

_TELLING: Final = 4  # characters: a shorter id stands in a sentence by chance
_AGE: Final = re.compile(r"(\d{1,5})\s*([dw])", re.IGNORECASE | re.ASCII)
_DAYS: Final = {"d": 1, "w": 7}


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """The months that went, or would go, and those that a running experiment keeps."""

    months: tuple[Pruned, ...]
    kept: tuple[str, ...]
    dry_run: bool

    @property
    def sentence(self) -> str:
        """The report for people."""
        kept = f" Kept, as a running experiment began in or before them: {', '.join(self.kept)}." if self.kept else ""
        if not self.months:
            return f"{'Nothing is free to drop' if kept else 'No month of tasks is that old'}.{kept}"
        tasks, votes = (sum(getattr(month, name) for month in self.months) for name in ("tasks", "votes"))
        names = ", ".join(month.month for month in self.months)
        return (
            f"{'Would drop' if self.dry_run else 'Dropped'} {names}, of all agents: {counted(tasks, 'task')} and "
            f"{counted(votes, 'vote')}.{kept}"
        )


def counted(number: int, name: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def age_of(text: str) -> timedelta:
    """``180d`` or ``26w``. Raises InvalidArgumentError for another shape and for less than LEAST_DAYS."""
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise InvalidArgumentError(f"An age is days or weeks, such as 180d or 26w, not {shown(text)}.")
    days = int(found[1]) * _DAYS[found[2].lower()]
    if not LEAST_DAYS <= days < 36_500:  # noqa: PLR2004 - a century
        raise InvalidArgumentError(
            f"Months are kept for {LEAST_DAYS} days at least, as experiments and training look back, and for a century "
            f"at most; {shown(text)} is outside."
        )
    return timedelta(days=days)


async def prune_months(
    older_than: timedelta,
    *,
    dry_run: bool = False,
    actor: str = "person",
    reason: str = "",
    now: datetime | None = None,
) -> PruneReport:
    """Drop the tasks and votes of all agents of the months that ended before, oldest first, each in one transaction.

    A month that a running experiment of any agent may need is kept: its own, and later ones. Prompts, experiments,
    decisions and the audit trail stay. Raises BinduError when the tables are in use for too long, and says what had
    gone by then.
    """
    storage, at, who = await get_storage(), checked_time(now), checked_actor(actor)
    until = (at or await storage.now()) - older_than
    old = [month for month in await storage.months() if month.end <= until]
    needed = await storage.needed_since()
    free = [month for month in old if needed is None or month.end <= needed]
    pruned: list[Pruned] = []
    kept = tuple(str(month) for month in old if month not in free)
    for month in free:
        try:
            done = (
                await storage.count_month(month)
                if dry_run
                else await storage.drop_month(month, actor=who, reason=reason, now=at)
            )
        except BinduError as error:
            if pruned:
                error.args = (f"{error} Done before: {_report(pruned, kept, dry_run=dry_run).sentence}",)
            raise
        if done is not None:  # else another process was faster
            pruned.append(done)
    return _report(pruned, kept, dry_run=dry_run)


def _report(pruned: list[Pruned], kept: tuple[str, ...], *, dry_run: bool) -> PruneReport:
    return PruneReport(months=tuple(pruned), kept=kept, dry_run=dry_run)


async def erase_person(
    *,
    unit_id: str | None = None,
    rater_id: str | None = None,
    reason: str,
    actor: str = "person",
    dry_run: bool = False,
    agent_id: str | None = None,
    now: datetime | None = None,
) -> Erased:
    """Delete what was said in a unit's conversations, or the votes, comments and corrections of a rater, or both.

    The audit trail keeps that it was done, by whom and why, and not whose data it was. Raises InvalidArgumentError, and
    RunActiveError while a training run of the agent is at work, as that may have read what goes.
    """
    at, who, agent = checked_time(now), checked_actor(actor), agent_named(agent_id)
    person = Person(agent_id=agent, unit_id=_id(unit_id, "unit_id"), rater_id=_id(rater_id, "rater_id"))
    if person.unit_id is None and person.rater_id is None:
        raise InvalidArgumentError("Say whose data goes: a unit_id, a rater_id, or both.")
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidArgumentError("Say why: the reason is kept in the audit trail.")
    for name in (person.unit_id, person.rater_id):
        if name is not None and len(name) >= _TELLING and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", reason):
            raise InvalidArgumentError(
                f"The reason is kept for ever and names the person: {shown(name)}. Say it without their id."
            )
    storage = await get_storage()
    return await storage.erase(person, actor=who, reason=reason.strip(), dry_run=dry_run, now=at)


def _id(value: str | None, name: str) -> str | None:
    if value is None:
        return None
    checked = checked_id(value, name)
    if not checked:
        raise InvalidArgumentError(f"{name} is empty: that is everybody nobody knows. Give one person's.")
    return checked
