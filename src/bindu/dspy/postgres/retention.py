"""What is kept how long: whole months go at once, and one person's words when they ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any, Final

import asyncpg
from asyncpg import Record

from bindu.dspy.errors import BinduError, RunActiveError
from bindu.dspy.extractor import clean_messages
from bindu.dspy.housekeeping import AuditNote, Erased, Month, Person, Pruned
from bindu.dspy.postgres.audit import add_audit
from bindu.dspy.postgres.database import Connection, Database, row, rows
from bindu.dspy.postgres.notices import announce
from bindu.dspy.postgres.partitions import first_id
from bindu.dspy.postgres.queries import QUERIES
from bindu.dspy.postgres.rows import clean, from_json, to_json
from bindu.dspy.traces import Traces
from bindu.dspy.windows import in_place_of

__all__ = ["RetentionVerbs"]

_DAY: Final = timedelta(days=1)
_LONG: Final = 3_600.0  # seconds that a statement over a whole month, or a whole agent, may take
_LOCK_TIMEOUT: Final = "200ms"  # what others wait for us at most while we wait for them
_TRIES, _PAUSE = 40, 0.5  # seconds between two tries
_ALSO_LOCKED: Final = "bindu_dspy.prompts, bindu_dspy.experiments"


class _RehearsedError(Exception):
    """Ends the transaction of a dry run."""

    def __init__(self, found: Erased) -> None:
        self.found = found


class RetentionVerbs(Database):
    async def months(self) -> list[Month]:
        names = [found["name"] for found in await self._rows("task_partitions")]
        return [month for name in names if (month := _month_of(name)) is not None]

    async def needed_since(self) -> datetime | None:
        started_at: datetime | None = await self._value("first_running")
        return None if started_at is None else started_at - _DAY  # recorded by a clock that is behind

    async def count_month(self, month: Month) -> Pruned:
        return await self._look(lambda connection: _counted(connection, month))

    async def drop_month(self, month: Month, *, actor: str, reason: str, now: datetime | None = None) -> Pruned | None:
        async def work(connection: Connection) -> Pruned | None:
            await rows(connection, "lock_pruning")
            there = await rows(connection, "task_partitions")
            if month not in [_month_of(partition["name"]) for partition in there]:
                return None
            pruned = await _counted(connection, month)
            await _long_rows(connection, "delete_month_remarks", **_ids_of(month))
            await _long_rows(connection, "delete_month_keys", **_ids_of(month))
            await add_audit(connection, _pruning(pruned, actor, reason), now)
            await _drop(connection, month)
            return pruned

        return await self._transact(work)

    async def erase(
        self, person: Person, *, actor: str, reason: str, dry_run: bool = False, now: datetime | None = None
    ) -> Erased:
        async def work(connection: Connection) -> Erased:
            erased = await _erase(connection, person, dry_run=dry_run)
            if dry_run:
                raise _RehearsedError(erased)
            if erased.anything:
                await add_audit(connection, _erasure(person, erased, actor, reason), now)
            return erased

        try:
            return await self._transact(work)
        except _RehearsedError as rehearsed:
            return rehearsed.found


# months


def _month_of(partition: str) -> Month | None:
    """Of a partition that ``create_month`` made; None for one that somebody attached."""
    year, _, number = partition.removeprefix("tasks_").partition("_")
    return Month(int(year), int(number)) if year.isdecimal() and number.isdecimal() else None


def _ids_of(month: Month) -> dict[str, object]:
    return {"first_id": first_id(month.start), "end_id": first_id(month.end)}


async def _counted(connection: Connection, month: Month) -> Pruned:
    [found] = await _long_rows(connection, "count_month", **_ids_of(month))
    return Pruned(month=str(month), **found)


async def _drop(connection: Connection, month: Month) -> None:
    """Wait for everybody, a little at a time: whoever comes while we wait has to wait too."""
    name = f"{month.year:04}_{month.number:02}"
    for _ in range(_TRIES):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                await connection.execute(
                    f"LOCK TABLE ONLY bindu_dspy.tasks, ONLY bindu_dspy.task_feedback, bindu_dspy.tasks_{name},"
                    f" bindu_dspy.task_feedback_{name}, {_ALSO_LOCKED} IN ACCESS EXCLUSIVE MODE"
                )
                await connection.execute("SET LOCAL lock_timeout = 0")
                await connection.execute(
                    f"DROP TABLE bindu_dspy.task_feedback_{name};"
                    f"ALTER TABLE bindu_dspy.tasks DETACH PARTITION bindu_dspy.tasks_{name};"
                    f"DROP TABLE bindu_dspy.tasks_{name}",
                    timeout=_LONG,
                )
            return
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(_PAUSE)
    raise BinduError(
        f"Month {month} is in use, by a backup or a long query perhaps; nothing of it was removed. Run it again later."
    )


def _pruning(pruned: Pruned, actor: str, reason: str) -> AuditNote:
    details = {"tasks": pruned.tasks, "votes": pruned.votes, "remarks": pruned.remarks, "task_keys": pruned.keys}
    return AuditNote(
        agent_id="*", action="prune", subject=f"month {pruned.month}", actor=actor, reason=reason, details=details
    )


# one person


async def _erase(connection: Connection, person: Person, *, dry_run: bool) -> Erased:
    agent_id = person.agent_id
    if not dry_run:
        _check_idle(agent_id, await rows(connection, "running_runs", agent_id=agent_id))
    tasks = await _tasks_of(connection, person)
    task_ids = [task["id"] for task in tasks]
    given = {"agent_id": agent_id, "task_ids": task_ids}
    votes = await _long_rows(connection, "delete_votes", rater_id=person.rater_id, **given)
    remarks = await _long_rows(connection, "delete_remarks", rater_id=person.rater_id, **given)
    keys = await _long_rows(connection, "delete_task_keys", **given)
    await _long_rows(connection, "delete_tasks", **given)
    names = _names(person, tasks, keys)
    traces = Traces(names, _texts(tasks, votes, remarks))
    erased = Erased(
        tasks=len(tasks),
        votes=len(votes),
        remarks=len(remarks),
        task_keys=len(keys),
        other_units=len({task["unit_id"] for task in tasks} - {person.unit_id}),
        other_raters=tuple(sorted({said["rater_id"] for said in (*votes, *remarks)} - {"", person.rater_id})),
        names=tuple(names),
    )
    erased = await _without_traces(connection, agent_id, traces, erased)
    if not dry_run:  # one may have begun since
        _check_idle(agent_id, await rows(connection, "running_runs", agent_id=agent_id))
    if tasks or votes or await _units_of(connection, person):
        return replace(erased, units=await _from_experiments(connection, person, votes, dry_run=dry_run))
    return erased


def _check_idle(agent_id: str, running: list[Record]) -> None:
    if running:
        raise RunActiveError(agent_id, [run["id"] for run in running])


async def _tasks_of(connection: Connection, person: Person) -> list[Record]:
    """The unit's tasks, and what others said in the same conversations: each task holds all that was said before."""
    if person.unit_id is None:
        return []
    given = {"agent_id": person.agent_id}
    own = await _long_rows(connection, "contexts_of_unit", unit_id=person.unit_id, **given)
    contexts = list({task["context_id"] for task in own} - {None})
    beside = await _long_rows(connection, "tasks_of_contexts", context_ids=contexts, **given)
    task_ids = list({task["id"] for task in (*own, *beside)})
    return await _long_rows(connection, "lock_person_tasks", task_ids=task_ids, **given)


