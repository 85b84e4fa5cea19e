"""Feedback tokens: what a browser may do without a key, which is to rate one answer, for some hours."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic, time
from typing import Final
from uuid import UUID

from itsdangerous import BadData, URLSafeSerializer

from bindu.dspy.arguments import checked_id, optional_id
from bindu.dspy.storage import agent_named, get_storage
from bindu.dspy.web.problems import Problem
from bindu.settings import app_settings

__all__ = ["PREFIX", "Grant", "feedback_token", "read_feedback_token", "signing_secret"]

PREFIX: Final = "fbt_"

_LONGEST: Final = 4_000  # characters
_SECRET_BYTES: Final = 32
_KNOWN_SECONDS: Final = 60.0
_MOST_KNOWN: Final = 1_000
_secrets: dict[str, tuple[bytes, float]] = {}

_FORGED = "The feedback token is not one of ours. Load the page again to get a new one."
_EXPIRED = "The feedback token has expired. Load the page again to get a new one."


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows: to rate this task as this rater."""

    agent_id: str
    task_id: str
    rater_id: str | None
    expires_at: int  # seconds since 1970


async def feedback_token(
    task_id: UUID | str | int,
    *,
    rater_id: UUID | str | int | None = None,
    hours: float | None = None,
    agent_id: str | None = None,
) -> tuple[str, Grant]:
    """Sign a token for a page that shows the answer; ``hours`` is DSPY__SERVER__TOKEN_HOURS by default."""
    lasting = app_settings.dspy.server.token_hours if hours is None else hours
    grant = Grant(
        agent_named(agent_id),
        checked_id(task_id, "task_id"),
        optional_id(rater_id, "rater_id"),
        int(time() + lasting * 3600),
    )
    secret = await (await get_storage()).signing_secret(grant.agent_id, secrets.token_bytes(_SECRET_BYTES))
    _secrets.pop(grant.agent_id, None)
    text = _serializer(secret or b"").dumps([grant.agent_id, grant.task_id, grant.rater_id, grant.expires_at])
    return PREFIX + str(text), grant


async def read_feedback_token(token: str) -> Grant:
    """What a token allows. Raises Problem, 401, for a forged, a damaged and an expired one."""
    text = token.removeprefix(PREFIX)
    if len(text) > _LONGEST or not (grant := _claimed(text)):
        raise _refused(_FORGED)
    secret = await signing_secret(grant.agent_id)
    if secret is None:
        raise _refused(_FORGED)
    try:
        _serializer(secret).loads(text)
    except BadData:
        raise _refused(_FORGED) from None
    if grant.expires_at <= time():
        raise _refused(_EXPIRED)
    return grant


def _claimed(text: str) -> Grant | None:
    """What it says, before anything is believed: only the agent's secret can tell."""
    try:
        _, claims = _serializer(b"unknown").loads_unsafe(text)
    except (BadData, ValueError, RecursionError):
        return None
    match claims:
        case [str(agent), str(task), str() | None as rater, int(expires_at)]:
            return Grant(agent, task, rater, expires_at)
        case _:
            return None


async def signing_secret(agent_id: str, *, create: bool = False) -> bytes | None:
    """What the agent's tokens are signed with, as it was a minute ago at most; None when there is none yet."""
    known = _secrets.get(agent_id)
    if known is not None and monotonic() - known[1] < _KNOWN_SECONDS:
        return known[0]
    proposed = secrets.token_bytes(_SECRET_BYTES) if create else None
    secret = await (await get_storage()).signing_secret(agent_id, proposed)
    if secret is not None:
        if len(_secrets) >= _MOST_KNOWN:
            _secrets.clear()
        _secrets[agent_id] = (secret, monotonic())
    return secret


def _serializer(secret: bytes) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt="bindu.feedback", signer_kwargs={"digest_method": sha256})


def _refused(message: str) -> Problem:
    return Problem(401, "invalid_token", message, {"WWW-Authenticate": "Bearer"})
