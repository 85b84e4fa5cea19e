"""The provider behind the proxy, over HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from starlette.datastructures import Headers
from yarl import URL

from bindu.dspy.headers import CONVERSATION_ID, KEY, PROMPT_NAME
from bindu.dspy.web.callers import is_ours
from bindu.dspy.web.problems import Problem
from bindu.settings import ProxySettings

__all__ = ["Upstream", "passed_on"]

_CONNECTION: Final = ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host")
_HOP: Final = frozenset(
    (*_CONNECTION, "proxy-authenticate", "proxy-authorization", "content-length", "accept-encoding", "expect")
)
_KEPT_FROM_CALLERS: Final = _HOP - {"content-length"} | {"date"}  # the server dates what it sends
_OURS: Final = frozenset((*map(str.lower, (KEY, PROMPT_NAME, CONVERSATION_ID)), "cookie"))
_CONNECT_SECONDS: Final = 10.0


class Upstream:
    """One provider; ``connected`` opens and closes its connections."""

    def __init__(self, settings: ProxySettings) -> None:
        self._base = settings.upstream.rstrip("/")
        self._place = re.sub(r"//[^/]*@", "//", self._base)  # without a password
        self._key = settings.upstream_key
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=settings.timeout)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        async with aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            self._session = session
            yield
        self._session = None

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, query: str, headers: Headers, body: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request on. Raises Problem, 502 or 504, when the provider cannot be reached or says nothing."""
        if self._session is None:
            raise Problem(503, "not_started", "The proxy is starting or stopping. Try again in a moment.")
        url = URL(f"{self._base}/{path}{'?' if query else ''}{query}", encoded=True)
        try:
            response = await _sent(self._session, method, url, self._headers(headers), body)
        except TimeoutError:
            raise Problem(504, "upstream_timeout", f"The provider at {self._place} did not answer in time.") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise Problem(502, "upstream_unreachable", f"The provider at {self._place} failed: {error}.") from None
        async with response:
            yield response

    def _headers(self, headers: Headers) -> list[tuple[str, str]]:
        """The caller's, with our own key if one is set. Plain text comes back, so that it can be recorded."""
        kept = [(name, value) for name, value in headers.items() if name not in _HOP | _OURS]
        if self._key is not None or is_ours(headers.get("authorization", "")):
            kept = [(name, value) for name, value in kept if name != "authorization"]
        if self._key is not None:
            kept.append(("authorization", f"Bearer {self._key.get_secret_value()}"))
        return [*kept, ("accept-encoding", "identity")]


async def _sent(
    session: aiohttp.ClientSession, method: str, url: URL, headers: list[tuple[str, str]], body: bytes | None
) -> aiohttp.ClientResponse:
    """Once more when it was the connection: the provider may have closed one that was kept, and read nothing."""
    try:
        return await session.request(method, url, headers=headers, data=body, allow_redirects=False)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        return await session.request(method, url, headers=headers, data=body, allow_redirects=False)


def passed_on(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """The provider's headers without those that belong to its connection."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers
        if name.lower() not in _KEPT_FROM_CALLERS
    ]
