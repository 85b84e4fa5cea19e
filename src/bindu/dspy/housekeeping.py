"""What keeps the service running: keys of its callers, jobs of its workers, and their part of the port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from bindu.dspy.models import JsonObject

__all__ = [
    "ApiKey",
    "AuditEntry",
    "AuditNote",
    "AuditTrail",
    "Erased",
    "Housekeeping",
    "Job",
    "Month",
    "Person",
    "Pruned",
    "Scope",
]

Scope = Literal["select", "write", "view", "operate", "admin"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditNote:
    """Something that somebody did, about to be put into the trail, in the transaction that does it."""

    agent_id: str  # "*" is every agent
    action: str  # such as promote or add_key
    actor: str
    reason: str
    subject: str = ""  # what it was done to, such as "prompt 3"
    details: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(AuditNote):
    """One row of an agent's trail."""

    id: int  # counts up per agent, from 1, without a gap
    at: datetime
    digest: str  # SHA-256, in hexadecimal, of the row before and this one


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTrail:
    """Whether an agent's trail is whole, as far as it can tell itself: its last digest, kept elsewhere, tells more."""

    agent_id: str
    entries: int
    last_id: int  # 0 before the first
    digest: str | None  # of the last one
    broken: int | None  # the first row that does not follow from the one before it


class Month(NamedTuple):
    """A month in UTC; tasks belong to that of their id."""

    year: int
    number: int  # 1 to 12

    @property
    def start(self) -> datetime:
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """When the next one begins."""
        return datetime(self.year + self.number // 12, self.number % 12 + 1, 1, tzinfo=UTC)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a month holds, of all agents together."""

    month: str  # such as 2026-01
    tasks: int
    votes: int
    remarks: int
    keys: int  # ids that callers gave to its tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody whose data goes, by one id or both."""

    agent_id: str
    unit_id: str | None = None  # whose conversations
    rater_id: str | None = None  # whose votes, comments and corrections


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was stored of a person, how much of it is gone, and where to look by hand."""

    tasks: int = 0
    votes: int = 0
    remarks: int = 0
    task_keys: int = 0
    units: int = 0  # rows of experiments that keep their numbers under a name by chance
    runs: int = 0  # records of training that named or quoted the person
    live_runs: int = 0  # training at work now, which has to end first: only a dry run finds any
    other_units: int = 0  # whose tasks stood in the same conversations
    other_raters: tuple[str, ...] = ()  # who voted in them
    quoted_in: tuple[str, ...] = ()  # prompts and rubrics that repeat the person's words; they stay
    names: tuple[str, ...] = field(default=(), repr=False)  # every id that stood for the person

    @property
    def anything(self) -> bool:
        return any((self.tasks, self.votes, self.remarks, self.task_keys, self.units, self.runs))


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

    async def add_key(
        self, key: ApiKey, digest: bytes, *, actor: str, reason: str, now: datetime | None = None
    ) -> ApiKey:
        """Store a key by the SHA-256 of its text."""

    async def find_key(self, digest: bytes) -> ApiKey | None:
        """The key with that digest, whosever it is, if it is neither revoked nor expired."""

    async def keys(self, agent_id: str) -> list[ApiKey]:
        """All that were made for exactly this agent, ``*`` included, oldest first."""

    async def revoke_key(
        self, agent_id: str, key_id: UUID, *, actor: str, reason: str, now: datetime | None = None
    ) -> ApiKey | None:
        """Make a key worthless from now on; the first time stays. None when there is no such key."""

    async def signing_secret(self, agent_id: str, proposed: bytes | None = None) -> bytes | None:
        """What the agent's tokens are signed with; ``proposed`` becomes it when there is none yet."""

    # who did what

    async def audit(self, agent_id: str, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Newest first, those before a number."""

    async def audit_entry(self, agent_id: str, number: int) -> AuditEntry | None: ...

    async def audit_trail(self, agent_id: str) -> AuditTrail:
        """Follow the whole trail from its first row; grows with it."""

    # what is kept how long

    async def months(self) -> list[Month]:
        """Those that there are tables for, oldest first, whosever tasks they hold."""

    async def needed_since(self) -> datetime | None:
        """From when on a running experiment of any agent needs its tasks; None when none is running."""

    async def count_month(self, month: Month) -> Pruned: ...

    async def drop_month(self, month: Month, *, actor: str, reason: str, now: datetime | None = None) -> Pruned | None:
        """Drop a month's tasks and votes of all agents, with all that hangs on them; None when it was gone before.

        Raises BinduError when others use the tables for so long that it gives up; then nothing was dropped.
        """

    async def erase(
        self, person: Person, *, actor: str, reason: str, dry_run: bool = False, now: datetime | None = None
    ) -> Erased:
        """Delete what a person said and what was said with them, in one transaction. ``dry_run`` takes it all back.

        What experiments have counted stays, under names by chance. Raises RunActiveError while a run of the agent is
        at work, also one whose process is gone without a word, unless ``dry_run``.
        """
