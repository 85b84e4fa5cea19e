"""A table as plain texts, for a terminal or a page to draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Sheet", "sheet"]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Columns and rows, and what they are about; the texts are as anybody may have written them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str | None = None


def sheet(*columns: str, rows: Iterable[Sequence[str]], title: str | None = None) -> Sheet:
    """Make one."""
    return Sheet(columns, tuple(map(tuple, rows)), title)
