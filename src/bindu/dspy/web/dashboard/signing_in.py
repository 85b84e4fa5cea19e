"""Sign in with an API key, and out again."""

from __future__ import annotations

import re
import secrets
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bindu.dspy.access import digest_of, may
from bindu.dspy.web.callers import Callers
from bindu.dspy.web.dashboard.forms import HOME, check_same_origin, own_path, read_form
from bindu.dspy.web.dashboard.rendering import page
from bindu.dspy.web.dashboard.sealed import seal, unseal
from bindu.dspy.web.dashboard.sessions import SIGN_IN, Sessions, read_cookie
from bindu.dspy.web.dashboard.wrapping import as_page
from bindu.dspy.web.labels import LabelledRoute

__all__ = ["SignIn"]

_NO_STORE: Final = {"Cache-Control": "no-store"}
_NONCE_BYTES: Final = 16
_BROWSER: Final = re.compile(r"[A-Za-z0-9_-]{22}")


class SignIn:
    """Its form is bound to a cookie of its own, or another site could sign a browser in as somebody else."""

    def __init__(self, sessions: Sessions, callers: Callers) -> None:
        self._sessions = sessions
        self._callers = callers

    def routes(self) -> list[LabelledRoute]:
        """The page with the form, what the form is sent to, and the way out."""
        return [
            LabelledRoute(SIGN_IN, as_page(self.show), methods=["GET"]),
            LabelledRoute(SIGN_IN, as_page(self.sign_in), methods=["POST"]),
            LabelledRoute(f"{HOME}/sign-out", as_page(self.sign_out), methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        await self._callers.count(request)
        return await self._form(request, request.query_params.get("next"))

    async def sign_in(self, request: Request) -> Response:
        check_same_origin(request)
        await self._callers.count(request)  # as a guess of a key is
        form = await read_form(request)
        wanted, text = form.get("next"), form.get("key", "").strip()
        browser = read_cookie(request, "sign_in")
        if not browser or await unseal(f"sign in {browser}", form.get("form_token", "")) is None:
            return await self._form(request, wanted, "This page was too old. Send the key once more.", status=403)
        key = await self._callers.key_by(digest_of(text))
        if key is None:
            return await self._form(request, wanted, "No key of ours, or one that was revoked or expired.", status=401)
        if not may(key, "view"):
            lacks = f"The key '{key.name}' may not look: it has neither the scope view nor operate nor admin."
            return await self._form(request, wanted, lacks, status=403)
        answer = RedirectResponse(own_path(wanted) or HOME, 303, _NO_STORE)
        await self._sessions.begin(request, answer, text)
        self._sessions.set_cookie(request, answer, "sign_in", "")
        return answer

    async def sign_out(self, request: Request) -> Response:
        check_same_origin(request)
        visitor = await self._sessions.visitor(request, None)
        await self._sessions.check_form(visitor.session, (await read_form(request)).get("form_token", ""))
        answer = RedirectResponse(SIGN_IN, 303, _NO_STORE)
        self._sessions.set_cookie(request, answer, "session", "")
        return answer

    async def _form(self, request: Request, wanted: str | None, error: str = "", *, status: int = 200) -> Response:
        browser = read_cookie(request, "sign_in")
        if not _BROWSER.fullmatch(browser):  # or another tab's form would be too old
            browser = secrets.token_urlsafe(_NONCE_BYTES)
        token = await seal(f"sign in {browser}", [secrets.token_urlsafe(_NONCE_BYTES)], seconds=self._sessions.seconds)
        shown = {
            "error": error,
            "form_token": token,
            "next": own_path(wanted) or HOME,
            "is_from_elsewhere": request.headers.get("sec-fetch-site") == "cross-site",
        }
        answer = page("sign_in.html", shown, status=status)
        self._sessions.set_cookie(request, answer, "sign_in", browser)
        return answer
