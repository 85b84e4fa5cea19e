"""SQL by name: ``-- name: x`` starts a query in ``sql/*.sql``, and its ``:name`` parameters become ``$1, $2, ...``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

__all__ = ["QUERIES", "Query", "parse"]

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"\s*--.*$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):([a-z]\w*)")


@dataclass(frozen=True, slots=True)
class Query:
    """One statement and the names of its parameters, in the driver's order."""

    sql: str
    parameters: tuple[str, ...]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values in order. Raises TypeError for one too many or too few, as a call does."""
        if len(values) != len(self.parameters):
            raise TypeError(f"the query takes {sorted(self.parameters)}, not {sorted(values)}")
        return [values[name] for name in self.parameters]


def parse(text: str) -> dict[str, Query]:
    """Split a file of named statements."""
    queries: dict[str, Query] = {}
    parts = _NAME.split(text)[1:]
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in queries:
            raise ValueError(f"two queries are named {name}")
        sql = _COMMENT.sub("", body).strip()
        names = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
        for place, parameter in enumerate(names, start=1):
            sql = re.sub(rf"(?<!:):{parameter}\b", f"${place}", sql)
        queries[name] = Query(sql, names)
    return queries


def _load() -> dict[str, Query]:
    folder = files("bindu.dspy.postgres") / "sql"
    text = "\n".join(
        entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".sql")
    )
    return parse(text)


QUERIES: Mapping[str, Query] = _load()
