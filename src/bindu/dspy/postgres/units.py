"""What an experiment is judged by: units arrive, are rated, and are counted once, by the window that closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from math import ceil
from operator import itemgetter
from typing import NamedTuple

from bindu.dspy.champion import ORIGIN
from bindu.dspy.errors import NoActivePromptError, StaleRolloutError
from bindu.dspy.guardrails import cost_of
from bindu.dspy.models import JsonObject
from bindu.dspy.postgres.database import Connection, Database, as_columns, one, row, rows
from bindu.dspy.postgres.partitions import first_id
from bindu.dspy.postgres.rows import from_json, to_first_request, to_json, to_rated_units, to_timed_vote
from bindu.dspy.units import (
    Arrivals,
    BarredText,
    Baseline,
    Closing,
    CountedUnit,
    FirstRequest,
    ShareChange,
    TimedVote,
)

__all__ = ["UnitVerbs", "close_windows"]

_WEEK = timedelta(days=7)
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_MILLISECOND = timedelta(milliseconds=1)
_MOST_REQUESTS = 10_000
_MOST_TEXTS = 1_000


class UnitVerbs(Database):
    async def baseline(self, agent_id: str, *, now: datetime | None = None) -> Baseline:
        async def work(connection: Connection) -> Baseline:
            week = await _past_week(connection, agent_id, now)
            given = {"prompt_id": week.active_id, "limit": _MOST_REQUESTS, **week.tasks}
            recent = await rows(connection, "recent_requests", **given)
            cost = _p95([cost_of(request["usage"] and from_json(request["usage"])) for request in recent])
            return Baseline(
                feedback_per_hour=week.feedback_per_hour,
                slow_ms=_p95([request["latency_ms"] for request in recent]),
                cost_cap=None if cost is None else 2 * cost,
            )

        return await self._look(work)

    async def feedback_per_hour(self, agent_id: str, *, now: datetime | None = None) -> float:
        return (await self._look(lambda connection: _past_week(connection, agent_id, now))).feedback_per_hour

    async def evidence(self, agent_id: str, experiment_id: int) -> JsonObject | None:
        stored = await self._value("evidence", agent_id=agent_id, experiment_id=experiment_id)
        return None if stored is None else from_json(stored)

    async def arrivals(self, agent_id: str, experiment_id: int, *, until: datetime) -> Arrivals:
        experiment = {"agent_id": agent_id, "experiment_id": experiment_id}

        async def work(connection: Connection) -> Arrivals:
            firsts = await rows(connection, "new_units", until=until, **experiment)
            rated = to_rated_units(await rows(connection, "rated_units", until=until, **experiment))
            raters = sorted({vote.rater_id for unit in rated for vote in unit.votes} - {""})
            counted = await rows(connection, "last_counted", rater_ids=raters, **experiment)
            return Arrivals(
                firsts=tuple(map(to_first_request, firsts)),
                rated=rated,
                last_counted={unit["rater_id"]: unit["rated_at"] for unit in counted},
            )

        return await self._look(work)

    async def first_answers(
        self, agent_id: str, experiment_id: int, unit_ids: Sequence[str]
    ) -> dict[str, list[JsonObject]]:
        if not unit_ids:
            return {}
        experiment = {"agent_id": agent_id, "experiment_id": experiment_id}
        found = await self._rows("first_answers", unit_ids=list(unit_ids), **experiment)
        return {unit["unit_id"]: from_json(unit["history"]) for unit in found}

    async def set_judged(self, agent_id: str, experiment_id: int, scores: Mapping[str, float]) -> None:
        if not scores:
            return
        columns = as_columns(("unit_ids", "judged"), list(scores.items()))
        await self._rows("set_judged", agent_id=agent_id, experiment_id=experiment_id, **columns)

    async def share_changes(self, agent_id: str, experiment_id: int) -> list[ShareChange]:
        found = await self._rows("share_changes", agent_id=agent_id, experiment_id=experiment_id)
        return [ShareChange(**change) for change in found]

    async def first_requests(self, agent_id: str, experiment_id: int) -> list[FirstRequest]:
        found = await self._rows("first_requests", agent_id=agent_id, experiment_id=experiment_id)
        return [to_first_request(unit) for unit in found]

    async def counted_units(self, agent_id: str, experiment_id: int) -> list[CountedUnit]:
        found = await self._rows("counted_units", agent_id=agent_id, experiment_id=experiment_id)
        return [CountedUnit(**unit) for unit in found]

    async def counted_votes(self, agent_id: str, experiment_id: int) -> dict[str, tuple[TimedVote, ...]]:
        found = await self._rows("counted_votes", agent_id=agent_id, experiment_id=experiment_id)
        return {unit_id: tuple(map(to_timed_vote, votes)) for unit_id, votes in groupby(found, itemgetter("unit_id"))}

    async def crossed_units(self, agent_id: str, experiment_id: int) -> int:
        given = {"agent_id": agent_id, "experiment_id": experiment_id}

        async def work(connection: Connection) -> int:
            first_at: datetime | None = (await one(connection, "first_units", **given))["first_at"]
            if first_at is None:
                return 0
            since = first_id(first_at - _DAY)  # recorded in another order, or by a clock that is behind
            crossed: int = (await one(connection, "crossed_units", first_id=since, **given))["crossed"]
            return crossed

        return await self._look(work)

    async def barred_texts(self, agent_id: str) -> list[BarredText]:
        found = await self._rows("barred_texts", agent_id=agent_id, free_origin=ORIGIN, limit=_MOST_TEXTS)
        return [BarredText(**barred) for barred in found]


async def close_windows(connection: Connection, agent_id: str, experiment_id: int, closing: Closing) -> None:
    """Write what windows took in; the caller holds the serving row's lock.

    Raises StaleRolloutError when the last of them is closed already.
    """
    experiment = {"agent_id": agent_id, "experiment_id": experiment_id}
    evidence = to_json(closing.evidence)
    if await row(connection, "close_window", closed_window=closing.window, evidence=evidence, **experiment) is None:
        raise StaleRolloutError(agent_id)
    if closing.firsts or closing.counted:
        await rows(connection, "close_units", **_closed_columns(closing), **experiment)


def _closed_columns(closing: Closing) -> dict[str, list[object]]:
    """What the windows make of each unit; None where they only took it in, or only counted it."""
    first, counted = dict(closing.firsts), {unit.unit_id: unit for unit in closing.counted}
    unit_ids = list(first | counted)
    units = [counted.get(unit_id) for unit_id in unit_ids]
    return {
        "unit_ids": [*unit_ids],
        "first_windows": [first.get(unit_id) for unit_id in unit_ids],
        "judged": [closing.judged.get(unit_id) for unit_id in unit_ids],
        "counted_windows": [unit and unit.window for unit in units],
        "kinds": [unit and unit.kind for unit in units],
        "rater_ids": [unit and unit.rater_id for unit in units],
        "rated_ats": [unit and unit.rated_at for unit in units],
        "scores": [unit and unit.score for unit in units],
    }


class _Week(NamedTuple):
    """An agent's past week."""

    active_id: int
    tasks: dict[str, object]  # what names the tasks recorded in it to a query
    feedback_per_hour: float


async def _past_week(connection: Connection, agent_id: str, now: datetime | None) -> _Week:
    # Walk the months' ids even where statistics are missing, as after an import
    await connection.execute("SET LOCAL enable_sort = off")
    at: datetime = now or (await one(connection, "now"))[0]
    serving = await rows(connection, "serving", agent_id=agent_id)
    if not serving:
        raise NoActivePromptError(agent_id)
    [active_id] = [prompt["id"] for prompt in serving if prompt["status"] == "active"]
    tasks = {"agent_id": agent_id, "first_id": first_id(at - _WEEK), "end_id": first_id(at + _MILLISECOND)}
    rated = await one(connection, "rated_tasks", now=at, **tasks)
    rate = rated["tasks"] / max(1.0, (at - (rated["since"] or at)) / _HOUR)
    return _Week(active_id, tasks, rate)


def _p95(values: Sequence[float | None]) -> float | None:
    """The least value that at most a twentieth of the known ones is above."""
    known = sorted(value for value in values if value is not None)
    return known[ceil(0.95 * len(known)) - 1] if known else None
