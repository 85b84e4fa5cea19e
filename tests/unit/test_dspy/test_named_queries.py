"""SQL by name: parameters get places, comments and casts stay out of it, wrong calls are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bindu.dspy.postgres
from bindu.dspy.postgres.queries import QUERIES, Query, parse

KNOW_NO_AGENT = {
    *("find_key", "owners_of_text"),  # they tell which agent it is
    *("first_running", "count_month", "delete_month_remarks", "delete_month_keys"),  # a month's tables are everybody's
}
SOURCES = list(Path(bindu.dspy.postgres.__file__).parent.glob("*.py"))


def test_parameters_get_their_places_in_order_of_appearance() -> None:
    text = "-- name: one\n-- takes :nothing\nSELECT :b::int, :a, :b, :ab -- and :no more\n\n-- name: two\nSELECT 1\n"
    assert parse(text) == {"one": Query("SELECT $1::int, $2, $1, $3", ("b", "a", "ab")), "two": Query("SELECT 1", ())}


def test_two_queries_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="named one"):
        parse("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(), max_size=4))
def test_arguments_are_exactly_those_that_the_query_names(values: dict[str, int]) -> None:
    query = Query("SELECT $1, $2", ("b", "a"))
    if set(values) == {"a", "b"}:
        assert query.arguments(values) == [values["b"], values["a"]]
    else:
        with pytest.raises((TypeError, KeyError)):
            query.arguments(values)


def test_every_query_is_used_and_every_used_one_exists() -> None:
    code = "\n".join(path.read_text() for path in SOURCES)
    used = set(re.findall(r"""(?:rows|row|one|_rows|_row|_value|_transact)\(\s*(?:connection,\s*)?"(\w+)\"""", code))
    assert used == set(QUERIES)


def test_every_table_is_named_with_its_schema_and_every_query_names_its_agent() -> None:
    for name, query in QUERIES.items():
        if name.startswith("bindu_"):  # it reads another program's tables
            continue
        tables = re.findall(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+([\w.]+)", re.sub(r"DO UPDATE|KEY UPDATE", "", query.sql))
        ours = [table for table in tables if "." in table]
        assert all(table.startswith("bindu_dspy.") for table in ours)
        loose = {table for table in tables if "." not in table} - {"unnest", "given", "scored", "OF"}
        assert not loose & {"tasks", "task_feedback", "prompts", "serving", "experiments", "decisions", "units"}, name
        assert not ours or name in KNOW_NO_AGENT or {"agent_id", "agent_ids"} & set(query.parameters), name
