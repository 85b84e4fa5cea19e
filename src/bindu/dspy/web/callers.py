"""Who is calling, and whether they may: a key, a feedback token, or nobody but this machine itself."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from starlette.requests import HTTPConnection

from bindu.dspy.access import KEY_PREFIX, KeyRing, digest_of, is_for, may
from bindu.dspy.headers import KEY
from bindu.dspy.housekeeping import ApiKey, Scope
from bindu.dspy.web.problems import Problem
from bindu.dspy.web.tokens import PREFIX, Grant, read_feedback_token
from bindu.settings import ServerSettings, SettingsError

__all__ = ["Callers", "is_local", "is_ours", "presented_key", "presented_token"]

_FORWARDED: Final = {"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"}
_OUR_NAMES: Final = {"localhost", "127.0.0.1", "::1"}

_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


class Callers:
    """One process's view: its keys, and who asked how often. Raises SettingsError for limits that cannot be read."""

    def __init__(self, settings: ServerSettings) -> None:
        self._keys = KeyRing()
        self._require_key = settings.require_key
        self._limit = _rate(settings.rate_limit, "RATE_LIMIT")
        self._token_limit = _rate(settings.browser_rate_limit, "BROWSER_RATE_LIMIT")
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._token_limiter = FixedWindowRateLimiter(MemoryStorage())  # of its own: it looks through all that it holds

    async def admit(self, request: HTTPConnection, *, by_token: bool = False) -> Grant | None:
        """Before anything is read: raise Problem for too many requests, and for strangers without a key.

        Where a feedback token is enough, what it allows is returned, if there is one.
        """
        address = f"address {_address(request)}"
        token = presented_token(request) if by_token else None
        if token is not None:
            await self._count(self._token_limit, address)  # as long as nobody knows that it is good
            return await self._granted(token)
        await self.count(request)
        if presented_key(request) is None:
            self._check_local(request)
        return None

    async def count(self, request: HTTPConnection, *, session: bytes | None = None) -> None:
        """Raise Problem for too many requests with a known key, else of one session, else from one address."""
        key, who = presented_key(request), f"address {_address(request)}"
        if key is not None and self._keys.knows(key):  # or each guess would have a limit of its own
            who = f"key {key}"
        elif key is None and session is not None:
            who = f"session {session.hex()}"
        await self._count(self._limit, who)

    async def key_by(self, digest: bytes) -> ApiKey | None:
        """The key with that digest, None for a wrong, a revoked and an expired one."""
        return await self._keys.find_by(digest)

    def needs_no_key(self, request: HTTPConnection) -> bool:
        """Whether it comes from this machine, and that is enough."""
        return not self._require_key and is_local(request)

    async def authorise(self, request: HTTPConnection, scope: Scope, agent_id: str | None) -> None:
        """Raise Problem unless the caller may do that for the agent, None meaning for any one."""
        text = presented_key(request)
        if text is None:
            self._check_local(request)  # asked again, as this one decides
            return
        key = await self._keys.find(text)
        if key is None or (agent_id is not None and not is_for(key, agent_id)):
            whom = "" if agent_id is None else f", or not one for agent '{agent_id}'"
            raise Problem(401, "invalid_key", f"The API key is wrong{whom}.", _CHALLENGE)
        if not may(key, scope):
            raise Problem(403, "missing_scope", f"The API key '{key.name}' lacks the scope {scope}.")

    def _check_local(self, request: HTTPConnection) -> None:
        if not self.needs_no_key(request):
            raise Problem(401, "missing_key", "This needs an API key: 'Authorization: Bearer bindu_...'.", _CHALLENGE)

    async def _granted(self, token: str) -> Grant:
        grant = await read_feedback_token(token)
        await self._count(self._token_limit, f"rater {grant.agent_id} {grant.rater_id or grant.task_id}")
        return grant

    async def _count(self, limit: RateLimitItem, who: str) -> None:
        limiter = self._token_limiter if limit is self._token_limit else self._limiter
        if not await limiter.hit(limit, digest_of(who).hex()):
            wait = {"Retry-After": str(limit.get_expiry())}
            raise Problem(429, "too_many_requests", f"More than {limit}. Wait a little, then try again.", wait)


def _rate(text: str, name: str) -> RateLimitItem:
    try:
        return parse(text)
    except ValueError:
        raise SettingsError(f"DSPY__SERVER__{name} is '{text}'. Write it like 3000/second or 60/minute.") from None


def presented_key(request: HTTPConnection) -> str | None:
    """A key of ours, right or wrong; what is not of our form is somebody else's, such as a provider's."""
    own = request.headers.get(KEY)
    if own is not None:
        return own
    bearer = _bearer(request)
    return bearer if bearer is not None and bearer.startswith(KEY_PREFIX) else None


def presented_token(request: HTTPConnection) -> str | None:
    """A feedback token, right or wrong."""
    bearer = _bearer(request)
    return bearer if bearer is not None and bearer.startswith(PREFIX) else None


def is_ours(authorization: str) -> bool:
    """Whether a header holds a key or a token of ours, which are no provider's business."""
    kind, _, value = authorization.partition(" ")
    return kind.lower() == "bearer" and value.strip().startswith((KEY_PREFIX, PREFIX))


def is_local(request: HTTPConnection) -> bool:
    """Whether a program on this machine asks, and neither a reverse proxy nor a web page that a browser shows."""
    headers = request.headers
    if request.client is None or not _is_loopback(request.client.host):
        return False
    if any(name in _FORWARDED or name.startswith("x-forwarded-") for name in headers):
        return False
    if request.scope.get("http_version") == "1.0" or headers.get("sec-fetch-site") == "cross-site":
        return False  # version 1.0 is what nginx speaks, and forwards nothing, unless it is told otherwise
    host, origin = headers.get("host", ""), headers.get("origin")
    return _is_ours(f"//{host}") and (origin is None or origin.partition("//")[2] == host)


def _is_ours(url: str) -> bool:
    try:
        return urlsplit(url).hostname in _OUR_NAMES
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _address(request: HTTPConnection) -> str:
    """What is counted as one caller: of version 6 the network, as anybody has all addresses of one."""
    host = "" if request.client is None else request.client.host
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return host if address.version == 4 else address.packed[:8].hex()  # noqa: PLR2004


def _bearer(request: HTTPConnection) -> str | None:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else None
