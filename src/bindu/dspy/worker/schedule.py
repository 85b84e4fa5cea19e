"""When jobs are due: five fields of a crontab, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cronsim import CronSim, CronSimError

from bindu.settings import SettingsError

__all__ = ["checked_schedule", "latest_slot", "missed_slot", "next_slot"]

_FIELDS: Final = 5
_SECOND: Final = timedelta(seconds=1)
_ANY_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)


def latest_slot(schedule: str, now: datetime) -> datetime:
    """The last scheduled time that is not after ``now``."""
    return next(CronSim(schedule, now.astimezone(UTC).replace(microsecond=0) + _SECOND, reverse=True))


def next_slot(schedule: str, now: datetime) -> datetime:
    """The first scheduled time after ``now``."""
    return next(CronSim(schedule, now.astimezone(UTC)))


def missed_slot(schedule: str, last: datetime | None, now: datetime, *, grace: timedelta) -> datetime | None:
    """The latest scheduled time that passed more than ``grace`` ago, if it is after ``last``, the slot that was run."""
    slot = latest_slot(schedule, now - grace)
    return slot if last is None or last < slot else None


def checked_schedule(text: str, setting: str) -> str:
    """The schedule, empty for a job that is switched off. Raises SettingsError for one that is none."""
    schedule = text.strip()
    if not schedule or _is_schedule(schedule):
        return schedule
    raise SettingsError(
        f"{setting} is '{schedule}', which is no schedule. Write five fields as in a crontab, such as '0 2 * * *' for "
        "every day at 02:00 UTC, or nothing to switch the job off."
    )


def _is_schedule(text: str) -> bool:
    try:
        next_slot(text, _ANY_TIME)
    except (CronSimError, StopIteration):  # such as the 30th of February
        return False
    return len(text.split()) == _FIELDS
