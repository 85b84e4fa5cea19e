"""The first question and everything that followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bindu.dspy.models import Interaction
from bindu.dspy.strategies.base import BaseExtractionStrategy, said

__all__ = ["FullHistoryStrategy"]


@dataclass
class FullHistoryStrategy(BaseExtractionStrategy):
    """The first user message; all later messages as ``Role: content`` lines.

    None when those lines are longer than ``max_length`` characters or none of them is an answer.
    """

    name = "full_history"
    max_length: int = 10_000

    def extract(
        self,
        task_id: UUID,
        messages: list[dict[str, Any]],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> Interaction | None:
        spoken = list(said(messages))
        first = next((i for i, (role, _) in enumerate(spoken) if role == "user"), None)
        if first is None:
            return None
        later = spoken[first + 1 :]
        output = "\n".join(f"{role.capitalize()}: {text}" for role, text in later)
        if len(output) > self.max_length or not any(role == "assistant" for role, _ in later):
            return None
        return Interaction(
            id=task_id,
            user_input=spoken[first][1],
            agent_output=output,
            feedback_score=feedback_score,
            feedback_type=feedback_type,
        )
