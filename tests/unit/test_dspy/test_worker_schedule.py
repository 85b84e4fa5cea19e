"""The schedule: slots are known by the clock alone, and each is due once, however the clock goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.worker.schedule import checked_schedule, latest_slot, missed_slot, next_slot
from bindu.settings import SettingsError

SCHEDULES = st.sampled_from(
    ["0 2 * * *", "0 * * * *", "*/15 * * * *", "30 4 1 * *", "0 0 * * MON", "5,10 8-18 * * 1-5", "0 12 29 2 *"]
)
START = datetime(2024, 1, 1, tzinfo=UTC)
MOMENTS = st.timedeltas(timedelta(), timedelta(days=3000)).map(START.__add__)
STEPS = st.lists(st.timedeltas(timedelta(days=-3), timedelta(days=40)), min_size=1, max_size=30)


@given(SCHEDULES, MOMENTS)
def test_now_lies_between_the_latest_slot_and_the_next(schedule: str, now: datetime) -> None:
    latest, following = latest_slot(schedule, now), next_slot(schedule, now)
    assert latest <= now < following
    assert next_slot(schedule, latest) == following
    assert latest_slot(schedule, following) == following
    assert latest_slot(schedule, following - timedelta(microseconds=1)) == latest


@given(SCHEDULES, MOMENTS, st.integers(-12, 14))
def test_a_slot_does_not_depend_on_the_zone_that_now_is_told_in(schedule: str, now: datetime, hours: int) -> None:
    elsewhere = now.astimezone(timezone(timedelta(hours=hours)))
    assert latest_slot(schedule, elsewhere) == latest_slot(schedule, now)


@given(SCHEDULES, MOMENTS, STEPS)
def test_however_the_clock_jumps_no_slot_is_done_twice_and_the_latest_is_always_done(
    schedule: str, start: datetime, steps: list[timedelta]
) -> None:
    done, runs, now = latest_slot(schedule, start), [], start
    for step in steps:
        now += step
        slot = latest_slot(schedule, now)
        if done < slot:  # what a claim asks
            runs.append(slot)
            done = slot
        assert done >= slot
    assert runs == sorted(set(runs))
    assert len(runs) <= len(steps)  # of many that were missed, one is caught up with


@given(SCHEDULES, MOMENTS, st.timedeltas(timedelta(), timedelta(days=40)))
def test_a_slot_is_missed_when_its_grace_has_passed_and_not_before(
    schedule: str, last: datetime, passed: timedelta
) -> None:
    grace = timedelta(minutes=15)
    following = next_slot(schedule, last)
    missed = missed_slot(schedule, last, last + passed, grace=grace)
    assert (missed is not None) == (last + passed >= following + grace)
    assert missed is None or following <= missed <= last + passed - grace


def test_shortly_after_a_slot_the_ones_missed_before_it_still_count() -> None:
    now = datetime(2026, 11, 29, 10, 5, tzinfo=UTC)
    missed = missed_slot("0 * * * *", now - timedelta(days=2), now, grace=timedelta(minutes=15))
    assert missed == datetime(2026, 11, 29, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong", ["daily", "@daily", "* * * *", "0 0 2 * * *", "60 * * * *", "0 0 30 2 *", "0 24 * * *", "\x00 * * * *"]
)
def test_what_is_no_schedule_is_said_with_its_setting(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"DSPY__WORKER__TRAIN is .*five fields"):
        checked_schedule(wrong, "DSPY__WORKER__TRAIN")


def test_an_empty_schedule_switches_a_job_off() -> None:
    assert checked_schedule("  ", "DSPY__WORKER__TRAIN") == ""
    assert checked_schedule(" 0  2 * * * ", "DSPY__WORKER__TRAIN") == "0  2 * * *"
