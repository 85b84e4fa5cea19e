"""Keys for callers of the server: made once, shown once, known by their digest from then on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import monotonic
from typing import Final, get_args
from uuid import UUID

from bindu.dspy.arguments import EVERY_AGENT, checked_actor, checked_id, checked_time, shown
from bindu.dspy.collector import new_id
from bindu.dspy.errors import InvalidArgumentError, StorageUnavailableError, UnknownKeyError
from bindu.dspy.housekeeping import ApiKey, Scope
from bindu.dspy.storage import agent_named, get_storage
from bindu.utils.patience import within

__all__ = [
    "EVERY_AGENT",
    "KEY_PREFIX",
    "KeyRing",
    "create_key",
    "digest_of",
    "is_for",
    "list_keys",
    "may",
    "revoke_key",
]

KEY_PREFIX: Final = "bindu_"
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

_IMPLIED_BY: Final[dict[Scope, tuple[Scope, ...]]] = {"view": ("operate",)}

_RANDOM_BYTES: Final = 32
_LONGEST: Final = 200  # characters of a name
_SHORTEST: Final = 8  # of an id's beginning
_FRESH_SECONDS: Final = 5.0  # a revoked key is refused at the latest after it
_MOST_KNOWN: Final = 10_000
_PATIENCE: Final = 1.0  # seconds for the database


async def create_key(
    name: str,
    scopes: Sequence[str],
    *,
    days: float | None = None,
    actor: str = "person",
    reason: str = "",
    dry_run: bool = False,
    agent_id: str | None = None,
    now: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key for an agent, or for every agent (``*``), and return it with its text, which nobody can tell again.

    With ``dry_run`` it is not stored and opens nothing.

    Scopes are ``select`` (serve prompts, use the proxy), ``write`` (record tasks and feedback), ``view`` (read
    prompts, decisions, conversations), ``operate`` (that, and move traffic) and ``admin`` (all of it). ``actor`` and
    ``reason`` are for the audit trail. Raises InvalidArgumentError.
    """
    at, agent, who, storage = checked_time(now), agent_named(agent_id), checked_actor(actor), await get_storage()
    if days is not None and not 0 < days < 36_500:  # noqa: PLR2004 - a century
        raise InvalidArgumentError(f"A key is good for some days, up to a century, not for {shown(days)}.")
    begins = at or await storage.now()
    text = KEY_PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    key = ApiKey(
        agent_id=agent,
        id=new_id(at),
        name=_named(name),
        scopes=_scopes(scopes),
        expires_at=None if days is None else begins + timedelta(days=days),
    )
    if dry_run:
        return key, text
    return await storage.add_key(key, digest_of(text), actor=who, reason=reason, now=at), text


async def list_keys(*, agent_id: str | None = None) -> list[ApiKey]:
    """The keys that are good for the agent: its own, then those for every agent, oldest first."""
    storage, agent = await get_storage(), agent_named(agent_id)
    return [key for whose in dict.fromkeys((agent, EVERY_AGENT)) for key in await storage.keys(whose)]


async def revoke_key(
    key_id: UUID | str,
    *,
    actor: str = "person",
    reason: str = "",
    dry_run: bool = False,
    agent_id: str | None = None,
    now: datetime | None = None,
) -> ApiKey:
    """Make a key worthless, within seconds in every process; the beginning of its id is enough if it fits no other.

    Raises UnknownKeyError.
    """
    at, agent, asked = checked_time(now), agent_named(agent_id), checked_id(key_id, "key_id").strip().lower()
    storage = await get_storage()
    found = [
        key for key in await list_keys(agent_id=agent) if len(asked) >= _SHORTEST and str(key.id).startswith(asked)
    ]
    key = found[0] if len(found) == 1 else None
    by = {"actor": checked_actor(actor), "reason": reason}
    revoked = key if key is None or dry_run else await storage.revoke_key(key.agent_id, key.id, now=at, **by)
    if revoked is None:
        raise UnknownKeyError(agent, asked)
    return revoked


def digest_of(text: str) -> bytes:
    """What a key is known by. It is random, so that a quick hash is safe."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def may(key: ApiKey, scope: Scope) -> bool:
    """Whether a key allows that."""
    return not {scope, "admin", *_IMPLIED_BY.get(scope, ())}.isdisjoint(key.scopes)


def is_for(key: ApiKey, agent_id: str) -> bool:
    """Whether a key is good for that agent."""
    return key.agent_id in (agent_id, EVERY_AGENT)


class KeyRing:
    """Keys as the database told them some seconds ago; while it is away, those that were known stay good."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[ApiKey | None, float]] = {}
        self._asking: dict[bytes, asyncio.Task[ApiKey | None]] = {}
        self._away = False

    def knows(self, text: str) -> bool:
        """Whether it was good when it was last looked up."""
        return self._known.get(digest_of(text), (None, 0.0))[0] is not None

    async def find(self, text: str) -> ApiKey | None:
        """The key, None for a wrong one. Raises StorageUnavailableError when nobody can tell."""
        return await self.find_by(digest_of(text))

    async def find_by(self, digest: bytes) -> ApiKey | None:
        """The key with that digest, as ``find``."""
        found = await self._find(digest)
        return None if found is None or _is_over(found) else found

    async def _find(self, digest: bytes) -> ApiKey | None:
        known, asked_at = self._known.get(digest, (None, -_FRESH_SECONDS))
        if monotonic() - asked_at < _FRESH_SECONDS:
            return known
        asking = self._asking.get(digest) or self._ask(digest)
        if known is not None and self._away:  # nobody waits for a database that was away a moment ago
            return known
        try:
            return await asyncio.shield(asking)
        except StorageUnavailableError:
            if known is None:
                raise
            return known

    def _ask(self, digest: bytes) -> asyncio.Task[ApiKey | None]:
        task = asyncio.get_running_loop().create_task(self._look_up(digest))
        self._asking[digest] = task
        task.add_done_callback(lambda done: self._asked(digest, done))
        return task

    async def _look_up(self, digest: bytes) -> ApiKey | None:
        try:
            found = await within(_PATIENCE, _stored(digest))
        except TimeoutError:
            self._away = True
            raise StorageUnavailableError("the database", "it did not answer in time") from None
        except StorageUnavailableError:
            self._away = True
            raise
        self._away = False
        if len(self._known) >= _MOST_KNOWN:
            good = {digest: one for digest, one in self._known.items() if one[0] is not None}
            self._known = good if len(good) < _MOST_KNOWN else {}  # guesses do not drive out keys
        self._known[digest] = (found, monotonic())
        return found

    def _asked(self, digest: bytes, task: asyncio.Task[ApiKey | None]) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # whoever waited has it


async def _stored(digest: bytes) -> ApiKey | None:
    return await (await get_storage()).find_key(digest)


def _is_over(key: ApiKey) -> bool:
    return key.expires_at is not None and key.expires_at <= datetime.now(UTC)


def _named(name: str) -> str:
    text = checked_id(name, "name").strip()
    if not 0 < len(text) <= _LONGEST:
        raise InvalidArgumentError(f"Give the key a name that says who uses it, in {_LONGEST} characters at most.")
    return text


def _scopes(scopes: Sequence[str]) -> tuple[Scope, ...]:
    wanted = tuple(scope for scope in SCOPES if scope in scopes)
    if not wanted or len(wanted) < len(set(scopes)):
        raise InvalidArgumentError(f"A key's scopes are one or more of {', '.join(SCOPES)}.")
    return wanted
