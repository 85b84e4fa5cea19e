"""The beginning of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bindu.dspy.models import Turn
from bindu.dspy.strategies.base import Cut, TurnStrategy, dialogue

__all__ = ["FirstNTurnsStrategy"]


@dataclass
class FirstNTurnsStrategy(TurnStrategy):
    """The first question; its answer and the next ``n_turns - 1`` turns."""

    name = "first_n_turns"
    n_turns: int = 3  # at least 1

    def __post_init__(self) -> None:
        self.n_turns = max(1, self.n_turns)

    def cut(self, turns: Sequence[Turn]) -> Cut:
        first, *later = turns[: self.n_turns]
        output = f"Assistant: {first.assistant}\n{dialogue(later)}" if later else first.assistant
        return Cut(first.user, output, turn=len(later))
