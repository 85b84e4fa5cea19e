"""What an experiment is judged by: units arrive, are rated, and are counted once, by the window that closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from math import ceil
from operator import itemgetter

from bindu.dspy.errors import NoActivePromptError, StaleRolloutError
from bindu.dspy.guardrails import cost_of
from bindu.dspy.models import JsonObject
from bindu.dspy.postgres.database import Connection, Database, as_columns, is_number, one, row, rows
from bindu.dspy.postgres.partitions import first_id
from bindu.dspy.postgres.rows import from_json, to_first_request, to_json, to_rated_units, to_timed_vote
from bindu.dspy.units import (
    Arrivals,
    Baseline,
    Closing,
    CountedUnit,
    FirstRequest,
    ShareChange,
    TimedVote,
    TriedText,
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
            # Walk the months' ids even where statistics are missing, as after an import
            await connection.execute("SET LOCAL enable_sort = off")
            at: datetime = now or (await one(connection, "now"))[0]
            serving = await rows(connection, "serving", agent_id=agent_id)
            if not serving:
                raise NoActivePromptError(agent_id)
            [active_id] = [prompt["id"] for prompt in serving if prompt["status"] == "active"]
            week = {"agent_id": agent_id, "first_id": first_id(at - _WEEK), "end_id": first_id(at + _MILLISECOND)}
            rated = await one(connection, "rated_tasks", now=at, **week)
            recent = await rows(connection, "recent_requests", prompt_id=active_id, limit=_MOST_REQUESTS, **week)
            cost = _p95([cost_of(request["usage"] and from_json(request["usage"])) for request in recent])
            return Baseline(
                feedback_per_hour=rated["tasks"] / max(1.0, (at - (rated["since"] or at)) / _HOUR),
                slow_ms=_p95([request["latency_ms"] for request in recent]),
                cost_cap=None if cost is None else 2 * cost,
            )

        return await self._look(work)

    async def evidence(self, agent_id: str, experiment_id: int) -> JsonObject | None:
        if not is_number(experiment_id):
            return None
        stored = await self._value("evidence", agent_id=agent_id, experiment_id=experiment_id)
        return None if stored is None else from_json(stored)

    async def arrivals(self, agent_id: str, experiment_id: int, *, until: datetime) -> Arrivals:
        if not is_number(experiment_id):
            return Arrivals()
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
        if not is_number(experiment_id) or not unit_ids:
            return {}
        experiment = {"agent_id": agent_id, "experiment_id": experiment_id}
        found = await self._rows("first_answers", unit_ids=list(unit_ids), **experiment)
        return {unit["unit_id"]: from_json(unit["history"]) for unit in found}

    async def set_judged(self, agent_id: str, experiment_id: int, scores: Mapping[str, float]) -> None:
        if not is_number(experiment_id) or not scores:
            return
        columns = as_columns(("unit_ids", "judged"), list(scores.items()))
        await self._rows("set_judged", agent_id=agent_id, experiment_id=experiment_id, **columns)

    async def share_changes(self, agent_id: str, experiment_id: int) -> list[ShareChange]:
        if not is_number(experiment_id):
            return []
        found = await self._rows("share_changes", agent_id=agent_id, experiment_id=experiment_id)
        return [ShareChange(**change) for change in found]

    async def first_requests(self, agent_id: str, experiment_id: int) -> list[FirstRequest]:
        if not is_number(experiment_id):
            return []
        found = await self._rows("first_requests", agent_id=agent_id, experiment_id=experiment_id)
        return [to_first_request(unit) for unit in found]

    async def counted_units(self, agent_id: str, experiment_id: int) -> list[CountedUnit]:
        if not is_number(experiment_id):
            return []
        found = await self._rows("counted_units", agent_id=agent_id, experiment_id=experiment_id)
        return [CountedUnit(**unit) for unit in found]

    async def counted_votes(self, agent_id: str, experiment_id: int) -> dict[str, tuple[TimedVote, ...]]:
        if not is_number(experiment_id):
            return {}
        found = await self._rows("counted_votes", agent_id=agent_id, experiment_id=experiment_id)
        return {unit_id: tuple(map(to_timed_vote, votes)) for unit_id, votes in groupby(found, itemgetter("unit_id"))}

    async def crossed_units(self, agent_id: str, experiment_id: int) -> int:
        if not is_number(experiment_id):
            return 0
        given = {"agent_id": agent_id, "experiment_id": experiment_id}

        async def work(connection: Connection) -> int:
            first_at: datetime | None = (await one(connection, "first_units", **given))["first_at"]
            if first_at is None:
                return 0
            since = first_id(first_at - _DAY)  # recorded in another order, or by a clock that is behind
            crossed: int = (await one(connection, "crossed_units", first_id=since, **given))["crossed"]
            return crossed

        return await self._look(work)

    async def tried_texts(self, agent_id: str) -> list[TriedText]:
        return [TriedText(**tried) for tried in await self._rows("tried_texts", agent_id=agent_id, limit=_MOST_TEXTS)]


async def close_windows(connection: Connection, agent_id: str, experiment_id: int, closing: Closing) -> None:
    """Write what windows took in; the caller holds the serving row's lock.

    Raises StaleRolloutError when the last of them is closed already.
    """
    experiment = {"agent_id": agent_id, "experiment_id": experiment_id}
    evidence = to_json(closing.evidence)
    if await row(connection, "close_window", closed_window=closing.window, evidence=evidence, **experiment) is None:
        raise StaleRolloutError(agent_id)
    changed = {unit_id for unit_id, _ in closing.firsts} | {unit.unit_id for unit in closing.counted}
    if not changed:
        return
    await rows(connection, "lock_units", unit_ids=list(changed), **experiment)
    if closing.firsts:
        firsts = [(unit_id, window, closing.judged.get(unit_id)) for unit_id, window in closing.firsts]
        columns = as_columns(("unit_ids", "windows", "judged"), firsts)
        await rows(connection, "take_in_units", **columns, **experiment)
    if closing.counted:
        await rows(connection, "count_units", **_counted_columns(closing.counted), **experiment)


def _counted_columns(counted: Sequence[CountedUnit]) -> dict[str, list[object]]:
    return {
        "unit_ids": [unit.unit_id for unit in counted],
        "windows": [unit.window for unit in counted],
        "kinds": [unit.kind for unit in counted],
        "rater_ids": [unit.rater_id for unit in counted],
        "rated_ats": [unit.rated_at for unit in counted],
        "scores": [unit.score for unit in counted],
    }


def _p95(values: Sequence[float | None]) -> float | None:
    """The least value that at most a twentieth of the known ones is above."""
    known = sorted(value for value in values if value is not None)
    return known[ceil(0.95 * len(known)) - 1] if known else None
