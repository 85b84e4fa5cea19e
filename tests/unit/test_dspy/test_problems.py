"""What went wrong becomes a status that says what kind of thing it was."""

from __future__ import annotations

import pytest

from bindu.dspy import errors
from bindu.dspy.web.problems import problem_of


@pytest.mark.parametrize(
    "error",
    [
        errors.NoActivePromptError("shop"),
        errors.UnknownDecisionError("shop", 7),
        errors.UnknownPromptError("shop", 7),
        errors.UnknownRunError("shop", "7f"),
        errors.UnknownTaskError("shop", "7"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_there_is_not_is_not_found(error: errors.BinduError) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.kind, str(problem)) == (404, "not_found", str(error))


def test_what_is_wrong_with_what_was_sent_is_told() -> None:
    problem = problem_of(errors.AmbiguousRunError("7", []))
    assert (problem.status, problem.kind) == (422, "invalid_request")
