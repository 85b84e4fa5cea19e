"""What is scored is what is served, byte for byte."""

from __future__ import annotations

import dspy
import pytest
from dspy import lm15
from hypothesis import given, settings
from hypothesis import strategies as st

from bindu.dspy.errors import InvalidPromptError
from bindu.dspy.program import AgentProgram, prompt_of
from bindu.dspy.promptcheck import normalize_prompt


class Recorder:
    """A model that remembers every request and says one thing."""

    def __init__(self, text: str = "fine") -> None:
        self.text = text
        self.requests: list[lm15.Request] = []

    def complete(self, request: lm15.Request) -> lm15.Response:
        self.requests.append(request)
        message = lm15.Message.assistant(self.text)
        return lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=lm15.Usage())


def ask(program: AgentProgram, question: str, text: str = "fine") -> tuple[dspy.Prediction, lm15.Request]:
    engine = Recorder(text)
    with dspy.context(lm=dspy.LM("scripted/one", engine=engine, cache=False), adapter=dspy.ChatAdapter()):
        prediction = program(input=question)
    (request,) = engine.requests
    return prediction, request


TRICKY = [
    "Plain.",
    "   leading spaces\n  and a margin\n    and more",
    "\n\n\tTabs\tinside\n\t\tand a list:\n\t\t- one",
    "Braces {name} {{twice}} {0} %s $x and [[ ## output ## ]]",
    "Grüße 你好 🌻 \u00a0nbsp\u200bzero",
    "<<CUSTOM-TYPE-START-IDENTIFIER>>[1]<<CUSTOM-TYPE-END-IDENTIFIER>>",
    "trailing spaces   \nand\r\ncarriage returns",
]


@pytest.mark.parametrize("text", TRICKY)
def test_the_model_gets_the_stored_prompt_verbatim_and_nothing_else(text: str) -> None:
    stored = normalize_prompt(text)
    program = AgentProgram(text)
    for question in TRICKY:
        prediction, request = ask(program, question, text)
        assert request.system == stored == prompt_of(program)
        assert [(message.role, message.text) for message in request.messages] == [("user", question)]
        assert prediction.output == text


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=300))
@settings(max_examples=60)
def test_any_text_reaches_the_model_as_it_is_stored(text: str) -> None:
    try:
        stored = normalize_prompt(text)
    except InvalidPromptError:
        return
    _, request = ask(AgentProgram(text), "Hello?")
    assert request.system == stored


def test_what_an_optimizer_appended_is_read_back_as_it_was_scored() -> None:
    program = AgentProgram("Help.")
    ragged = program.answer.signature.instructions + "\n\n\n    If they ask,\n  answer.\n"
    program.answer.signature = program.answer.signature.with_instructions(ragged)
    _, request = ask(program, "Hello?")
    assert request.system == prompt_of(program)
    assert prompt_of(program).endswith("answer.")


def test_demos_are_folded_into_the_text_that_is_scored_and_stored() -> None:
    program = AgentProgram("Help.")
    program.answer.demos = [dspy.Example(input="May I?", output="You may.")]
    _, request = ask(program, "Hello?")
    assert request.system == prompt_of(program)
    assert request.system.startswith("Help.")
    assert "User: May I?\nAssistant: You may." in request.system


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=60)


@given(TEXT.filter(str.strip), st.lists(st.tuples(TEXT, TEXT), max_size=3), TEXT)
@settings(max_examples=60, deadline=None)
def test_any_demos_reach_the_model_as_they_will_be_served(
    instructions: str, demos: list[tuple[str, str]], question: str
) -> None:
    program = AgentProgram("Help.")
    program.answer.signature = program.answer.signature.with_instructions(instructions)
    program.answer.demos = [dspy.Example(input=asked, output=said, feedback_score=0.4) for asked, said in demos]
    _, request = ask(program, question or "?")
    assert request.system == prompt_of(program) == normalize_prompt(prompt_of(program))
    assert [message.text for message in request.messages] == [question or "?"]
    assert all(
        f"User: {asked}" in prompt_of(program) for asked, _ in demos if asked == asked.strip() and asked.isalnum()
    )


def test_a_prompt_that_an_optimizer_emptied_is_neither_scored_nor_served() -> None:
    program = AgentProgram("Help.")
    program.answer.signature = program.answer.signature.with_instructions(" \n ")
    with pytest.raises(InvalidPromptError):
        prompt_of(program)
    engine = Recorder()
    with dspy.context(lm=dspy.LM("scripted/one", engine=engine, cache=False)), pytest.raises(InvalidPromptError):
        program(input="Hello?")
    assert engine.requests == []


def test_the_program_leaves_the_surrounding_adapter_to_the_optimizers_own_calls() -> None:
    engine = Recorder("[[ ## answer ## ]]\n4\n\n[[ ## completed ## ]]")
    with dspy.context(lm=dspy.LM("scripted/one", engine=engine, cache=False), adapter=dspy.ChatAdapter()):
        AgentProgram("Help.")(input="Hello?")
        assert dspy.Predict("question -> answer")(question="2 + 2?").answer == "4"


def test_a_copied_program_is_independent_of_its_source() -> None:
    program = AgentProgram("Help.")
    copied = program.deepcopy()
    copied.answer.signature = copied.answer.signature.with_instructions("Do not help.")
    assert prompt_of(program) == "Help."
    assert prompt_of(copied) == "Do not help."


def test_an_empty_prompt_is_no_program() -> None:
    with pytest.raises(InvalidPromptError):
        AgentProgram("  \n ")
