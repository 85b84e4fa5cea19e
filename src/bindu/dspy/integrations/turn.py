"""A turn notes which prompts were really served, so that an exchange counts for no other.

It is one mutable object in a context variable: child tasks, and threads that got a copy of the context, see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from threading import Lock
from types import MappingProxyType
from typing import Any
from uuid import UUID

from bindu.dspy.arguments import optional_id
from bindu.dspy.collector import read_exchange, read_feedback
from bindu.dspy.errors import InvalidArgumentError, InvalidPromptError
from bindu.dspy.integrations.background import background

__all__ = ["Turn", "current_turn", "last_task_id", "last_tasks", "opened", "turn"]

_turn: ContextVar[Turn | None] = ContextVar("bindu_turn", default=None)
_last: ContextVar[Mapping[str, UUID]] = ContextVar("bindu_last_tasks", default=MappingProxyType({}))


class Turn:
    """One exchange of a conversation, or several. Every agent that takes part is served one prompt in it."""

    def __init__(self, unit_id: str | None = None, context_id: str | None = None, within: Turn | None = None) -> None:
        self.unit_id = unit_id  # what keeps its prompt: a conversation or a user; None means the context
        self.context_id = context_id  # the conversation
        self.agent: str | None = None  # the one that exchanges count for, if it takes part; None means all that do
        self.tasks: dict[str, UUID] = {}  # the last exchange's, by agent id
        self._within = within
        self._prompts: dict[str, dict[str, Any]] = {} if within is None else within._prompts
        self._lock: AbstractContextManager[object] = Lock() if within is None else within._lock
        self._asked: dict[str, dict[str, Any]] = {}  # since the last exchange

    @property
    def served(self) -> dict[str, dict[str, Any]]:
        """The prompts that were served, by agent id, in that order."""
        return dict(self._prompts)

    @property
    def task_id(self) -> UUID | None:
        """The last exchange's, for feedback; that of the first agent if several took part."""
        return next(iter(self.tasks.values()), None)

    def part(self) -> Turn:
        """A turn for one exchange of this one, in which the same prompts are served."""
        part = Turn(self.unit_id, self.context_id, self)
        part.agent = self.agent
        return part

    def serve(self, agent_id: str, choose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The agent's prompt of this turn, chosen at its first request."""
        with self._lock:
            if agent_id not in self._prompts:
                self._prompts[agent_id] = choose()
            self._asked[agent_id] = self._prompts[agent_id]
            return self._prompts[agent_id]

    def record(
        self,
        question: str | Sequence[Mapping[str, Any]],
        answer: str | None = None,
        *,
        state: str = "completed",
        usage: Mapping[str, Any] | None = None,
        latency_ms: float | None = None,
        agent: str | None = None,
    ) -> UUID:
        """Have an exchange stored soon, and return its id at once.

        ``question`` is a text, or messages as they were sent. It counts for the prompt that was served here; if
        several agents took part since the last exchange, for each of them, or for ``agent`` alone. Raises
        InvalidPromptError when none did, and InvalidHistoryError.
        """
        history = [{"role": "user", "content": question}] if isinstance(question, str) else [*question]
        if answer is not None:
            history.append({"role": "assistant", "content": answer})
        exchanges = [
            read_exchange(
                history,
                prompt=prompt,
                unit_id=self.unit_id,
                context_id=self.context_id,
                state=state,
                usage=usage,
                latency_ms=latency_ms,
            )
            for prompt in self._of(agent)
        ]
        self._asked = {}
        self._recorded({exchange.task.agent_id: background().record(exchange) for exchange in exchanges})
        _last.set(self.tasks)
        return next(iter(self.tasks.values()))

    def feedback(
        self,
        feedback: Mapping[str, Any],
        *,
        rater_id: UUID | str | int | None = None,
        idempotency_key: UUID | str | int | None = None,
        agent: str | None = None,
    ) -> Future[None]:
        """Store a vote on the exchange recorded last, for each agent it counts for or for ``agent`` alone.

        The future ends when it is durable. Raises InvalidFeedbackError, and InvalidArgumentError before ``record``.
        """
        tasks = {name: task for name, task in self.tasks.items() if agent in (None, name)}
        if not tasks:
            raise InvalidArgumentError("No exchange was recorded in this turn. Call record() before feedback().")
        return background().vote(
            {
                name: read_feedback(task, feedback, rater_id=rater_id, idempotency_key=idempotency_key)
                for name, task in tasks.items()
            }
        )

    def _of(self, agent: str | None) -> list[dict[str, Any]]:
        prompts = self._asked or self._prompts
        agent = agent or (self.agent if self.agent in prompts else None)
        found = prompts if agent is None else {name: self._prompts[name] for name in self._prompts.keys() & {agent}}
        if not found:
            raise InvalidPromptError(
                "No prompt was served in this turn, so the exchange counts for none. "
                "Give the agent prompt_handle(...) as its instructions, and let it answer inside the turn."
            )
        return [*found.values()]

    def _recorded(self, tasks: dict[str, UUID]) -> None:
        self.tasks = tasks
        if self._within is not None:
            self._within._recorded(tasks)


@contextmanager
def turn(unit_id: UUID | str | int | None = None, *, context_id: UUID | str | int | None = None) -> Iterator[Turn]:
    """Open a turn for what runs inside the block. ``unit_id`` (a conversation or a user) keeps its prompt while
    shares rise; it defaults to ``context_id``, the conversation. Raises InvalidArgumentError.
    """
    with opened(Turn(optional_id(unit_id, "unit_id"), optional_id(context_id, "context_id"))) as one:
        yield one


@contextmanager
def opened(one: Turn) -> Iterator[Turn]:
    """Make it the current turn inside the block."""
    token = _turn.set(one)
    try:
        yield one
    finally:
        _turn.reset(token)


def current_turn() -> Turn | None:
    """The innermost turn that is open here."""
    return _turn.get()


def last_task_id() -> UUID | None:
    """The id of the exchange that was recorded last in this context, for feedback."""
    return next(iter(_last.get().values()), None)


def last_tasks() -> Mapping[str, UUID]:
    """The same with all agents that it counts for, by agent id."""
    return _last.get()
