"""What callers hand over becomes what we store, or a sentence that says what to hand over instead."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from bindu.dspy.errors import InvalidArgumentError, InvalidPromptError
from bindu.dspy.models import DIGITS, MACHINES

__all__ = [
    "EVERY_AGENT",
    "as_uuid",
    "check_limit",
    "checked_actor",
    "checked_id",
    "checked_own_id",
    "checked_share",
    "checked_time",
    "is_storable",
    "optional_id",
    "shown",
]

EVERY_AGENT = "*"  # in keys and in the audit trail

_LONGEST_NUMBER = 128  # bits: any id that is a number
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)  # ids of version 7 count from here
_LAST = datetime(2500, 1, 1, tzinfo=UTC)  # in nanoseconds, 64 bits end soon after


def shown(value: object) -> str:
    """A value in an error message: at most 40 characters, and no number too long for Python to print."""
    if isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER:
        return "a huge number"
    return f"{value!r:.40}" if isinstance(value, str | int | float) else type(value).__name__


def is_storable(text: str) -> bool:
    """Whether PostgreSQL takes it as it is: without NUL and lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def checked_id(value: object, name: str) -> str:
    """The id as text; ``name`` is the argument's. Whole numbers and UUIDs are ids too.

    Raises InvalidArgumentError for other types, and for characters that cannot be stored: replaced, they would make
    one id of two.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | UUID) or shown(value) == "a huge number":
        raise InvalidArgumentError(f"{name} is a text, a whole number or a UUID, not {shown(value)}.")
    text = str(value)
    if not is_storable(text):
        raise InvalidArgumentError(
            f"{name} {shown(text)} holds a NUL character or a lone surrogate, which no database stores. Remove it."
        )
    return text


def checked_own_id(agent_id: str) -> str:
    """The id of one agent. Raises InvalidArgumentError for the one that keys and the audit trail have for all."""
    if agent_id == EVERY_AGENT:
        raise InvalidArgumentError(f"'{EVERY_AGENT}' means every agent, so none can be called that. Name it otherwise.")
    return agent_id


def checked_actor(value: object) -> str:
    """Who says so, for the audit trail. Raises InvalidArgumentError for who is in none of it."""
    who = checked_id(value, "actor")
    if who in MACHINES:
        raise InvalidArgumentError(
            f"'{who}' acts without being told, and is not audited. Name the person or the program that says so."
        )
    return who


def as_uuid(text: str) -> UUID | None:
    """The UUID that a text is, None for any other text."""
    try:
        return UUID(text)
    except ValueError:
        return None


def optional_id(value: object, name: str) -> str | None:
    """The id as text, None for None and for an empty text. Raises InvalidArgumentError as ``checked_id`` does."""
    return None if value is None else checked_id(value, name) or None


def checked_share(traffic: object) -> float:
    """A share of traffic in [0, 1], with as many decimals as two shares are compared by. Raises InvalidPromptError."""
    if isinstance(traffic, bool) or not isinstance(traffic, int | float) or not 0 <= traffic <= 1:
        raise InvalidPromptError(f"Traffic is a share between 0 and 1, not {shown(traffic)}.")
    return round(float(traffic), DIGITS)


def check_limit(limit: object, *, least: int = 0) -> None:
    """Raise InvalidArgumentError for a number of rows that cannot be."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not least <= limit < 2**63:
        raise InvalidArgumentError(f"A limit is a number of rows from {least} up, not {shown(limit)}.")


def checked_time(now: datetime | None) -> datetime | None:
    """Return the time as it is, None meaning the database's.

    Raises InvalidArgumentError for one without a zone and for one outside the years 1970 to 2499.
    """
    if now is None:
        return None
    if not isinstance(now, datetime):
        raise InvalidArgumentError(f"A time is a datetime with a time zone, not {type(now).__name__}.")
    if now.utcoffset() is None:
        raise InvalidArgumentError(f"{now.isoformat()} has no time zone. Use datetime.now(UTC), or add tzinfo to it.")
    if not _FIRST <= now < _LAST:
        raise InvalidArgumentError(f"{now.isoformat()} lies outside the years 1970 to 2499. Use datetime.now(UTC).")
    return now
