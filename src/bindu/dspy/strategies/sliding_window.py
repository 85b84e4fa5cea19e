"""Several overlapping windows over one conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from bindu.dspy.arguments import shown
from bindu.dspy.errors import UnknownStrategyError
from bindu.dspy.models import Interaction
from bindu.dspy.strategies.base import Cut, CutStrategy, parse_turns, questions

__all__ = ["SlidingWindowStrategy"]

_LARGEST_WINDOW: Final = 100  # turns


@dataclass
class SlidingWindowStrategy(CutStrategy):
    """``window_size`` turns, every ``stride`` turns from ``start_offset`` on; each window is one example.

    All three are clamped to what can be, and the window and its start to the length of the conversation, so a
    short one gives one window. Windows are told apart by ``Interaction.window``, which counts from 0. They repeat
    the conversation ``window_size`` times over, so more than 100 turns raise UnknownStrategyError.
    """

    name = "sliding_window"
    window_size: int = 2  # at least 1, at most 100
    stride: int = 1  # at least 1
    start_offset: int = 0  # at least 0

    def __post_init__(self) -> None:
        if self.window_size > _LARGEST_WINDOW:
            raise UnknownStrategyError(
                f"A window of {shown(self.window_size)} turns is too large; {_LARGEST_WINDOW} are the most. "
                "To learn from whole conversations use full_history or last_n."
            )
        self.window_size = max(1, self.window_size)
        self.stride = max(1, self.stride)
        self.start_offset = max(0, self.start_offset)

    def extract_all(
        self,
        task_id: UUID,
        messages: list[dict[str, Any]],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> list[Interaction]:
        return [cut.interaction(task_id, feedback_score, feedback_type) for cut in self.cuts(messages)]

    def cuts(self, messages: Sequence[Mapping[str, Any]]) -> list[Cut]:
        turns = parse_turns(messages)
        if not turns:
            return []
        size = min(self.window_size, len(turns))
        last = len(turns) - size
        starts = range(min(self.start_offset, last), last + 1, self.stride)
        return [
            Cut(questions(turns[at : at + size]), turns[at + size - 1].assistant, window=number, turn=at + size - 1)
            for number, at in enumerate(starts)
        ]
