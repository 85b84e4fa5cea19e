"""What the pages of an agent show, read once per change however many people look on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Final, Generic, TypeVar

from bindu.dspy.insights import agent_status, decision_log, list_runs, newest_votes, pulse
from bindu.dspy.models import Decision, TrainingRun
from bindu.dspy.reports import AgentStatus, LatestVote, Pulse

__all__ = ["Readings"]

_FRESH_SECONDS: Final = 5.0  # counts of tasks without a vote change nothing that the pulse sees
_MOST: Final = 1_000  # agents
_VOTES: Final = 10
_DECISIONS: Final = 20
_RUNS: Final = 10

_Read = TypeVar("_Read")


class _Kept(Generic[_Read]):
    """What was read last, of one kind and one agent."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._beat: Pulse | None = None
        self._last: _Read | None = None
        self._read_at = 0.0

    async def read(self, agent_id: str, anew: Callable[[], Awaitable[_Read]]) -> _Read:
        """As it was some seconds ago at most, and as it is when anything has changed since."""
        async with self._lock:
            beat = await pulse(agent_id)
            if self._last is None or beat != self._beat or monotonic() - self._read_at > _FRESH_SECONDS:
                self._last = await anew()
                self._beat, self._read_at = beat, monotonic()
            return self._last


@dataclass(frozen=True, slots=True)
class _Known:
    status: _Kept[AgentStatus] = field(default_factory=_Kept)
    votes: _Kept[list[LatestVote]] = field(default_factory=_Kept)
    log: _Kept[list[Decision]] = field(default_factory=_Kept)
    runs: _Kept[list[TrainingRun]] = field(default_factory=_Kept)


class Readings:
    """One process's view of its agents. ``clock`` is what is taken for now; None is the database's."""

    def __init__(self, clock: Callable[[], datetime] | None) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def now(self) -> datetime | None:
        return None if self._clock is None else self._clock()

    async def status(self, agent_id: str) -> AgentStatus:
        """How the agent is doing."""
        return await self._of(agent_id).status.read(agent_id, lambda: agent_status(agent_id, now=self.now()))

    async def votes(self, agent_id: str) -> list[LatestVote]:
        """The newest ones."""
        return await self._of(agent_id).votes.read(agent_id, lambda: newest_votes(agent_id, limit=_VOTES))

    async def log(self, agent_id: str) -> list[Decision]:
        """The newest decisions."""
        return await self._of(agent_id).log.read(agent_id, lambda: decision_log(agent_id, limit=_DECISIONS))

    async def runs(self, agent_id: str) -> list[TrainingRun]:
        """The newest training runs."""
        return await self._of(agent_id).runs.read(agent_id, lambda: list_runs(agent_id=agent_id, limit=_RUNS))

    def _of(self, agent_id: str) -> _Known:
        if agent_id not in self._known and len(self._known) >= _MOST:
            self._known.clear()
        return self._known.setdefault(agent_id, _Known())
