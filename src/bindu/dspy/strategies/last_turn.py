"""The last answer and the question before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bindu.dspy.strategies.base import Cut, CutStrategy, said

__all__ = ["LastTurnStrategy"]


@dataclass
class LastTurnStrategy(CutStrategy):
    """The last assistant message and the nearest user message before it."""

    name = "last_turn"
    multi_turn = False

    def cuts(self, messages: Sequence[Mapping[str, Any]]) -> list[Cut]:
        answer: str | None = None
        for role, text in reversed(list(said(messages))):
            if answer is None and role == "assistant":
                answer = text
            elif answer is not None and role == "user":
                return [Cut(text, answer)]
        return []
