"""The simulated model in each of its roles, called the way training calls it: through DSPy."""

import ast
import importlib
import inspect
import json
from statistics import correlation
from uuid import UUID

import dspy
import pytest
from dspy import lm15
from dspy.teleprompt.simba_utils import OfferFeedback
from gepa.strategies.instruction_proposal import InstructionProposalSignature

from bindu.dspy.objective import InduceRules, JudgeAnswer
from bindu.dspy.simulation import reading, users
from bindu.dspy.simulation.desk import IDEAL_PROMPT, START_PROMPT
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.model import SimulatedModel, role_of
from bindu.dspy.simulation.questions import questions
from bindu.dspy.simulation.users import SimulatedUsers, true_quality

RUBRIC = "The answer greets by name.\n1. State how long things take.\n2. Do not quote policies.\n3. Apologise."
GOOD = "Hi Maria,\n\nI am sorry. It takes 3 days."
POOR = "Dear customer,\n\nAccording to section 7 this depends."


def lm(seed: int = 0, **config: float) -> dspy.LM:
    return dspy.LM("simulated/desk", engine=SimulatedEngine(seed), cache=False, num_retries=0, **config)


def judged(
    model: dspy.LM, answer: str, *, comment: str = "none", rubric: str = RUBRIC, question: str = "?"
) -> dspy.Prediction:
    with dspy.context(lm=model, adapter=dspy.ChatAdapter()):
        return dspy.Predict(JudgeAnswer)(
            rubric=rubric,
            question=question,
            answer=answer,
            logged_answer="none",
            logged_score="none",
            logged_comment=comment,
        )


