"""The last questions as one, and the last answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bindu.dspy.models import Turn
from bindu.dspy.strategies.base import Cut, TurnStrategy, questions

__all__ = ["ContextWindowStrategy"]


@dataclass
class ContextWindowStrategy(TurnStrategy):
    """The questions of the last ``n_turns`` turns and the last answer; ``system_prompt`` stays on the example."""

    name = "context_window"
    n_turns: int = 3  # at least 1
    system_prompt: str | None = None

    def __post_init__(self) -> None:
        self.n_turns = max(1, self.n_turns)

    def cut(self, turns: Sequence[Turn]) -> Cut:
        window = turns[-self.n_turns :]
        return Cut(questions(window), window[-1].assistant, self.system_prompt)
