"""What guardrails read of a request: was it refused, and what did it cost."""

from __future__ import annotations

from math import inf, isfinite, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.guardrails import cost_of, is_refused
from samples import TALK, a_task

numbers = st.one_of(st.integers(), st.floats(), st.just(10**400), st.booleans(), st.none(), st.text(max_size=3))


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({}, False),
        ({"state": "failed"}, False),
        ({"state": "rejected"}, True),
        ({"history": []}, False),
        ({"history": [*TALK, {"role": "assistant", "content": None, "refusal": "I cannot help with that."}]}, True),
        ({"history": [*TALK, {"role": "assistant", "content": "Here you are.", "refusal": ""}]}, False),
        ({"history": [*TALK, {"role": "assistant", "content": "Here you are.", "refusal": None}]}, False),
        ({"history": [{"role": "assistant", "refusal": "No."}, *TALK]}, False),
        ({"history": [*TALK, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]}, True),
        ({"history": [*TALK, {"role": "assistant", "content": ["Yes.", {"type": "text", "text": "Sure."}]}]}, False),
        ({"usage": {"finish_reason": "content_filter"}}, True),
        ({"usage": {"finish_reason": "stop"}}, False),
    ],
)
def test_a_refusal_is_known_by_the_state_the_last_message_or_the_reason_to_stop(
    fields: dict[str, Any], refused: bool
) -> None:
    assert is_refused(a_task(**fields)) is refused


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (None, None),
        ({}, None),
        ({"total_tokens": 40}, 40.0),
        ({"cost": 0.002, "total_tokens": 40}, 0.002),
        ({"cost": 0, "total_tokens": 40}, 0.0),
        ({"cost": "0.002", "total_tokens": 40}, 40.0),
        ({"cost": -1, "total_tokens": 40}, 40.0),
        ({"cost": True}, None),
        ({"cost": nan, "total_tokens": inf}, None),
        ({"cost": 10**400, "total_tokens": 7}, 7.0),
    ],
)
def test_the_callers_cost_comes_before_tokens(usage: dict[str, Any] | None, cost: float | None) -> None:
    assert cost_of(usage) == cost


@given(st.fixed_dictionaries({}, optional={"cost": numbers, "total_tokens": numbers}))
def test_whatever_the_usage_says_a_cost_is_a_number_from_zero_up(usage: dict[str, Any]) -> None:
    cost = cost_of(usage)
    assert cost is None or (isinstance(cost, float) and isfinite(cost) and cost >= 0)
