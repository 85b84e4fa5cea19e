"""The caller's clock: what a service takes as ``now``."""

from __future__ import annotations

from datetime import datetime

from bindu.dspy.errors import InvalidArgumentError

__all__ = ["checked_time"]


def checked_time(now: datetime | None) -> datetime | None:
    """Return the time as it is, None meaning the database's. Raises InvalidArgumentError for one without a zone."""
    if now is not None and now.utcoffset() is None:
        raise InvalidArgumentError(f"{now.isoformat()} has no time zone. Use datetime.now(UTC), or add tzinfo to it.")
    return now
