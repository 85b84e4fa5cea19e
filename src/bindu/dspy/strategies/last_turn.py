"""The last answer and the question before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bindu.dspy.models import Interaction
from bindu.dspy.strategies.base import BaseExtractionStrategy, said

__all__ = ["LastTurnStrategy"]


@dataclass
class LastTurnStrategy(BaseExtractionStrategy):
    """The last assistant message and the nearest user message before it."""

    name = "last_turn"
    multi_turn = False

    def extract(
        self,
        task_id: UUID,
        messages: list[dict[str, Any]],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> Interaction | None:
        answer: str | None = None
        for role, text in reversed(list(said(messages))):
            if answer is None and role == "assistant":
                answer = text
            elif answer is not None and role == "user":
                return Interaction(
                    id=task_id,
                    user_input=text,
                    agent_output=answer,
                    feedback_score=feedback_score,
                    feedback_type=feedback_type,
                )
        return None
