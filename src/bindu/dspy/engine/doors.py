"""DSPy's language models of a run, which all speak through the one door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Any, Final, Protocol

import dspy
from dspy import lm15

from bindu.dspy.engine.requests import occasion
from bindu.dspy.engine.speakers import Role, Speaker

__all__ = ["Door", "RoleEngine", "RoleLM", "generation_of"]

_GENERATION: Final = (  # what a user's own language model may say of its answers, as DSPy keeps it
    "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "stop", "seed", "reasoning_effort",
    "frequency_penalty", "presence_penalty", "n", "rollout_id",
)  # fmt: skip

_completions: ContextVar[Iterator[int] | None] = ContextVar("bindu_completions", default=None)


class Door(Protocol):
    """Where the calls of all roles go."""

    def complete(self, role: Role, request: lm15.Request, *, speaker: Speaker | None = None) -> lm15.Response: ...


class RoleEngine:
    """What a ``dspy.LM`` of one role talks to."""

    def __init__(self, door: Door, role: Role, speaker: Speaker) -> None:
        self._door = door
        self._role: Role = role
        self._speaker = speaker

    def complete(self, request: lm15.Request) -> lm15.Response:
        drawn = _completions.get()
        number = next(drawn) if drawn is not None else 0
        with occasion(f"completion {number}" if number else None):
            return self._door.complete(self._role, request, speaker=self._speaker)

    def __deepcopy__(self, memo: object) -> RoleEngine:
        return self  # optimizers copy programs with their models; the door stays one


class RoleLM(dspy.LM):
    """A language model whose rollout id is the occasion of its calls, as it is in DSPy's own cache.

    Each of several completions (``n``) is an occasion, too: DSPy asks for them one by one, with the same request.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        with occasion(options.get("rollout_id", self.kwargs.get("rollout_id"))), _counting_completions():
            return super().__call__(*arguments, **options)


@contextmanager
def _counting_completions() -> Iterator[None]:
    token = _completions.set(count())
    try:
        yield
    finally:
        _completions.reset(token)


def generation_of(lm: dspy.LM) -> dict[str, Any]:
    """How a user's own language model is to answer, without how to reach it."""
    return {key: value for key, value in lm.kwargs.items() if key in _GENERATION and value is not None}