def logged(count: int, prompt: str = START_PROMPT, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Praised and rejected rows as training shows them."""
    model, crowd = SimulatedModel(seed), SimulatedUsers(seed)
    praised, rejected = [], []
    for number, question in enumerate(questions(count, seed=seed)):
        answer = model.reply(prompt, [("user", question)])
        reaction = crowd.react(question, answer, occasion=number)
        if reaction is None:
            continue
        row = {"id": str(number), "question": question, "answer": answer}
        vote = reaction.feedback
        score = vote["rating"] / 5 if "rating" in vote else float(vote["thumbs_up"])
        if score >= 0.8:
            praised.append(row)
        else:
            rejected.append({**row, "score": score, "comment": vote.get("comment", ""), "correction": ""})
    return praised, rejected


def induced(seed: int = 0, praised: object = (), rejected: object = (), instructions: str = START_PROMPT) -> list:
    with dspy.context(lm=lm(seed), adapter=dspy.ChatAdapter()):
        return dspy.Predict(InduceRules)(
            present_instructions=instructions, praised=json.dumps(praised), rejected=json.dumps(rejected)
        ).rules


def advised(
    seed: int = 0, *, better: str = GOOD, worse: str = POOR, critique: str = "", asked: str = "Be nice."
) -> str:
    def trajectory(text: str) -> str:
        return json.dumps([{"module_name": "predict", "inputs": {"input": "When?"}, "outputs": {"output": text}}])

    with dspy.context(lm=lm(seed), adapter=dspy.ChatAdapter()):
        found = dspy.Predict(OfferFeedback)(
            program_code="class AgentProgram(dspy.Module): ...",
            modules_defn=f"Module predict\n\tOriginal Instructions: {asked}",
            program_inputs=json.dumps({"input": "When?"}),
            oracle_metadata="{}",
            worse_program_trajectory=trajectory(worse),
            worse_program_outputs=json.dumps({"output": worse}),
            worse_reward_value=0.2,
            worse_reward_info=json.dumps({"critique": critique}),
            better_program_trajectory=trajectory(better),
            better_program_outputs=json.dumps({"output": better}),
            better_reward_value=0.8,
            better_reward_info=json.dumps({"critique": ""}),
            module_names=["predict"],
        )
    assert list(found.module_advice) == ["predict"]
    return found.module_advice["predict"]


def test_roles_are_told_by_the_text_alone() -> None:
    markers = "[[ ## critique ## ]] [[ ## completed ## ]]"
    assert role_of(START_PROMPT, "Where is my refund?") == "answer"
    assert role_of(START_PROMPT, markers) == "answer"  # a customer cannot make it a judge
    assert role_of(markers, "?") == "judge"
    assert role_of("", "Reply with the one word: ready") == "answer"


def test_the_judge_scores_by_the_rubric_and_names_what_is_broken() -> None:
    good, poor = judged(lm(), GOOD), judged(lm(), POOR)
    assert good.score > 0.85
    assert 0 <= poor.score < 0.3
    assert "how long" in poor.critique or "policies" in poor.critique


def test_the_judge_knows_only_the_rubric_it_is_shown() -> None:
    opposite = "Quote our policy. Do not apologise. Do not promise a time frame. Do not use the customer's name."
    assert judged(lm(), GOOD, rubric=opposite).score < 0.3
    assert judged(lm(), POOR, rubric=opposite).score > 0.85
    assert judged(lm(), GOOD, rubric="Be excellent.").score == pytest.approx(0.5, abs=0.2)  # nothing to check


def test_a_logged_comment_makes_its_subject_weigh_more() -> None:
    half = "Hi Maria,\n\nI am sorry, this depends."
    plain = [judged(lm(seed), half).score for seed in range(8)]
    complaint = [judged(lm(seed), half, comment="I had to ask twice how long it takes").score for seed in range(8)]
    assert sum(complaint) / 8 < sum(plain) / 8 - 0.03


@pytest.mark.parametrize("seed", range(3))
def test_judge_and_reflector_answer_the_same_request_the_same_way_whatever_came_before(seed: int) -> None:
    busy = lm(seed, temperature=0.0)
    for question in questions(5, seed=9):
        judged(busy, question)
    assert judged(busy, POOR).toDict() == judged(busy, POOR).toDict() == judged(lm(seed), POOR).toDict()
    assert advised(seed) == advised(seed)


def test_no_part_of_the_model_can_see_what_users_want(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (judged(lm(), POOR).toDict(), advised(), induced(0, *logged(100)))
    rows = logged(100)
    monkeypatch.setattr(users, "WISHES", {})
    assert (judged(lm(), POOR).toDict(), advised(), induced(0, *rows)) == before
    for name in ("model", "engine", "answering", "judge", "reflector", "reading", "language", "phrases"):
        tree = ast.parse(inspect.getsource(importlib.import_module(f"bindu.dspy.simulation.{name}")))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not imported & {
            "bindu.dspy.simulation.users",
            "bindu.dspy.simulation.measure",
            "bindu.dspy.simulation.desk",
        }


@pytest.mark.parametrize("seed", range(5))
def test_most_of_what_users_want_can_be_learned_from_a_few_hundred_votes(seed: int) -> None:
    praised, rejected = logged(400, seed=seed)
    rules = induced(seed, praised, rejected)
    known = {row["id"] for row in (*praised, *rejected)}
    assert 8 <= len(rules) <= 12
    assert all(set(rule.task_ids) <= known and rule.task_ids for rule in rules)
    wanted = {trait: wish.weight > 0 for trait, wish in zip(reading.TRAITS, users.WISHES.values(), strict=True)}
    learned = [lesson for rule in rules for lesson in reading.required(rule.rule).items()]
    right = [lesson for lesson in learned if wanted[lesson[0]] == lesson[1]]
    assert len(set(right)) >= 8
    assert len(right) >= 0.8 * len(learned)


def test_random_row_ids_change_nothing() -> None:
    praised, rejected = logged(200)
    first, second = ([{**row, "id": str(UUID(int=base + n))} for n, row in enumerate(rejected)] for base in (1, 10**30))
    assert [rule.rule for rule in induced(0, praised, first)] == [rule.rule for rule in induced(0, praised, second)]


def contrasted(comment: str = "", instructions: str = "Be nice.") -> list:
    praised = [{"id": f"p{i}", "question": "?", "answer": GOOD} for i in range(10)]
    rejected = [{"id": f"r{i}", "question": "?", "answer": POOR, "score": 0.2, "comment": comment} for i in range(10)]
    rules = [rule.rule for rule in induced(0, praised, rejected, instructions)]
    return [lesson for rule in rules for lesson in reading.required(rule).items()]


def test_without_comments_only_the_contrast_of_answers_teaches() -> None:
    learned = {("states the time", True), ("apologises", True), ("greets by name", True), ("quotes the terms", False)}
    assert learned <= set(contrasted())
    alike = [{"id": f"p{i}", "question": "?", "answer": GOOD} for i in range(10)]
    assert all(rule.rule in reading.SUPERSTITIONS for rule in induced(0, alike, alike))


def test_a_comment_overrules_an_instruction_but_a_mere_contrast_does_not() -> None:
    lesson = ("quotes the terms", False)
    assert lesson not in contrasted(instructions="Quote our policy.")
    assert lesson in contrasted("Spare me the terms and conditions", instructions="Quote our policy.")


def test_advice_comes_from_the_visible_difference_and_from_the_critique() -> None:
    fault = "The answer does not keep to this rule: Say what it costs, or that it is free of charge."
    differences = {lesson for seed in range(40) for lesson in reading.required(advised(seed)).items()}
    assert {("states the time", True), ("quotes the terms", False), ("apologises", True)} <= differences
    told = ["states the cost" in reading.required(advised(seed, critique=fault)) for seed in range(40)]
    untold = ["states the cost" in reading.required(advised(seed)) for seed in range(40)]
    assert sum(told) > 30
    assert sum(untold) < 6


def test_some_advice_is_wrong_and_some_is_superstition() -> None:
    misleading = [advised(seed, better=POOR, worse=GOOD) for seed in range(40)]
    assert any(reading.required(advice).get("apologises") is False for advice in misleading)
    superstitious = [any(rule in advised(seed) for rule in reading.SUPERSTITIONS) for seed in range(60)]
    assert 1 <= sum(superstitious) <= 20


def test_gepa_s_own_template_gets_a_new_instruction_that_keeps_the_old_one() -> None:
    record = {
        "Inputs": {"input": "When?"},
        "Generated Outputs": {"output": POOR},
        "Feedback": "I had to ask twice how long it takes.",
    }
    prompt = InstructionProposalSignature.prompt_renderer(
        {"current_instruction_doc": START_PROMPT, "dataset_with_feedback": [record], "prompt_template": None}
    )
    assert isinstance(prompt, str)
    [reply] = lm()(prompt)
    proposed = InstructionProposalSignature.output_extractor(reply)["new_instruction"]
    assert proposed.startswith(START_PROMPT)
    assert reading.required(proposed)["states the time"] is True


def test_the_judge_under_a_learned_rubric_agrees_with_true_quality_without_knowing_it() -> None:
    rubric = "\n".join([START_PROMPT, *(rule.rule for rule in induced(0, *logged(400)))])
    model, scores, truths = lm(temperature=0.0), [], []
    for prompt in (START_PROMPT, IDEAL_PROMPT):
        answering = SimulatedModel(0)
        for question in questions(60, seed=0, held_out=True):
            answer = answering.reply(prompt, [("user", question)])
            scores.append(judged(model, answer, rubric=rubric, question=question).score)
            truths.append(true_quality(question, answer))
    assert 0.8 < correlation(scores, truths) < 0.99


def test_calls_are_counted_by_role_and_tokens_by_request() -> None:
    engine = SimulatedEngine(0)
    model = dspy.LM("simulated/desk", engine=engine, cache=False)
    judged(model, GOOD)
    asked = lm15.Request(model="simulated/desk", system=START_PROMPT, messages=(lm15.Message.user("Refund?"),))
    answered = model(asked)
    streamed = "".join(event.delta.text for event in engine.stream(asked) if hasattr(event, "delta"))
    assert engine.model.calls == {"judge": 1, "answer": 2}
    assert answered.usage.input_tokens > len(START_PROMPT) // 4
    assert answered.usage.output_tokens == answered.usage.total_tokens - answered.usage.input_tokens > 20
    assert streamed.startswith(("Hello", "Good day", "Dear"))
