"""What tells of a person in records about others: their ids, and the words that they wrote. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from bindu.dspy.promptcheck.base import SPACELESS
from bindu.dspy.promptcheck.privacy import find_private

__all__ = ["ERASED", "Traces"]

ERASED: Final = "[erased]"

_WORD: Final = re.compile(rf"{SPACELESS}|(?:(?!{SPACELESS})\w)+")  # a character of a script without spaces is one
_RUN: Final = 8  # words in a row that two texts share by no chance
_FEWEST: Final = 4  # of a shorter text, all of it
_QUOTED: Final = "offending"  # in the record of a refused prompt: words that were theirs, however few


class Traces:
    """``names`` are a person's ids, each with what takes its place; ``texts`` is all that they wrote."""

    def __init__(self, names: Mapping[str, str], texts: Iterable[str]) -> None:
        written = set(texts)
        said = {tuple(_words(text)) for text in written}
        self._names = names
        self._runs = {run for words in said for run in _runs(words)}
        self._private = {found.key for text in written for found in find_private(text)}
        self._lengths = sorted({len(run) for run in self._runs})
        self._all = "\n".join(map(_spaced, sorted(said)))

    def quoted_in(self, text: str) -> bool:
        """Whether it repeats eight words of theirs in a row, all of a shorter thing that they said, or their address.

        Also a phone number, and what else is private by its form, however it is written.
        """
        words = tuple(_words(text))
        return bool(self._private and any(found.key in self._private for found in find_private(text))) or any(
            words[place : place + length] in self._runs
            for length in self._lengths
            for place in range(len(words) - length + 1)
        )

    def removed(self, value: Any, key: str = "") -> Any:
        """The same JSON value without their ids, also as keys, and with ERASED for each text that quotes them."""
        match value:
            case str():
                return self._told(value, fewest=1 if key == _QUOTED else _FEWEST)
            case dict():
                return {self._names.get(name, name): self.removed(item, name) for name, item in value.items()}
            case list() | tuple():
                return [self.removed(item, key) for item in value]
        return value

    def _told(self, text: str, *, fewest: int) -> str:
        name, mark, part = text.partition("#")  # an example is a task's id and a number
        if text in self._names or name in self._names:
            return self._names.get(text) or f"{self._names[name]}{mark}{part}"
        words = tuple(_words(text))
        is_part = len(words) >= fewest and _spaced(words) in self._all
        return ERASED if is_part or self.quoted_in(text) else text


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _runs(words: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    if _FEWEST <= len(words) < _RUN:
        return [words]
    return [words[place : place + _RUN] for place in range(len(words) - _RUN + 1)]


def _spaced(words: Iterable[str]) -> str:
    return f" {' '.join(words)} "
