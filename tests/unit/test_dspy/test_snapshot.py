"""The synchronous core of the selector: from a snapshot to an answer, without I/O."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.models import Arm, Prompt, Serving
from bindu.dspy.prompt_selector import Snapshot

ACTIVE = Prompt(agent_id="support", id=1, text="You help.", status="active", traffic=0.9)
CANDIDATE = Prompt(agent_id="support", id=2, text="You help well.", status="candidate", traffic=0.1)
SERVING = Serving(agent_id="support", version=2, active=ACTIVE, candidate=CANDIDATE, share=0.1, experiment_id=1)
ANSWERS: dict[Arm, dict[str, Any]] = {"active": {"id": 1}, "candidate": {"id": 2}}
SNAPSHOT = Snapshot(SERVING, ANSWERS)


@given(st.none() | st.text(min_size=1), st.floats(0, 1, exclude_max=True))
def test_an_answer_names_its_unit_and_is_the_callers_own(unit: str | None, draw: float) -> None:
    first, second = SNAPSHOT.choose(unit, draw), SNAPSHOT.choose(unit, draw)
    assert first == second
    assert first is not None
    assert first["unit_id"] == unit
    first["id"] = 99
    assert SNAPSHOT.choose(unit, draw) == second


@given(st.lists(st.text(min_size=1), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_rollback_moves_every_unit_at_once_also_those_that_were_pinned(
    asked: list[str], share: float, lower: float
) -> None:
    trial = Snapshot(replace(SERVING, share=share), ANSWERS)
    before = [trial.choose(unit, 0.0) for unit in asked]
    stepped = Snapshot(replace(SERVING, version=3, share=min(share, lower)), ANSWERS)
    fresh = Snapshot(replace(SERVING, version=3, share=min(share, lower)), ANSWERS)
    ended = Snapshot(replace(SERVING, version=4, candidate=None, share=0.0, experiment_id=None), ANSWERS)
    assert len(trial.pins) == len(set(asked))
    assert [trial.choose(unit, 0.0) for unit in asked] == before
    assert [stepped.choose(unit, 0.0) for unit in asked] == [fresh.choose(unit, 0.0) for unit in asked]
    assert {(ended.choose(unit, 0.0) or {})["id"] for unit in asked} == {1}


def test_a_promotion_moves_every_unit_to_the_new_active_prompt() -> None:
    trial = Snapshot(SERVING, ANSWERS)
    for number in range(100):
        trial.choose(f"unit-{number}", 0.0)
    promoted = Snapshot(replace(SERVING, version=3, active=CANDIDATE, candidate=None), {"active": {"id": 2}})
    assert {(promoted.choose(f"unit-{number}", 0.0) or {})["id"] for number in range(100)} == {2}


def test_before_bootstrap_there_is_nothing_to_choose() -> None:
    assert Snapshot(None, {}).choose("unit", 0.0) is None
