"""The caller's clock: what a service takes as ``now``."""

from __future__ import annotations

from datetime import UTC, datetime

from bindu.dspy.errors import InvalidArgumentError

__all__ = ["checked_time"]

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)  # ids of version 7 count from here
_LAST = datetime(2500, 1, 1, tzinfo=UTC)  # in nanoseconds, 64 bits end soon after


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
