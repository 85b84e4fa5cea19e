"""The synchronous core of the selector: from a snapshot to an answer, without I/O."""

from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.models import Prompt, Serving
from bindu.dspy.prompt_selector import Snapshot

ACTIVE = Prompt(agent_id="support", id=1, text="You help.", status="active", traffic=0.9)
CANDIDATE = Prompt(agent_id="support", id=2, text="You help well.", status="candidate", traffic=0.1)
SERVING = Serving(agent_id="support", version=2, active=ACTIVE, candidate=CANDIDATE, share=0.1, experiment_id=1)
SNAPSHOT = Snapshot(SERVING, {"active": {"id": 1}, "candidate": {"id": 2}})


@given(st.none() | st.text(min_size=1), st.floats(0, 1, exclude_max=True))
def test_an_answer_names_its_unit_and_is_the_callers_own(unit: str | None, draw: float) -> None:
    first, second = SNAPSHOT.choose(unit, draw), SNAPSHOT.choose(unit, draw)
    assert first == second
    assert first is not None
    assert first["unit_id"] == unit
    first["id"] = 99
    assert SNAPSHOT.choose(unit, draw) == second


def test_before_bootstrap_there_is_nothing_to_choose() -> None:
    assert Snapshot(None, {}).choose("unit", 0.0) is None
