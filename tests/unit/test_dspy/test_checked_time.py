"""The caller's clock."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.arguments import checked_time
from bindu.dspy.errors import BinduError, InvalidArgumentError

zones = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))


FIRST, LAST = (
    datetime(1970, 1, 2, tzinfo=UTC).replace(tzinfo=None),
    datetime(2499, 12, 30, tzinfo=UTC).replace(tzinfo=None),
)
BEFORE, AFTER = FIRST - timedelta(days=3), LAST + timedelta(days=3)  # in every zone


@given(st.none() | st.datetimes(FIRST, LAST, timezones=zones))
def test_a_time_with_its_zone_is_taken_as_it_is(now: datetime | None) -> None:
    assert checked_time(now) is now


@given(st.datetimes(max_value=BEFORE, timezones=zones) | st.datetimes(min_value=AFTER, timezones=zones))
def test_a_time_that_no_id_can_have_is_refused(now: datetime) -> None:
    with pytest.raises(InvalidArgumentError, match="outside the years 1970 to 2499"):
        checked_time(now)


def test_what_is_no_time_is_refused_by_its_type() -> None:
    with pytest.raises(InvalidArgumentError, match="not str"):
        checked_time("2026-03-01")  # type: ignore[arg-type]


@given(st.datetimes(FIRST, LAST))
def test_a_time_without_a_zone_is_refused_with_what_to_do(now: datetime) -> None:
    with pytest.raises(ValueError, match=r"Use datetime\.now\(UTC\)") as refused:
        checked_time(now)
    assert isinstance(refused.value, BinduError)
    assert checked_time(now.replace(tzinfo=UTC)) is not None
