"""The reference of the schema lists every table, view and column that a fresh database has, with its type."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import fetch

PAGE = (Path(__file__).parents[3] / "docs/reference/schema.md").read_text(encoding="utf-8")
SHORT = {"timestamp with time zone": "timestamptz", "double precision": "float8"}
COLUMNS = """
SELECT c.relname AS name, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type,
    c.relkind <> 'v' AND NOT a.attnotnull AS nullable
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'bindu_dspy'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
"""


def documented() -> dict[tuple[str, str], str]:
    """Types by table and column."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        for column, kind in re.findall(r"^\| `(\w+)` \| (.+?) \| \S.* \|$", section, re.MULTILINE):
            found[section.partition("\n")[0], column] = kind
    return found


async def test_the_reference_lists_every_column_with_its_type_and_meaning(postgres_url: str) -> None:
    rows = await fetch(postgres_url, COLUMNS)
    stored = {
        (row["name"], row["column"]): SHORT.get(row["type"], row["type"]) + (" *null*" if row["nullable"] else "")
        for row in rows
    }
    assert documented() == stored


async def test_every_table_says_what_it_is_for(postgres_url: str) -> None:
    tables = {row["name"] for row in await fetch(postgres_url, COLUMNS)}
    assert set(re.findall(r"^## (\w+)\n\n[A-Z].+\.$", PAGE, re.MULTILINE)) == tables
