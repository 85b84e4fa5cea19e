"""Several overlapping windows over one conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bindu.dspy.models import Interaction
from bindu.dspy.strategies.base import BaseExtractionStrategy, parse_turns, questions

__all__ = ["SlidingWindowStrategy"]


@dataclass
class SlidingWindowStrategy(BaseExtractionStrategy):
    """``window_size`` turns, every ``stride`` turns from ``start_offset`` on; each window is one example.

    All three are clamped to what can be, and the window and its start to the length of the conversation, so a
    short one gives one window. Windows are told apart by ``Interaction.window``, which counts from 0.
    """

    name = "sliding_window"
    window_size: int = 2  # at least 1
    stride: int = 1  # at least 1
    start_offset: int = 0  # at least 0

    def __post_init__(self) -> None:
        self.window_size = max(1, self.window_size)
        self.stride = max(1, self.stride)
        self.start_offset = max(0, self.start_offset)

    def extract(
        self,
        task_id: UUID,
        messages: list[dict[str, Any]],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> Interaction | None:
        """Return the last window."""
        windows = self.extract_all(task_id, messages, feedback_score, feedback_type)
        return windows[-1] if windows else None

    def extract_all(
        self,
        task_id: UUID,
        messages: list[dict[str, Any]],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> list[Interaction]:
        turns = parse_turns(messages)
        if not turns:
            return []
        size = min(self.window_size, len(turns))
        last = len(turns) - size
        windows = [turns[at : at + size] for at in range(min(self.start_offset, last), last + 1, self.stride)]
        return [
            Interaction(
                id=task_id,
                user_input=questions(window),
                agent_output=window[-1].assistant,
                feedback_score=feedback_score,
                feedback_type=feedback_type,
                window=number,
            )
            for number, window in enumerate(windows)
        ]
