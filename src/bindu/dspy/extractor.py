"""Clean the messages of a stored conversation, let a strategy choose, say where the example comes from."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from bindu.dspy.feedback import task_score
from bindu.dspy.models import Funnel, Interaction, RawTask, Turn
from bindu.dspy.strategies import BaseExtractionStrategy, LastTurnStrategy, parse_turns
from bindu.dspy.strategies.base import normalize_role

__all__ = ["InteractionExtractor", "clean_messages"]

_TEXT_PARTS = (None, "text", "input_text", "output_text")


def clean_messages(messages: Iterable[object]) -> list[dict[str, Any]]:
    """Drop empty and invalid messages; return the others as ``{"role", "content"}``.

    Reads ``content`` as text or as a list of OpenAI content parts, and A2A's ``parts``; text parts are joined by
    a newline. Roles come out in lower case, an agent as ``assistant``; texts stripped and in Unicode NFC.
    """
    cleaned: list[dict[str, Any]] = []
    for message in messages:
        if not isinstance(message, Mapping):
            continue
        role = normalize_role(message.get("role"))
        text = _text(message.get("content")) or _text(message.get("parts"))
        if role and text:
            cleaned.append({"role": role, "content": text})
    return cleaned


class InteractionExtractor:
    """Applies a strategy, by default LastTurnStrategy, to a history as it was recorded."""

    def __init__(self, strategy: BaseExtractionStrategy | None = None) -> None:
        self.strategy = strategy or LastTurnStrategy()

    def extract(
        self,
        task_id: UUID,
        history: Iterable[object],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> Interaction | None:
        """The strategy's one example, or None."""
        return self.strategy.extract(task_id, clean_messages(history), feedback_score, feedback_type)

    def extract_all(
        self,
        task_id: UUID,
        history: Iterable[object],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> list[Interaction]:
        """All of the strategy's examples."""
        return self.strategy.extract_all(task_id, clean_messages(history), feedback_score, feedback_type)

    def extract_task(self, task: RawTask, *, funnel: Funnel | None = None) -> list[Interaction]:
        """All examples of a stored task and its conversation so far, with score and provenance.

        A task's score is about its own answers: an example that ends with the answer of an earlier task is dropped
        (``earlier_answer``), it is that task's. A task that gives no example at all is ``no_turn``.
        """
        funnel = Funnel() if funnel is None else funnel
        before, messages = _conversation(task) if self.strategy.multi_turn else ([], clean_messages(task.history))
        turns, first = parse_turns(messages), len(parse_turns(before))
        score, kind = task_score(task.votes)
        adds_nothing = not messages or 0 < first == len(turns)
        found = [] if adds_nothing else self.strategy.extract_all(task.id, messages, score, kind)
        several = len(found) > 1
        own = [
            _stamped(one, task, window if several else None)
            for window, one in enumerate(found)
            if _is_own(one, turns, first)
        ]
        funnel.drop("earlier_answer", len(found) - len(own))
        if not found:
            funnel.drop("no_turn")
        return own


def _text(content: object) -> str:
    if isinstance(content, str):
        return unicodedata.normalize("NFC", content).strip()
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return "\n".join(filter(None, map(_part, content)))
    return ""


def _part(part: object) -> str:
    if isinstance(part, Mapping) and part.get("kind", part.get("type")) in _TEXT_PARTS:
        part = part.get("text")
    return _text(part) if isinstance(part, str) else ""


def _conversation(task: RawTask) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was said before the task, and that with the task's own messages, in time order."""
    before: list[dict[str, Any]] = []
    for history in map(clean_messages, task.earlier):
        before = _continued(before, history)
    return before, _continued(before, clean_messages(task.history))


def _continued(before: list[dict[str, Any]], history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Agents store the new messages only, or the whole conversation every time: that begins with all before it."""
    whole = len(history) > len(before) and history[: len(before)] == before
    return history if whole else before + history


def _is_own(one: Interaction, turns: Sequence[Turn], first: int) -> bool:
    """Whether the example ends with an answer of the turns from ``first`` on, as far as one can tell."""
    if one.turn is not None:
        return one.turn >= first
    answers = [turn.assistant for turn in turns]
    return one.agent_output in answers[first:] or one.agent_output not in answers[:first]


def _stamped(found: Interaction, task: RawTask, window: int | None) -> Interaction:
    score, kind = task_score(task.votes)
    unscored = found.feedback_score is None
    return replace(
        found,
        feedback_score=score if unscored else found.feedback_score,
        feedback_type=kind if unscored else found.feedback_type,
        unit_id=task.unit_id,
        context_id=task.context_id,
        created_at=task.created_at,
        prompt_id=task.prompt_id,
        window=window if found.window is None else found.window,
        raters=tuple(vote.rater_id for vote in task.votes),
        comments=tuple(vote.comment for vote in task.votes if vote.comment),
        correction=next((vote.correction for vote in reversed(task.votes) if vote.correction), None),
    )
