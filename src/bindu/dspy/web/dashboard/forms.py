"""What a browser sends with POST: read up to a limit, and only from a page of ours."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from bindu.dspy.web.bodies import read_body
from bindu.dspy.web.problems import Problem

__all__ = ["HOME", "check_same_origin", "is_secure", "own_path", "read_form"]

HOME: Final = "/dashboard"

_MOST_BYTES: Final = 64_000
_MOST_FIELDS: Final = 20
_LONGEST_PATH: Final = 2_000
_OWN: Final = re.compile(rf"{HOME}(?:[/?][\x21\x23-\x5b\x5d-\x7e]*)?")  # neither blanks, quotes nor backslashes


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to a proxy that says so."""
    said = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return request.url.scheme == "https" or said == "https"


def check_same_origin(request: Request) -> None:
    """Raise Problem for what a page of another site made the browser send."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin", "none") or (origin is not None and not _is_own(request, origin.lower())):
        raise Problem(
            403,
            "cross_site",
            "This came from a page of another site, and nothing was done. Load the page here and send it from there; "
            "a reverse proxy must pass the Host header on as it is.",
        )


def _is_own(request: Request, origin: str) -> bool:
    scheme, host = origin[: origin.find("://")], origin.partition("://")[2]
    is_weaker = scheme != "https" and is_secure(request)  # a page that anybody on the way can write
    return bool(host) and host == request.headers.get("host", "").lower() and not is_weaker


async def read_form(request: Request) -> dict[str, str]:
    """The fields of an URL-encoded form. Raises Problem for a larger one, for another kind, and for doubles."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "invalid_request", "This takes a form of a page of ours, and nothing else.")
    body = await read_body(request, _MOST_BYTES)
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Problem(422, "invalid_request", f"A form has {_MOST_FIELDS} fields at most.") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise Problem(422, "invalid_request", "A field of the form is given twice.")
    return fields


def own_path(text: str | None) -> str | None:
    """A page of ours to go to, None for whatever could lead elsewhere."""
    return text if text is not None and len(text) <= _LONGEST_PATH and _OWN.fullmatch(text) else None
