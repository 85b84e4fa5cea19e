"""The end of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bindu.dspy.models import Turn
from bindu.dspy.strategies.base import Cut, TurnStrategy, dialogue

__all__ = ["LastNTurnsStrategy"]


@dataclass
class LastNTurnsStrategy(TurnStrategy):
    """The last question with up to ``n_turns - 1`` turns before it, and its answer."""

    name = "last_n_turns"
    n_turns: int = 3  # at least 1

    def __post_init__(self) -> None:
        self.n_turns = max(1, self.n_turns)

    def cut(self, turns: Sequence[Turn]) -> Cut:
        *earlier, last = turns[-self.n_turns :]
        question = f"{dialogue(earlier)}\n\nUser: {last.user}" if earlier else last.user
        return Cut(question, last.assistant)
