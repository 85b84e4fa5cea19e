"""The last questions as one, and the last answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from bindu.dspy.models import Interaction, Turn
from bindu.dspy.strategies.base import TurnStrategy, questions

__all__ = ["ContextWindowStrategy"]


@dataclass
class ContextWindowStrategy(TurnStrategy):
    """The questions of the last ``n_turns`` turns and the last answer; ``system_prompt`` stays on the example."""

    name = "context_window"
    n_turns: int = 3  # at least 1
    system_prompt: str | None = None

    def __post_init__(self) -> None:
        self.n_turns = max(1, self.n_turns)

    def cut(self, turns: Sequence[Turn]) -> tuple[str, str]:
        window = turns[-self.n_turns :]
        return questions(window), window[-1].assistant

    def extract(
        self,
        task_id: UUID,
        messages: list[dict[str, Any]],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> Interaction | None:
        found = super().extract(task_id, messages, feedback_score, feedback_type)
        return found and replace(found, system_prompt=self.system_prompt)
