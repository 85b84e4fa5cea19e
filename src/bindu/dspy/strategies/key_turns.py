"""The turns that matter for a topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bindu.dspy.models import Turn
from bindu.dspy.strategies.base import Cut, TurnStrategy, key_context
from bindu.dspy.strategies.similarity import both_sides, closest, similarity

__all__ = ["KeyTurnsStrategy"]


@dataclass
class KeyTurnsStrategy(TurnStrategy):
    """The turns that name a keyword; without keywords, the earlier turns most like the final one.

    At most ``n_turns`` turns, the final one among them unless ``include_final`` is False; of more turns that name
    a keyword the newest are kept. None when no turn qualifies: with keywords, when none is named. Words are found
    in any case and inside longer ones; ``use_both_messages=False`` looks at the user's side only.
    """

    name = "key_turns"
    n_turns: int = 3  # at least 1
    keywords: Sequence[str] = ()
    similarity_method: str = "jaccard"  # or weighted, or overlap
    include_final: bool = True
    use_both_messages: bool = True

    def __post_init__(self) -> None:
        words = (self.keywords,) if isinstance(self.keywords, str) else self.keywords
        self.keywords = tuple(word.strip() for word in words if word.strip())
        self.n_turns = max(1, self.n_turns)
        similarity(self.similarity_method)  # a wrong name is refused here, not at the first conversation

    def cut(self, turns: Sequence[Turn]) -> Cut | None:
        texts = [both_sides(turn) if self.use_both_messages else turn.user for turn in turns]
        chosen = self._named(texts) if self.keywords else self._alike(texts)
        return key_context(turns, chosen) if chosen else None

    def _named(self, texts: Sequence[str]) -> list[int]:
        words = [word.casefold() for word in self.keywords]
        named = [i for i, text in enumerate(texts) if any(word in text.casefold() for word in words)]
        final = len(texts) - 1
        if not named or not self.include_final:
            return named[-self.n_turns :]
        earlier = [i for i in named if i != final]
        return [*earlier[len(earlier) - min(len(earlier), self.n_turns - 1) :], final]

    def _alike(self, texts: Sequence[str]) -> list[int]:
        scores = similarity(self.similarity_method)(texts[-1], texts)[:-1]
        if not self.include_final:
            return closest(scores, self.n_turns)
        return [*closest(scores, self.n_turns - 1), len(texts) - 1]