async def _from_experiments(connection: Connection, person: Person, votes: list[Record], *, dry_run: bool) -> int:
    """Last of all, as the canary waits from here on; a controller that has looked before looks again."""
    agent_id = person.agent_id
    if not dry_run and await row(connection, "touch_serving", agent_id=agent_id) is not None:
        await announce(connection, agent_id)
    await _rate_again(connection, agent_id, votes)
    return await _rename(connection, person)


async def _rate_again(connection: Connection, agent_id: str, votes: list[Record]) -> None:
    units = {(vote["experiment_id"], vote["unit_id"]) for vote in votes if vote["experiment_id"] is not None}
    columns = {"experiment_ids": [number for number, _ in units], "unit_ids": [unit_id for _, unit_id in units]}
    await rows(connection, "rate_again", agent_id=agent_id, **columns)


async def _rename(connection: Connection, person: Person) -> int:
    """Give the person's units and votes that experiments have counted a name by chance; returns how many units."""
    agent_id = person.agent_id
    found = await _units_of(connection, person)
    for number in sorted({unit["experiment_id"] for unit in found if unit["is_rater"]}):
        given = {"agent_id": agent_id, "experiment_id": number, "rater_id": person.rater_id}
        await _long_rows(connection, "rename_rater", name=next(_fresh_names()), **given)
    for unit in found:
        if unit["is_unit"] and person.unit_id is not None:
            given = {"agent_id": agent_id, "experiment_id": unit["experiment_id"], "unit_id": person.unit_id}
            beside = [other["unit_id"] for other in await _long_rows(connection, "beside_unit", **given)]
            await rows(connection, "rename_unit", name=in_place_of(person.unit_id, beside, _fresh_names()), **given)
    return len(found)


