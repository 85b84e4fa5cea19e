"""Values that browsers keep for us: readable by anybody, made by nobody else, each for one purpose and some time."""

from __future__ import annotations

from hashlib import sha256
from time import time
from typing import Any, Final

from itsdangerous import BadData, URLSafeSerializer

from bindu.dspy.access import EVERY_AGENT
from bindu.dspy.web.tokens import signing_secret

__all__ = ["seal", "unseal"]

_LONGEST: Final = 1_000  # characters


async def seal(purpose: str, value: list[str], *, seconds: float) -> str:
    """The value, signed by the secret of agent ``*``, good for so long."""
    return str((await _serializer(purpose)).dumps([int(time() + seconds), *value]))


async def unseal(purpose: str, text: str) -> list[str] | None:
    """The value that was sealed for that purpose; None for a forged, a damaged and an expired one."""
    if len(text) > _LONGEST:
        return None
    try:
        found: Any = (await _serializer(purpose)).loads(text)
    except (BadData, ValueError, RecursionError):
        return None
    match found:
        case [int(expires_at), *value] if expires_at > time():
            return value
        case _:
            return None


async def _serializer(purpose: str) -> URLSafeSerializer:
    secret = await signing_secret(EVERY_AGENT, create=True)
    salt = f"bindu.dashboard.{purpose}"
    return URLSafeSerializer(secret or b"", salt=salt, signer_kwargs={"digest_method": sha256})
