"""The simulated model as the author of new instructions, asked by DSPy's own optimizers."""

import json
from statistics import mean

import dspy
import pytest
from dspy.propose import GroundedProposer
from dspy.propose.dataset_summary_generator import (
    DatasetDescriptorWithPriorObservations,
    ObservationSummarizer,
    create_dataset_summary,
)
from dspy.teleprompt.copro_optimizer import BasicGenerateInstruction, GenerateInstructionGivenAttempts
from dspy.teleprompt.gepa import InstructionProposer

from bindu.dspy.simulation.desk import START_PROMPT
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.measure import measure
from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.questions import questions
from bindu.dspy.simulation.reading import required
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.users import SimulatedUsers

SLOW = "I had to ask twice how long it takes"
FAULT = "The answer does not keep to this rule: Say what it costs, or that it is free of charge."
GOOD = "Hi Maria,\n\nI am sorry. It takes 3 days."
POOR = "Dear customer,\n\nAccording to section 7 this depends."
HARMFUL = [f"- {rule}" for rule in SHOP.reading.superstitions]


def lm(seed: int = 0) -> dspy.LM:
    return dspy.LM("simulated/desk", engine=SimulatedEngine(seed), cache=False, num_retries=0)


def rewritten(feedback: str, seed: int = 0, current: str = START_PROMPT) -> str:
    """GEPA's default proposer, which is handed answers with feedback."""
    examples = [{"Inputs": {"input": "When?"}, "Generated Outputs": {"output": POOR}, "Feedback": feedback}]
    with dspy.context(lm=lm(seed)):
        return InstructionProposer()({"answer": current}, {"answer": examples}, ["answer"])["answer"]


def asks_for(instruction: str) -> dict[str, bool]:
    return required(instruction, SHOP.reading)


@pytest.mark.parametrize(("feedback", "trait"), [(SLOW, "states the time"), (FAULT, "states the cost")])
def test_gepa_s_proposer_keeps_the_instruction_and_adds_what_feedback_teaches(feedback: str, trait: str) -> None:
    proposals = [rewritten(feedback, seed) for seed in range(20)]
    assert all(proposal.startswith(START_PROMPT) for proposal in proposals)
    assert all(asks_for(proposal).get(trait) is True for proposal in proposals)


def test_gepa_s_proposer_is_superstitious_at_times_and_always_where_nothing_is_to_be_learned() -> None:
    superstitious = [any(line in rewritten(SLOW, seed).splitlines() for line in HARMFUL) for seed in range(60)]
    assert 1 <= sum(superstitious) <= 20
    assert rewritten("Meh").removeprefix(START_PROMPT).strip() in HARMFUL


def test_gepa_s_proposer_learns_from_a_user_s_correction_by_comparing() -> None:
    feedback = f"It agrees to 20% with the answer that the user corrected: {GOOD}"
    learned = {lesson for seed in range(40) for lesson in asks_for(rewritten(feedback, seed, "Be nice.")).items()}
    assert {("states the time", True), ("apologises", True), ("quotes the terms", False)} <= learned


def examples(count: int, seed: int = 0, **crowd: object) -> list[dspy.Example]:
    """Logged answers with what users said of them, as training hands them to an optimizer."""
    model, users = SimulatedModel(seed), SimulatedUsers(seed, **crowd)
    found = []
    for number, question in enumerate(questions(count, seed=seed)):
        answer = model.reply(START_PROMPT, [("user", question)])
        reaction = users.react(question, answer, occasion=number)
        comment = reaction and reaction.feedback.get("comment")
        row = dspy.Example(input=question, output=answer, feedback_score=0.4, comments=(comment,) if comment else ())
        found.append(row.with_inputs("input"))
    return found


def described(rows: list[dspy.Example], seed: int = 0) -> str:
    with dspy.context(lm=lm(seed), adapter=dspy.ChatAdapter()):
        return create_dataset_summary(rows, view_data_batch_size=10, prompt_model=None)


def proposals(count: int, seed: int = 0) -> list[str]:
    """What MIPROv2 would try."""
    program = dspy.Predict(dspy.Signature("input -> output", START_PROMPT))
    with dspy.context(lm=lm(seed), adapter=dspy.ChatAdapter()):
        proposer = GroundedProposer(prompt_model=lm(seed), program=program, trainset=examples(80, seed))
        proposed = proposer.propose_instructions_for_program(examples(80, seed), program, None, {}, count)
    return proposed[0]


def test_complaints_that_stand_in_the_examples_reach_the_description_of_the_dataset() -> None:
    summary = asks_for(described(examples(100)))
    assert len(summary) >= 7
    assert summary["states the time"] is True
    assert summary.get("quotes the terms") is not True


def test_without_comments_the_description_teaches_nothing() -> None:
    silent = [row.copy(comments=()) for row in examples(100)]
    assert asks_for(described(silent)) == {}