async def _units_of(connection: Connection, person: Person) -> list[Record]:
    ids = {"unit_id": person.unit_id, "rater_id": person.rater_id}
    return await _long_rows(connection, "units_of_person", agent_id=person.agent_id, **ids)


def _fresh_names() -> Iterator[str]:
    while True:
        yield f"erased-{token_hex(12)}"


def _names(person: Person, tasks: list[Record], keys: list[Record]) -> dict[str, str]:
    """All ids that stood for the person, with what takes their place."""
    ids = {person.unit_id, person.rater_id}
    for task in tasks:
        ids |= {str(task["id"]), task["context_id"]} | ({task["unit_id"]} if task["context_id"] is None else set())
    ids |= {key["external_id"] for key in keys}
    return {name: next(_fresh_names()) for name in sorted(name for name in ids if name)}


def _texts(tasks: list[Record], votes: list[Record], remarks: list[Record]) -> Iterator[str]:
    for task in tasks:
        messages = clean_messages(from_json(task["history"]))
        yield from (message["content"] for message in messages if message["role"] == "user")
    for said in (*votes, *remarks):
        yield from (said[name] for name in ("comment", "said", "correction") if said.get(name))


async def _without_traces(connection: Connection, agent_id: str, traces: Traces, erased: Erased) -> Erased:
    """Records that name or quote the person: those of runs are rewritten, prompts and rules are told."""
    given = {"agent_id": agent_id}
    changed, live = 0, 0
    for run in await _long_rows(connection, "run_records", **given):
        live += run["state"] == "running"
        told = {name: run[name] for name in ("reason", "step", "cancel_reason")}
        told["details"] = from_json(run["details"])
        left = traces.removed(told)
        if left != told:
            changed += 1
            left["details"] = to_json(left["details"])
            await rows(connection, "rewrite_run", run_id=run["id"], **left, **given)
    quoted = [
        f"prompt {prompt['id']}"
        for prompt in await rows(connection, "prompts", **given)
        if traces.quoted_in(prompt["text"])
    ]
    for rubric in await rows(connection, "rubric_records", **given):
        rules = from_json(rubric["rules"])
        if any(traces.quoted_in(rule["rule"]) for rule in rules):
            quoted.append(f"rubric {rubric['id']}")
        learned = [_without_ids(rule, set(erased.names)) for rule in rules]
        if learned != rules:
            await rows(connection, "rewrite_rubric", rubric_id=rubric["id"], rules=to_json(learned), **given)
    return replace(erased, runs=changed, live_runs=live, quoted_in=tuple(quoted))


def _without_ids(rule: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """A rule without the person's tasks among those that it was learned from; #2 names a part of a task."""
    if "task_ids" not in rule:
        return rule
    return rule | {"task_ids": [one for one in rule["task_ids"] if one.partition("#")[0] not in names]}


def _erasure(person: Person, erased: Erased, actor: str, reason: str) -> AuditNote:
    """Counts alone: the trail is kept for ever."""
    kinds = [kind for kind, name in (("unit", person.unit_id), ("rater", person.rater_id)) if name is not None]
    return AuditNote(
        agent_id=person.agent_id,
        action="erase",
        subject=f"a {' and a '.join(kinds)}",
        actor=actor,
        reason=clean(reason),
        details={
            "tasks": erased.tasks,
            "votes": erased.votes,
            "remarks": erased.remarks,
            "task_keys": erased.task_keys,
            "units": erased.units,
            "runs": erased.runs,
        },
    )


async def _long_rows(connection: Connection, name: str, /, **values: Any) -> list[Record]:
    """All rows of a named query that may read a whole month or agent."""
    query = QUERIES[name]
    return await connection.fetch(query.sql, *query.arguments(values), timeout=_LONG)
