"""The tables below the sentence: every test that may decide is shown, and none that cannot."""

import io

import pytest
from rich.console import Console

from bindu.dspy.cli.figures import _tests
from bindu.dspy.evidence import Evidence, standing
from bindu.dspy.policy import Goal, Policy

PER_GOAL = {
    "better": {"the candidate is better", "it is not better by 0.03"},
    "not_worse": {"the candidate is not worse by 0.02"},
}


@pytest.mark.parametrize("goal", PER_GOAL)
def test_a_goal_shows_the_tests_that_decide_it_and_not_the_other_goal_s(goal: Goal) -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(_tests(standing(Evidence()), Policy(goal=goal, stated_gain="half the cost")))
    for other, tests in PER_GOAL.items():
        assert [test in out.getvalue() for test in sorted(tests)] == [other == goal] * len(tests)
    assert "it is worse" in out.getvalue()
