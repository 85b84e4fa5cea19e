"""Who looks at the dashboard, and what they may see and do: a key, a browser signed in by one, or this machine."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bindu.dspy.access import digest_of, is_for, may
from bindu.dspy.housekeeping import ApiKey, Scope
from bindu.dspy.models import MACHINES
from bindu.dspy.web.callers import Callers, presented_key
from bindu.dspy.web.dashboard.forms import HOME, is_secure, own_path
from bindu.dspy.web.dashboard.sealed import seal, unseal
from bindu.dspy.web.problems import Problem
from bindu.settings import ServerSettings

__all__ = ["SIGN_IN", "Sessions", "SignInNeeded", "Visitor", "read_cookie", "to_sign_in"]

SIGN_IN: Final = f"{HOME}/sign-in"
LOCAL: Final = "local"

_NONCE_BYTES: Final = 16
_RESERVED: Final = {LOCAL, "person", "application", *MACHINES}  # names in the audit trail that no key may have there


class SignInNeeded(Exception):  # noqa: N818 - it is an answer: the way to the sign-in
    """Nobody that we know: no key, no session, and not this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Somebody that we know. ``name`` is who the decision log and the audit trail name."""

    name: str
    may_operate: bool
    signed_in: bool  # by a key
    form_token: str  # for the forms of one page
    key: ApiKey | None = field(default=None, repr=False)  # None is a browser on this machine
    session: str = field(default=LOCAL, repr=False)  # what the form token is bound to

    def check(self, agent_id: str | None, scope: Scope) -> None:
        """Raise Problem, 403, unless they may do that for the agent, None meaning for any one."""
        if self.key is None:
            return
        if agent_id is not None and not is_for(self.key, agent_id):
            raise Problem(403, "foreign_agent", f"The API key '{self.key.name}' is not for agent '{agent_id}'.")
        if not may(self.key, scope):
            raise Problem(403, "missing_scope", f"The API key '{self.key.name}' lacks the scope {scope}.")

    def sees(self, agent_id: str) -> bool:
        """Whether an agent's pages are theirs to read."""
        return self.key is None or (is_for(self.key, agent_id) and may(self.key, "view"))


class Sessions:
    """One process's view; the sessions themselves are in the browsers' cookies."""

    def __init__(self, settings: ServerSettings, callers: Callers) -> None:
        self._callers = callers
        self.seconds = settings.session_hours * 3600

    async def visitor(self, request: Request, agent_id: str | None, scope: Scope = "view") -> Visitor:
        """Who asks, once they may do that for the agent, None meaning for any one.

        Raises SignInNeeded for nobody that we know; Problem for a wrong key in the headers (401), a key without the
        scope or for another agent (403) and too many requests (429).
        """
        key, session = await self._known(request)
        token = await seal(f"form {session}", [secrets.token_urlsafe(_NONCE_BYTES)], seconds=self.seconds)
        found = Visitor(
            name=LOCAL if key is None else _audited(key.name),
            may_operate=key is None or may(key, "operate"),
            signed_in=key is not None,
            form_token=token,
            key=key,
            session=session,
        )
        found.check(agent_id, scope)
        return found

    async def check_form(self, session: str, token: str) -> None:
        """Raise Problem unless a page that was made for that session, or visitor, holds the token."""
        if await unseal(f"form {session}", token) is None:
            raise Problem(403, "stale_form", "This page is too old or not yours. Load it again, then send it again.")

    async def begin(self, request: Request, response: Response, key_text: str) -> None:
        """Let the browser remember, by a cookie, that it showed that key."""
        value = [digest_of(key_text).hex(), secrets.token_urlsafe(_NONCE_BYTES)]
        self.set_cookie(request, response, "session", await seal("session", value, seconds=self.seconds))

    def set_cookie(self, request: Request, response: Response, name: str, value: str) -> None:
        """Give the browser a cookie that only it and only pages of ours send back; an empty one deletes it."""
        response.set_cookie(
            _cookie(request, name),
            value,
            max_age=max(1, int(self.seconds)) if value else 0,
            path="/",
            secure=is_secure(request),
            httponly=True,
            samesite="strict",
        )

    async def _known(self, request: Request) -> tuple[ApiKey | None, str]:
        """The key that somebody shows or once showed, and what their forms are bound to."""
        text = presented_key(request)
        if text is not None:
            await self._callers.count(request)
            shown = await self._callers.key_by(digest_of(text))
            if shown is None:
                raise Problem(401, "invalid_key", "The API key is wrong.", {"WWW-Authenticate": "Bearer"})
            return shown, f"key {digest_of(text).hex()}"
        digest, session = await self._session(request)
        await self._callers.count(request, session=digest)
        key = None if digest is None else await self._callers.key_by(digest)
        if key is not None:
            return key, session
        if not self._callers.needs_no_key(request):
            raise SignInNeeded
        return None, LOCAL

    async def _session(self, request: Request) -> tuple[bytes | None, str]:
        cookie = read_cookie(request, "session")
        match await unseal("session", cookie) if cookie else None:
            case [str(digest), str(session)]:
                return bytes.fromhex(digest), f"session {session}"
            case _:
                return None, ""


def read_cookie(request: Request, name: str) -> str:
    """What ``Sessions.set_cookie`` gave, empty without it."""
    return request.cookies.get(_cookie(request, name), "")


def to_sign_in(request: Request) -> Response:
    """Send somebody to the sign-in, and from there back to the page they wanted; htmx is told to leave its page."""
    headers, is_part = request.headers, "hx-request" in request.headers
    wanted = str(request.url)
    if is_part or request.method not in ("GET", "HEAD"):
        wanted = headers.get("hx-current-url") or headers.get("referer", "")
    try:
        parts = urlsplit(wanted)
    except ValueError:
        parts = urlsplit("")
    back = own_path(parts._replace(scheme="", netloc="", fragment="").geturl()) or HOME
    where = f"{SIGN_IN}?{urlencode({'next': back})}"
    if is_part:
        return Response(status_code=401, headers={"HX-Redirect": where, "Cache-Control": "no-store"})
    return RedirectResponse(where, 303, {"Cache-Control": "no-store"})


def _audited(name: str) -> str:
    return f"key {name}" if name in _RESERVED or name.startswith("key ") else name


def _cookie(request: Request, name: str) -> str:
    """A site's subdomains cannot set a cookie of the first kind for it, which browsers take over TLS alone."""
    return f"{'__Host-' if is_secure(request) else ''}bindu_{name}"