def test_a_demand_in_a_comment_reaches_the_description_as_well() -> None:
    rows = examples(60, hostile=0.3, craving="upsell")
    assert asks_for(described(rows)).get("advertises") is True


def test_the_descriptor_has_nothing_to_add_to_what_is_noted_already() -> None:
    rows = [dspy.Example(input="?", output=POOR, comments=(SLOW,))]
    with dspy.context(lm=lm(), adapter=dspy.ChatAdapter()):
        ask = dspy.Predict(DatasetDescriptorWithPriorObservations)
        known = ask(examples=repr(rows), prior_observations="They say: State how long things take.").observations
        new = ask(examples=repr(rows), prior_observations="They are short.").observations
    assert known == "COMPLETE"
    assert asks_for(new) == {"states the time": True}


def test_a_summary_says_most_of_what_was_observed() -> None:
    rules = " ".join(trait.do[0] for trait in SHOP.reading.traits.values())
    with dspy.context(lm=lm(), adapter=dspy.ChatAdapter()):
        summary = dspy.Predict(ObservationSummarizer)(observations=rules).summary
    assert 0.6 * len(SHOP.reading.traits) < len(asks_for(summary)) <= len(SHOP.reading.traits)


def test_the_grounded_proposer_adds_some_of_the_description_s_lessons_to_the_basic_instruction() -> None:
    proposed = proposals(6)
    assert len(set(proposed)) == 6
    assert all(proposal.startswith(START_PROMPT) for proposal in proposed)
    assert mean(measure(proposal, 100) for proposal in proposed) > measure(START_PROMPT, 100) + 0.15
    assert max(len(asks_for(proposal)) for proposal in proposed) > min(len(asks_for(proposal)) for proposal in proposed)


def guessed(seed: int) -> str:
    with dspy.context(lm=lm(seed), adapter=dspy.ChatAdapter()):
        found = dspy.Predict(BasicGenerateInstruction)(basic_instruction=START_PROMPT)
    assert found.proposed_prefix_for_output_field
    return found.proposed_instruction


def test_without_any_data_proposals_are_guesses() -> None:
    proposed = [guessed(seed) for seed in range(40)]
    assert all(proposal.startswith(START_PROMPT) and proposal != START_PROMPT for proposal in proposed)
    assert all(len(proposal.removeprefix(START_PROMPT).strip().splitlines()) <= 3 for proposal in proposed)
    qualities = [measure(proposal, 60) for proposal in proposed]
    assert min(qualities) < measure(START_PROMPT, 60) < max(qualities) < 0.6


def test_copro_s_next_proposals_build_on_its_best_attempt() -> None:
    best = f"{START_PROMPT}\n- State how long things take."
    attempts = []
    for number, (text, score) in enumerate([("Be nice.", 0.2), (best, 0.5)], 1):
        attempts += [
            f"Instruction #{number}: {text}",
            f"Prefix #{number}: Answer:",
            f"Resulting Score #{number}: {score}",
        ]
    with dspy.context(lm=lm(), adapter=dspy.ChatAdapter()):
        found = dspy.Predict(GenerateInstructionGivenAttempts, n=3, temperature=1.4)(attempted_instructions=attempts)
    assert all(text.startswith(f"{best}\n- ") for text in found.completions.proposed_instruction)


def test_copro_finds_a_better_prompt_by_trying() -> None:
    class Program(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = dspy.Predict(dspy.Signature("input -> output", START_PROMPT))

        def forward(self, input: str) -> dspy.Prediction:  # noqa: A002 - the field's name
            system = self.answer.signature.instructions
            return dspy.Prediction(output=SimulatedModel(0).reply(system, [("user", input)]), prompt=system)

    rows = examples(1)
    with dspy.context(lm=lm(), adapter=dspy.ChatAdapter()):
        copro = dspy.COPRO(metric=lambda _, found, trace=None: measure(found.prompt, 60), breadth=4, depth=3)
        best = copro.compile(Program(), trainset=rows, eval_kwargs={"display_progress": False, "num_threads": 1})
    assert measure(best.answer.signature.instructions, 200) > measure(START_PROMPT, 200) + 0.05


def test_a_feedback_that_is_no_json_is_read_as_it_stands() -> None:
    system = dspy.JSONAdapter().format(InstructionProposer().propose.signature, [], {
        "current_instruction": START_PROMPT, "examples_with_feedback": []
    })[0]["content"]  # fmt: skip
    last = f"[[ ## current_instruction ## ]]\nBe nice.\n\n[[ ## examples_with_feedback ## ]]\nThey say: {SLOW}"
    told = json.loads(SimulatedModel().reply(system, [("user", last)]))
    assert asks_for(told["new_instruction"])["states the time"] is True
