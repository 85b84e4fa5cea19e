"""The first question and everything that followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bindu.dspy.strategies.base import Cut, CutStrategy, said

__all__ = ["FullHistoryStrategy"]


@dataclass
class FullHistoryStrategy(CutStrategy):
    """The first user message; all later messages as ``Role: content`` lines.

    Nothing when those lines are longer than ``max_length`` characters or none of them is an answer.
    """

    name = "full_history"
    max_length: int = 10_000

    def cuts(self, messages: Sequence[Mapping[str, Any]]) -> list[Cut]:
        spoken = list(said(messages))
        first = next((i for i, (role, _) in enumerate(spoken) if role == "user"), None)
        if first is None:
            return []
        later = spoken[first + 1 :]
        output = "\n".join(f"{role.capitalize()}: {text}" for role, text in later)
        answered = any(role == "assistant" for role, _ in later)
        return [Cut(spoken[first][1], output)] if answered and len(output) <= self.max_length else []
