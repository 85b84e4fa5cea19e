"""What keeps the service running: keys of its callers, jobs of its workers, and their part of the port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

__all__ = ["ApiKey", "Housekeeping", "Job", "Scope"]

Scope = Literal["select", "write", "operate", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What a caller of the server may do; the key itself is stored nowhere, only its digest is."""

    agent_id: str  # "*" is every agent
    id: UUID
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A scheduled job of an agent: who runs it now, and what came of its last run."""

    agent_id: str
    name: str
    holder: str | None = None  # None while nobody runs it
    lease_until: datetime | None = None  # after which anybody may take it
    fence: int = 0  # goes up with every holder
    last_slot: datetime | None = None  # the scheduled time of the last run that ended
    last_outcome: str | None = None


class Housekeeping(Protocol):
    """The verbs of ``Storage`` that no stage of the loop needs."""

    # scheduled jobs

    async def agent_ids(self, among: Sequence[str] | None = None) -> list[str]:
        """The agents that have a prompt, of all or of these, sorted."""

    async def jobs(self, agent_id: str) -> list[Job]: ...

    async def enroll_job(self, agent_id: str, name: str, *, slot: datetime) -> bool:
        """Let a job that nobody ever saw count as done for the slot; False when it is known already."""

    async def claim_job(
        self, agent_id: str, name: str, holder: str, *, slot: datetime, lease: timedelta, now: datetime | None = None
    ) -> Job | None:
        """Take a known job that was not done for the slot and that nobody holds, with a fence of its own; else None."""

    async def renew_job(self, job: Job, *, lease: timedelta, now: datetime | None = None) -> bool:
        """Hold a claimed job for longer; False when somebody else has it by now."""

    async def finish_job(self, job: Job, outcome: str, *, slot: datetime | None) -> bool:
        """Give a claimed job back, done for the slot, or with None unfinished; False when somebody else has it."""

    # who may call the server

    async def add_key(self, key: ApiKey, digest: bytes, *, now: datetime | None = None) -> ApiKey:
        """Store a key by the SHA-256 of its text."""

    async def find_key(self, digest: bytes) -> ApiKey | None:
        """The key with that digest, whosever it is, if it is neither revoked nor expired."""

    async def keys(self, agent_id: str) -> list[ApiKey]:
        """All that were made for exactly this agent, ``*`` included, oldest first."""

    async def revoke_key(self, agent_id: str, key_id: UUID, *, now: datetime | None = None) -> ApiKey | None:
        """Make a key worthless from now on; the first time stays. None when there is no such key."""

    async def signing_secret(self, agent_id: str, proposed: bytes | None = None) -> bytes | None:
        """What the agent's tokens are signed with; ``proposed`` becomes it when there is none yet."""
