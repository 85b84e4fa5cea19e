"""A long conversation, its beginning summarised."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bindu.dspy.models import Turn
from bindu.dspy.strategies.base import Cut, TurnStrategy, dialogue

__all__ = ["SummaryContextStrategy", "SummaryFormat", "clip", "first_sentence", "summarize"]

SummaryFormat = Literal["bullets", "paragraph"]

SENTENCE_LENGTH = 80
_ELLIPSIS = "..."
_END = re.compile(r"""[.!?]+["')\]]*(?=\s|$)|[\u3002\uff01\uff1f]|\n""")
_ABBREVIATIONS = frozenset(
    {"approx", "cf", "dr", "e.g", "etc", "fig", "i.e", "inc", "mr", "mrs", "ms", "prof", "resp", "st", "vs"}
)


@dataclass
class SummaryContextStrategy(TurnStrategy):
    """A summary of up to ``summary_turns`` turns, the ``recent_turns`` last ones in full, and the last answer.

    ``summarizer`` may be a model's; the built-in one keeps the first sentence of each side. Either is cut to
    ``max_summary_length`` characters.
    """

    name = "summary_context"
    summary_turns: int = 5  # at least 1
    recent_turns: int = 2  # at least 1
    max_summary_length: int = 500
    summary_format: SummaryFormat = "bullets"
    summarizer: Callable[[Sequence[Turn]], str] | None = None

    def __post_init__(self) -> None:
        if self.summary_format not in get_args(SummaryFormat):
            raise ValueError(f"summary_format is 'bullets' or 'paragraph', not {self.summary_format!r}.")
        self.summary_turns = max(1, self.summary_turns)
        self.recent_turns = max(1, self.recent_turns)
        self.max_summary_length = max(1, self.max_summary_length)

    def cut(self, turns: Sequence[Turn]) -> Cut:
        old, recent = turns[: -self.recent_turns], turns[-self.recent_turns :]
        *before, last = recent
        lines = f"{dialogue(before)}\n\nUser: {last.user}" if before else f"User: {last.user}"
        summary = self._summary(old[-self.summary_turns :]) if old else ""
        if summary:
            text = f"[Previous conversation summary]\n{summary}\n\n[Recent conversation]\n{lines}"
            return Cut(text, last.assistant)
        return Cut(lines if before else last.user, last.assistant)

    def _summary(self, turns: Sequence[Turn]) -> str:
        text = self.summarizer(turns) if self.summarizer else summarize(turns, self.summary_format)
        return clip(text.strip(), self.max_summary_length)


def summarize(turns: Sequence[Turn], summary_format: SummaryFormat = "bullets") -> str:
    """The first sentence of each side of each turn, one bullet per turn or one paragraph."""
    pieces = [f"User: {first_sentence(turn.user)} Assistant: {first_sentence(turn.assistant)}" for turn in turns]
    return "\n".join(f"- {piece}" for piece in pieces) if summary_format == "bullets" else " ".join(pieces)


def first_sentence(text: str, limit: int = SENTENCE_LENGTH) -> str:
    """The first sentence or line, at most ``limit`` characters; an abbreviation does not end a sentence."""
    text = text.strip()
    for end in _END.finditer(text[: limit + 1]):  # a later end would be cut off anyway
        if end[0] != "." or not _abbreviated(text[: end.start()]):
            return clip(text[: end.end()].strip(), limit)
    return clip(text, limit)


def _abbreviated(before: str) -> bool:
    word = before.rsplit(maxsplit=1)[-1].lstrip("([\"'").lower() if before.strip() else ""
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isalnum())  # initials, and the numbers of lists


def clip(text: str, limit: int) -> str:
    """Cut a text to ``limit`` characters, at a word boundary where there is one."""
    if len(text) <= limit:
        return text
    room = limit - len(_ELLIPSIS)
    if room <= 0:
        return text[:limit]
    kept = text[: room + 1]  # one more, to see whether a word ends right here
    boundary = max(kept.rfind(" "), kept.rfind("\n"))
    return (kept[:boundary] if boundary > 0 else kept[:room]).rstrip() + _ELLIPSIS
