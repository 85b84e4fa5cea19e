"""What callers hand over: taken as it is, or refused in a sentence."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bindu.dspy.arguments import check_limit, checked_id, checked_share, is_storable, optional_id, shown
from bindu.dspy.errors import InvalidArgumentError, InvalidPromptError

numbers = st.integers(-(2**128) + 1, 2**128 - 1)
anything = st.none() | st.booleans() | st.floats() | st.binary() | st.lists(st.text()) | st.just(10**5000)


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])) | numbers | st.uuids())
def test_an_id_that_can_be_stored_is_its_text(value: str | int | UUID) -> None:
    assert checked_id(value, "unit_id") == str(value)


@given(anything)
def test_what_is_no_id_is_refused_by_the_argument_s_name(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^unit_id is a text, a whole number or a UUID"):
        checked_id(value, "unit_id")


@given(st.text(), st.sampled_from(["\x00", "\ud800", "\udfff"]), st.text())
def test_an_id_that_cannot_be_stored_is_refused(before: str, odd: str, after: str) -> None:
    with pytest.raises(InvalidArgumentError, match="NUL character or a lone surrogate"):
        checked_id(before + odd + after, "unit_id")


@given(st.text(st.characters()))
@example("\ud83d\ude00")
def test_storable_is_what_has_an_encoding_and_no_nul(text: str) -> None:
    try:
        text.encode()
        encodable = True
    except UnicodeEncodeError:
        encodable = False
    assert is_storable(text) == (encodable and "\x00" not in text)


def test_nobody_is_nobody_and_zero_is_somebody() -> None:
    assert [optional_id(value, "unit_id") for value in (None, "", 0)] == [None, None, "0"]


@given(st.floats(0, 1))
def test_a_share_has_nine_decimals_and_rounding_it_again_changes_nothing(traffic: float) -> None:
    share = checked_share(traffic)
    assert 0 <= share <= 1
    assert abs(share - traffic) <= 1e-9
    assert checked_share(share) == share


@pytest.mark.parametrize(
    "traffic", [None, "0.1", True, 10**400, pytest.param(-(10**5000), id="huge"), float("nan"), -1e-12, 1.1, [0.1]]
)
def test_what_is_no_share_is_refused(traffic: Any) -> None:
    with pytest.raises(InvalidPromptError, match="between 0 and 1"):
        checked_share(traffic)


@pytest.mark.parametrize("limit", ["5", float("nan"), 2.5, True, None, 0, -1, 2**63, pytest.param(10**5000, id="huge")])
def test_what_is_no_number_of_rows_is_refused(limit: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="from 1 up"):
        check_limit(limit, least=1)


@given(st.from_type(object) | anything | st.text())
def test_any_value_can_be_shown_in_a_line(value: object) -> None:
    assert len(shown(value)) <= 80
