"""What frameworks are asked and answer, in their shapes."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace as Thing
from typing import Any

import pytest
from pydantic import BaseModel

from bindu.dspy.integrations.reading import answer_of, question_of

WHERE = [{"role": "user", "content": "Where?"}]


class Place(BaseModel):
    city: str


@dataclass
class Content:
    """As Google's: parts, and a role."""

    parts: list[Any]
    role: str = "user"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("Where?",), {}),
        ((Thing(name="an agent", role="Support"), "Where?"), {}),  # the runner comes before the question
        ((), {"input": "Where?", "session_id": "1"}),
        ((WHERE,), {}),
        (({"messages": WHERE},), {}),
        (({"messages": [("user", "Where?")]},), {"config": {"configurable": {"thread_id": "1"}}}),
        (({"messages": [Thing(type="human", content="Where?")]},), {}),
        ((), {"new_message": Content([Thing(text="Where?")])}),
        (([{"role": "user", "content": [{"type": "input_text", "text": "Where?"}]}],), {}),
        ((), {"inputs": {"question": "Where?"}}),
        ((), {"question": "Where?"}),
        ((), {"anything_else": "Where?"}),
    ],
)
def test_a_question_is_found_wherever_it_is_given(arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert question_of(arguments, named) == WHERE


def test_several_inputs_are_one_question_and_none_are_no_question() -> None:
    [message] = question_of((), {"city": "Rome", "day": "Monday"})
    assert message["content"] == "city: Rome\nday: Monday"
    for arguments in ((), (3,), ("  ",), ([],), ([1, 2],), ({"messages": []},)):
        assert question_of(arguments, {}) == []


def test_a_crew_tells_what_its_last_task_was() -> None:
    crew = Thing(tasks_output=[Thing(description="Find out."), Thing(description="Where?")])
    assert question_of((), {"inputs": {"topic": "parcels"}}, crew) == WHERE


@pytest.mark.parametrize(
    "result",
    [
        "There.",
        Thing(final_output="There."),
        Thing(output="There."),
        Thing(content="There."),
        Thing(content=[{"type": "text", "text": "There."}]),
        Thing(raw="There."),
        Thing(output_text="There.", output=[Thing(type="message")]),
        {"messages": [Thing(type="human", content="Where?"), Thing(type="ai", content="There.")]},
        [Thing(content=Content([Thing(text="There.")], "model")), Thing(content=Content([Thing(text=None)], "model"))],
        Thing(toDict=lambda: {"reasoning": "I looked.", "answer": "There."}),
    ],
)
def test_an_answer_is_found_wherever_it_is(result: object) -> None:
    assert answer_of(result) == "There."


def test_a_structured_answer_is_its_json_and_nothing_is_no_answer() -> None:
    assert answer_of(Thing(output=Place(city="Rome"))) == '{"city":"Rome"}'
    assert answer_of(Thing(output=42)) == "42"
    for result in (None, [], {}, Thing(), Thing(content=None), object()):
        assert answer_of(result) is None
