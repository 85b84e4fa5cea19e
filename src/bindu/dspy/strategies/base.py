"""What a strategy is, and the reading of messages that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from bindu.dspy.models import Interaction, Turn

__all__ = [
    "BaseExtractionStrategy",
    "Cut",
    "CutStrategy",
    "TurnStrategy",
    "dialogue",
    "key_context",
    "normalize_role",
    "parse_turns",
    "questions",
    "said",
]

PLAIN_QUESTIONS = 3  # up to so many questions need no turn labels


class BaseExtractionStrategy(ABC):
    """Decides which part of a conversation is worth learning from.

    ``messages`` are cleaned: dictionaries with a lower-case ``role`` and a non-empty text as ``content``, in time
    order. A subclass needs ``name`` and ``extract`` only; one whose answer may not be the conversation's last says
    on the interaction whose ``turn`` it is, so that no task's score is put on another's answer.
    """

    multi_turn = True  # False: the earlier tasks of the same conversation are not needed

    @property
    @abstractmethod
    def name(self) -> str:
        """The strategy's identifier."""

    @abstractmethod
    def extract(
        self,
        task_id: UUID,
        messages: list[dict[str, Any]],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> Interaction | None:
        """Cut one example out of a conversation; None when there is nothing to learn from."""

    def extract_all(
        self,
        task_id: UUID,
        messages: list[dict[str, Any]],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> list[Interaction]:
        """Cut every example out of a conversation: here the one that ``extract`` finds, or none."""
        found = self.extract(task_id, messages, feedback_score, feedback_type)
        return [] if found is None else [found]


class Cut(NamedTuple):
    """What a strategy chose: an Interaction without its task and feedback."""

    user_input: str
    agent_output: str
    system_prompt: str | None = None
    window: int | None = None
    turn: int | None = None  # needed unless the answer is the conversation's last

    def interaction(self, task_id: UUID, feedback_score: float | None, feedback_type: str | None) -> Interaction:
        return Interaction(id=task_id, feedback_score=feedback_score, feedback_type=feedback_type, **self._asdict())


class CutStrategy(BaseExtractionStrategy):
    """A strategy that answers with cuts and leaves the bookkeeping to this class."""

    @abstractmethod
    def cuts(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[Cut]:
        """Every example of a conversation, oldest first."""

    def extract(
        self,
        task_id: UUID,
        messages: list[dict[str, Any]],
        feedback_score: float | None = None,
        feedback_type: str | None = None,
    ) -> Interaction | None:
        """Return the latest example."""
        found = self.cuts(messages)
        return found[-1].interaction(task_id, feedback_score, feedback_type) if found else None


class TurnStrategy(CutStrategy):
    """A strategy that sees complete turns and cuts one example out of them."""

    @abstractmethod
    def cut(self, turns: Sequence[Turn]) -> Cut | None:
        """Choose from at least one complete turn."""

    def cuts(self, messages: Sequence[Mapping[str, Any]]) -> list[Cut]:
        turns = parse_turns(messages)
        found = self.cut(turns) if turns else None
        return [] if found is None else [found]


def normalize_role(role: object) -> str | None:
    """``user``, ``assistant`` or another role in lower case; an agent is an assistant. None if it names none."""
    if not isinstance(role, str):
        return None
    plain = role.strip().lower().removeprefix("role_")  # A2A 1.0 writes ROLE_AGENT
    return "assistant" if plain == "agent" else plain or None


def said(messages: Iterable[object]) -> Iterator[tuple[str, str]]:
    """Yield (role, text) of every message that has both; skip the others."""
    for message in messages:
        if not isinstance(message, Mapping):
            continue
        role, text = normalize_role(message.get("role")), message.get("content")
        if role and isinstance(text, str) and text.strip():
            yield role, text


def parse_turns(messages: Iterable[object]) -> list[Turn]:
    """Pair each user message with the first answer before the next user message; skip everything else."""
    turns: list[Turn] = []
    question: str | None = None
    for role, text in said(messages):
        if role == "user":
            question = text
        elif role == "assistant" and question is not None:
            turns.append(Turn(question, text))
            question = None
    return turns


def dialogue(turns: Iterable[Turn]) -> str:
    """``User: ...`` and ``Assistant: ...`` lines."""
    return "\n".join(f"User: {turn.user}\nAssistant: {turn.assistant}" for turn in turns)


def questions(turns: Sequence[Turn]) -> str:
    """The user's texts, a blank line between them, ``[Turn i]`` before each when there are more than three."""
    labelled = len(turns) > PLAIN_QUESTIONS
    return "\n\n".join(f"[Turn {i}] {turn.user}" if labelled else turn.user for i, turn in enumerate(turns, 1))


def key_context(turns: Sequence[Turn], chosen: Sequence[int]) -> Cut:
    """Chosen turns as ``[Key context i]`` blocks, the last of them as ``[Current query]``, and its answer.

    A single turn has no context and is its bare question, as production will ask it.
    """
    *earlier, last = chosen
    query, answer = turns[last].user, turns[last].assistant
    if not earlier:
        return Cut(query, answer, turn=last)
    blocks = [f"[Key context {i}]\n{dialogue([turns[place]])}" for i, place in enumerate(earlier, 1)]
    return Cut("\n\n".join([*blocks, f"[Current query]\nUser: {query}"]), answer, turn=last)
