"""How a text is read for what it asks for: sentence by sentence, with negations, the last word counting."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

__all__ = ["Vocabulary", "read"]

_CLAUSE = re.compile(r"[.;!?\n]+\s*|,?\s+\b(?:but|instead|rather)\b\s*")
_REMINDER = re.compile(
    r"\b(?:never|do not|don't|not) (?:forget|fail|hesitate|neglect)(?: to)?\b|\bnot only\b|\bno matter\b", re.IGNORECASE
)
_NEGATION = re.compile(
    r"\b(?:never|not|don't|doesn't|no|avoid|without|skip|omit|refrain|stop|drop|leave out|cut|remove|instead of)\b",
    re.IGNORECASE,
)


class Vocabulary:
    """For each subject the phrases that ask for it, and those that ask for its opposite."""

    def __init__(
        self, phrases: Mapping[str, Sequence[str]], opposites: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._patterns = [(name, True, _any(options)) for name, options in phrases.items()]
        self._patterns += [(name, False, _any(options)) for name, options in (opposites or {}).items()]

    def find(self, clause: str) -> list[tuple[str, bool]]:
        """Subjects of one clause, with False where it asks to leave them be."""
        found = []
        for name, wanted, pattern in self._patterns:
            if match := pattern.search(clause):
                found.append((name, wanted != bool(_NEGATION.search(clause, 0, match.start()))))
        return found


def _any(options: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{option})" for option in options), re.IGNORECASE)


@lru_cache(maxsize=4096)
def read(text: str, vocabulary: Vocabulary) -> Mapping[str, bool]:
    """What a text asks for: True to do it, False to leave it; what it does not mention is absent."""
    asked: dict[str, bool] = {}
    for clause in _CLAUSE.split(_REMINDER.sub("always", text)):
        asked.update(vocabulary.find(clause))
    return asked
