"""What a query looked at, from the server's own account of how it was carried out."""

from __future__ import annotations

import json
from typing import Any

import asyncpg

from bindu.dspy.postgres.queries import QUERIES


def rows_read(plan: dict[str, Any], of: str = "") -> float:
    """The rows that a plan looked at, kept or not, in every scan of relations whose name begins so."""
    below = sum(rows_read(inner, of) for inner in plan.get("Plans", []))
    if "Scan" not in plan["Node Type"] or "Relation Name" not in plan or not plan["Relation Name"].startswith(of):
        return below
    seen = sum(plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"))
    return below + seen * plan["Actual Loops"]


async def plan_of(url: str, name: str, values: dict[str, Any], *, sorting: bool = True) -> dict[str, Any]:
    """How a query of that name was carried out; what it wrote is undone."""
    query = QUERIES[name]
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN")
        await connection.execute(f"SET LOCAL enable_sort = {'on' if sorting else 'off'}")
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query.sql}", *query.arguments(values))
        return json.loads(explained)[0]["Plan"]
    finally:
        await connection.close()
