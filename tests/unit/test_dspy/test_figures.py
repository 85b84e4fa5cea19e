"""The tables below the sentence: every test that may decide is shown, and none that cannot."""

import pytest

from bindu.dspy.evidence import Evidence, standing
from bindu.dspy.insights.figures import test_sheet as sheet_of_tests
from bindu.dspy.policy import Goal, Policy

PER_GOAL = {
    "better": {"the candidate is better", "it is not better by 0.03"},
    "not_worse": {"the candidate is not worse by 0.02"},
}


@pytest.mark.parametrize("goal", PER_GOAL)
def test_a_goal_shows_the_tests_that_decide_it_and_not_the_other_goal_s(goal: Goal) -> None:
    shown = {
        row[0] for row in sheet_of_tests(standing(Evidence()), Policy(goal=goal, stated_gain="half the cost")).rows
    }
    for other, tests in PER_GOAL.items():
        assert [test in shown for test in sorted(tests)] == [other == goal] * len(tests)
    assert "it is worse" in shown
