"""The caller's clock."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.clock import checked_time
from bindu.dspy.errors import BinduError

zones = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))


@given(st.none() | st.datetimes(timezones=zones))
def test_a_time_with_its_zone_is_taken_as_it_is(now: datetime | None) -> None:
    assert checked_time(now) is now


@given(st.datetimes())
def test_a_time_without_a_zone_is_refused_with_what_to_do(now: datetime) -> None:
    with pytest.raises(ValueError, match=r"Use datetime\.now\(UTC\)") as refused:
        checked_time(now)
    assert isinstance(refused.value, BinduError)
    assert checked_time(now.replace(tzinfo=UTC)) is not None
