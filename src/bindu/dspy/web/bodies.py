"""The body of a request, read up to a limit."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from bindu.dspy.web.problems import Problem

__all__ = ["read_body"]


async def read_body(request: Request, most: int) -> bytes:
    """The whole body. Raises Problem, 413, as soon as it is too large."""
    announced = request.headers.get("content-length", "")[:20]
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(most)
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise _too_large(most)
            parts.append(part)
    except ClientDisconnect:
        raise Problem(400, "invalid_request", "The request ended before its body did.") from None
    return b"".join(parts)


def _too_large(most: int) -> Problem:
    return Problem(413, "too_large", f"The body is larger than {most:,} bytes. Send less at once.")
