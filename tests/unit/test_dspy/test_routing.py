"""Assignment: stable, monotone, fair and independent."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.models import Arm, Prompt, Serving
from bindu.dspy.routing import arm_of, salt_of, select

shares = st.floats(0, 1)
units = st.text(st.characters(), max_size=80)
IDS = [f"conversation-{number}" for number in range(100_000)]


def serving(share: float, experiment_id: int | None = 1, agent_id: str = "support") -> Serving:
    def prompt(number: int, status: str, traffic: float) -> Prompt:
        return Prompt(agent_id=agent_id, id=number, text="You help.", status=status, traffic=traffic)

    candidate = prompt(2, "candidate", share) if experiment_id is not None else None
    return Serving(
        agent_id=agent_id,
        version=2,
        active=prompt(1, "active", 1 - share),
        candidate=candidate,
        share=share,
        experiment_id=experiment_id,
    )


@given(units, st.integers(1, 50), shares, shares)
def test_raising_the_share_never_takes_the_candidate_from_a_unit(
    unit: str, experiment: int, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    salt = salt_of("support", experiment)
    if arm_of(unit, salt, low) == "candidate":
        assert arm_of(unit, salt, high) == "candidate"


@given(units, st.integers(1, 50))
def test_nobody_sees_a_candidate_at_zero_and_everybody_at_one(unit: str, experiment: int) -> None:
    salt = salt_of("support", experiment)
    assert arm_of(unit, salt, 0.0) == "active"
    assert arm_of(unit, salt, 1.0) == "candidate"


@given(units, shares, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_unit_gets_one_arm_whatever_is_drawn(unit: str, share: float, one: float, other: float) -> None:
    assert select(serving(share), unit, one) == select(serving(share), unit, other)


@given(shares, st.floats(0, 1, exclude_max=True))
def test_a_call_without_a_unit_follows_its_draw(share: float, draw: float) -> None:
    assert (select(serving(share), None, draw) == "candidate") is (draw < share)


@given(units, st.floats(0, 1, exclude_max=True))
def test_without_an_experiment_everybody_sees_the_active_prompt(unit: str, draw: float) -> None:
    alone = serving(0.0, experiment_id=None)
    assert select(alone, unit, draw) == select(alone, None, draw) == "active"


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_of_a_million_units_is_within_three_sigma(share: float) -> None:
    salt, count = salt_of("support", 7), 1_000_000
    candidates = sum(arm_of(f"conversation-{number}", salt, share) == "candidate" for number in range(count))
    assert abs(candidates / count - share) < 3 * math.sqrt(share * (1 - share) / count)


def test_raising_the_share_moves_no_unit_of_a_million_out_of_the_candidate() -> None:
    low, high, full = (serving(share, experiment_id=3) for share in (0.1, 0.4, 1.0))
    seen = [unit for unit in map(str, range(1_000_000)) if select(low, unit, 0.0) == "candidate"]
    assert len(seen) > 99_000
    assert all(select(raised, unit, 0.0) == "candidate" for raised in (high, full) for unit in seen)


@given(st.lists(st.tuples(units, shares), max_size=30), shares)
def test_pins_change_no_arm(asked: list[tuple[str, float]], share: float) -> None:
    pins: dict[str, Arm] = {}
    for unit, draw in asked:
        assert select(serving(share), unit, draw, pins) == select(serving(share), unit, draw)
    assert set(pins) <= {unit for unit, _ in asked}


@given(units, shares, st.floats(0, 1, exclude_max=True))
def test_a_pinned_unit_is_not_placed_again(unit: str, share: float, draw: float) -> None:
    arm = select(serving(share), unit, draw)
    other: Arm = "active" if arm == "candidate" else "candidate"
    assert select(serving(share), unit, draw, {unit: other}) == other


def test_pins_stay_few_and_short() -> None:
    pins: dict[str, Arm] = {}
    for unit in IDS:
        select(serving(0.5), unit, 0.0, pins)
        assert len(pins) <= 10_000
    assert pins
    pins.clear()
    select(serving(0.5), "a" * 1_000_000, 0.0, pins)
    select(serving(0.5), None, 0.0, pins)
    assert not pins


def test_arms_of_two_experiments_and_of_two_agents_are_independent() -> None:
    first = [arm_of(unit, salt_of("support", 1), 0.5) == "candidate" for unit in IDS]
    for salt in (salt_of("support", 2), salt_of("sales", 1)):
        other = [arm_of(unit, salt, 0.5) == "candidate" for unit in IDS]
        together = sum(a and b for a, b in zip(first, other, strict=True)) / len(IDS)
        assert abs(together - 0.25) < 3 * math.sqrt(0.25 * 0.75 / len(IDS))


def test_an_agents_name_cannot_be_confused_with_anothers_experiment() -> None:
    assert salt_of("a1", 1).digest() != salt_of("a", 11).digest()


def test_the_assignment_of_a_unit_is_the_same_in_every_version() -> None:
    salt = salt_of("support", 1)
    arms = "".join(arm_of(f"unit-{number}", salt, 0.3)[0] for number in range(40))
    assert arms == "aaacaacacaaaaaaacaacacacaaaaccaccacaaacc"


def test_an_id_too_long_to_stay_in_memory_leaves_the_others_there() -> None:
    pins = {str(number): "active" for number in range(10_000)}
    select(serving(0.5), "a" * 300, 0.0, pins)  # type: ignore[arg-type]
    assert len(pins) == 10_000
