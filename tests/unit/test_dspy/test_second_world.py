"""The second simulated world is as honest as the shop, and has no word in common with it that matters."""

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from statistics import correlation, mean, median

import pytest
from scipy.stats import spearmanr

from bindu.dspy.simulation.answering import Answering, asked_for
from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.editing import corrected
from bindu.dspy.simulation.hostility import demand, demands_for
from bindu.dspy.simulation.judge import judge
from bindu.dspy.simulation.measure import measure
from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.proposer import rewrite
from bindu.dspy.simulation.questions import follow_up, questions
from bindu.dspy.simulation.reading import complained, heard, required
from bindu.dspy.simulation.reflector import induce_rules
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.users import SimulatedUsers, seen, true_quality
from second_world import SECOND
from second_world.phrases import DISHES, SAYINGS

SEEDS = range(5)
START, IDEAL, BAD = SECOND.start_prompt, SECOND.ideal_prompt, SECOND.bad_prompt
WISHES, TRAITS = SECOND.taste.wishes, SECOND.reading.traits
MEANT = dict(zip(WISHES, TRAITS, strict=True))  # one thing, two names
LESSONS = {MEANT[name]: wish.weight > 0 for name, wish in WISHES.items()}  # what a reflector could learn
HALF = "\n".join(IDEAL.splitlines()[::2])


def answers(prompt: str, count: int, seed: int = 0) -> list[tuple[str, str]]:
    model = SimulatedModel(seed, world=SECOND)
    asked = questions(count, seed=seed, held_out=True, world=SECOND)
    return [(question, model.reply(prompt, [("user", question)])) for question in asked]


def rank_correlation(left: list[float], right: list[float]) -> float:
    return float(spearmanr(left, right).statistic)


def learned(rules: list[str]) -> list[tuple[str, bool]]:
    return [lesson for rule in rules for lesson in required(rule, SECOND.reading).items()]


def complaints() -> Iterator[tuple[str, str]]:
    for name, wish in WISHES.items():
        for complaint in wish.complaints:
            yield name, complaint


def reflected(complaint: str, number: int) -> list[tuple[str, bool]]:
    """What a reflector adds to the start prompt when it reads a complaint."""
    fields = {"current_instruction": START, "examples_with_feedback": complaint}
    written = str(rewrite(fields, SECOND.reading, Draws("reflect", number))["new_instruction"])
    return learned(written.removeprefix(START).splitlines())


def words_of(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_start_prompt_is_poor_the_ideal_one_is_good_and_the_bad_one_is_worse(seed: int) -> None:
    assert 0.25 < measure(START, 400, seed=seed, world=SECOND) < 0.35
    assert measure(IDEAL, 400, seed=seed, world=SECOND) >= 0.90
    assert measure(BAD, 400, seed=seed, world=SECOND) < 0.15


def test_two_thirds_of_the_wishes_are_likes_and_together_they_make_a_whole() -> None:
    likes = [wish.weight for wish in WISHES.values() if wish.weight > 0]
    assert 11 <= len(WISHES) <= 13
    assert len(likes) / len(WISHES) == pytest.approx(2 / 3, abs=0.05)
    assert sum(likes) == pytest.approx(1)
    assert set(WISHES) == set(SECOND.craft.propensity)


def test_a_prompt_lost_in_three_thousand_words_is_followed_much_worse() -> None:
    padding = "\n".join("The kitchen has one window that looks out on a very quiet yard." for _ in range(230))
    assert measure(f"{IDEAL}\n{padding}", 200, world=SECOND) < measure(IDEAL, 200, world=SECOND) - 0.2


def test_every_single_bullet_of_the_ideal_prompt_helps() -> None:
    lines = IDEAL.splitlines()
    whole = measure(IDEAL, 150, world=SECOND)
    for bullet in (line for line in lines if line.startswith("* ")):
        assert measure("\n".join(line for line in lines if line != bullet), 150, world=SECOND) < whole, bullet


def test_rules_in_the_reflector_s_own_words_lead_from_the_start_prompt_to_a_good_one() -> None:
    rules = "\n".join(TRAITS[name].wordings(wanted)[0] for name, wanted in LESSONS.items())
    assert measure(f"{START}\n{rules}", 200, world=SECOND) >= 0.88


def test_what_the_shop_s_customers_want_is_no_help_in_the_kitchen() -> None:
    assert measure(SHOP.ideal_prompt, 200, world=SECOND) < 0.5
    assert measure(IDEAL, 200, world=SHOP) < 0.5


def test_there_are_hundreds_of_different_questions_and_the_held_out_ones_share_no_dish_diet_or_number() -> None:
    known, held_out = (questions(600, seed=0, held_out=held_out, world=SECOND) for held_out in (False, True))
    assert len(set(known)) >= 500
    told = r"(vegan|vegetarian|\w+-free|halal|kosher|low-\w+|\d+)"
    assert not {*re.findall(told, "\n".join(known))} & {*re.findall(told, "\n".join(held_out))}
    assert any("sourdough" in question for question in known)
    assert not any("sourdough" in question for question in held_out)
    assert follow_up(3, 1, seed=0, world=SECOND) != follow_up(3, 2, seed=0, world=SECOND)


def test_a_later_answer_still_keeps_to_the_diet_and_the_number_of_the_first_message() -> None:
    said = [
        "the risotto turned into glue, the grains stick? We eat halal at home. There will be 3 of us.",
        "And a roast?",
    ]
    told = SECOND.craft.compose({"diet", "servings"}, said, Draws(0))
    assert "halal" in told
    assert {"diet", "servings"} <= seen(said[0], told, SECOND)


def test_what_a_prompt_switches_on_is_what_users_see_in_the_text() -> None:
    model = Answering(SECOND.craft, 0)
    for number, question in enumerate(questions(200, seed=0, world=SECOND)):
        shown = model.behaviours(START, Draws(number))
        text = model.answer(START, [question], Draws(number))
        assert seen(question, text, SECOND) == shown | seen(question, "", SECOND)  # a diet nobody keeps is kept


def test_every_sentence_the_model_can_say_shows_only_what_it_stands_for() -> None:
    question = "We eat halal at home. I am cooking for 3 people."
    for dish in DISHES:
        facts = {name: getattr(dish, name) for name in dish.__slots__} | {"diet": "halal", "eaters": 3}
        assert not seen(question, dish.method, SECOND), dish.name
        for kind, variants in SAYINGS.items():
            for sentence in variants:
                text = sentence.format_map(facts)
                assert seen(question, text, SECOND) == {kind} & set(WISHES), text


def test_every_extra_sentence_comes_in_more_than_one_wording() -> None:
    assert min(map(len, SAYINGS.values())) >= 2
    assert {*WISHES} <= {*SAYINGS}
    assert len({answer for _, answer in answers(IDEAL, 300)}) > 280


def test_length_alone_does_not_tell_quality() -> None:
    for seed in range(3):
        told = answers(START, 250, seed)
        lengths = [float(len(answer)) for _, answer in told]
        assert abs(rank_correlation(lengths, [true_quality(*pair, SECOND) for pair in told])) < 0.5
        assert max(lengths) < 1.5 * median(lengths) < 2.5 * min(lengths)
        mixed = [pair for prompt in (START, IDEAL, BAD) for pair in answers(prompt, 100, seed)]
        lengths = [float(len(answer)) for _, answer in mixed]
        assert abs(rank_correlation(lengths, [true_quality(*pair, SECOND) for pair in mixed])) < 0.5


@pytest.mark.parametrize(("behaviour", "trait"), list(MEANT.items()))
def test_most_rules_that_a_reflector_writes_reach_the_model_and_none_the_wrong_way(behaviour: str, trait: str) -> None:
    rules = TRAITS[trait]
    for wanted, variants in ((True, rules.do), (False, rules.leave)):
        understood = [asked_for(rule, SECOND.craft.asks) for rule in variants]
        assert [asked.get(behaviour) for asked in understood].count(wanted) >= len(variants) / 2
        assert all(asked in ({}, {behaviour: wanted}) for asked in understood)
        assert all(required(rule, SECOND.reading) == {trait: wanted} for rule in variants), variants


def test_superstitions_are_mostly_idle_and_a_few_do_harm() -> None:
    harmful = [asked_for(advice, SECOND.craft.asks) for advice in SECOND.reading.superstitions]
    assert 1 <= sum(map(bool, harmful)) < len(harmful) / 2
    assert all(WISHES[name].weight < 0 and wanted for asked in harmful for name, wanted in asked.items())


def test_most_complaints_are_heard_some_are_missed_and_none_is_taken_for_another() -> None:
    understood = [(name, complained(complaint, SECOND.reading)) for name, complaint in complaints()]
    assert all(lessons in ([], [(MEANT[name], WISHES[name].weight > 0)]) for name, lessons in understood)
    assert 0.75 < mean(bool(lessons) for _, lessons in understood) < 0.95
    assert {name for name, lessons in understood if lessons} == set(WISHES)


def test_no_complaint_is_read_out_of_plain_questions_and_answers_or_out_of_vague_comments() -> None:
    told = [f"{question}\n{answer}" for question, answer in (*answers(START, 200), *answers(BAD, 100))]
    assert not [lesson for text in told for lesson in complained(text, SECOND.reading)]
    assert not [lesson for text in SECOND.taste.gripes + SECOND.taste.praise for lesson in heard(text, SECOND.reading)]


def test_users_complain_in_words_that_no_rule_and_no_prompt_uses() -> None:
    rules = [words_of(rule) for trait in TRAITS.values() for rule in (*trait.do, *trait.leave)]
    runs = {tuple(rule[i : i + 3]) for rule in (*rules, words_of(IDEAL)) for i in range(len(rule) - 2)}
    for _, complaint in complaints():
        words = words_of(complaint)
        assert not [words[i : i + 3] for i in range(len(words) - 2) if tuple(words[i : i + 3]) in runs], complaint
    copied = [asked_for(complaint, SECOND.craft.asks).get(name) for name, complaint in complaints()]
    assert mean(wanted is not None for wanted in copied) < 0.2  # so that copying them into a prompt is of little use


def test_its_three_vocabularies_know_nothing_of_each_other() -> None:
    for part in ("craft", "taste", "reading", "questions", "phrases", "prompts"):
        tree = ast.parse(inspect.getsource(importlib.import_module(f"second_world.{part}")))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        own = {module for module in imported if module.startswith(("bindu", "second_world"))}
        machinery = {f"bindu.dspy.simulation.{name}" for name in ("draws", "language", "world")}
        assert own <= machinery | {"second_world.phrases"}


def test_the_judge_under_a_rubric_of_the_wishes_agrees_with_true_quality() -> None:
    rubric = "\n".join(f"{n}. {TRAITS[name].wordings(LESSONS[name])[0]}" for n, name in enumerate(LESSONS, 1))
    scores, truths = [], []
    for turn, prompt in enumerate((START, HALF, BAD, IDEAL)):
        for number, (question, answer) in enumerate(answers(prompt, 200)[turn::4]):
            given = judge({"rubric": rubric, "answer": answer}, SECOND.reading, Draws("judge", prompt, number))
            scores.append(float(str(given["score"])))
            truths.append(true_quality(question, answer, SECOND))
    assert 0.8 < rank_correlation(scores, truths) < 0.99


def test_a_reflector_that_reads_one_complaint_writes_the_right_rule_in_most_cases() -> None:
    found = [
        (MEANT[name], WISHES[name].weight > 0) in reflected(complaint, number)
        for number, (name, complaint) in enumerate(complaints())
    ]
    assert 0.7 < mean(found) < 1


@pytest.mark.parametrize("seed", SEEDS)
def test_most_of_what_users_want_can_be_learned_from_a_few_hundred_votes(seed: int) -> None:
    crowd, rows = SimulatedUsers(seed, world=SECOND), []
    for number, (question, answer) in enumerate(answers(START, 400, seed)):
        reaction = crowd.react(question, answer, occasion=number)
        if reaction:
            vote = reaction.feedback
            score = vote["rating"] / 5 if "rating" in vote else float(vote["thumbs_up"])
            rows.append({"id": str(number), "answer": answer, "score": score, "comment": vote.get("comment", "")})
    praised, rejected = [row for row in rows if row["score"] >= 0.8], [row for row in rows if row["score"] < 0.8]
    fields = {"present_instructions": START, "praised": json.dumps(praised), "rejected": json.dumps(rejected)}
    rules = induce_rules(fields, SECOND.reading, Draws("rubric", seed))["rules"]
    assert isinstance(rules, list)
    lessons = learned([rule["rule"] for rule in rules])
    right = [lesson for lesson in lessons if LESSONS[lesson[0]] == lesson[1]]
    assert len(set(right)) >= 8
    assert len(right) >= 0.8 * len(lessons)


def test_half_of_the_users_rate_and_their_votes_follow_the_true_quality() -> None:
    crowd = SimulatedUsers(0, world=SECOND)
    told = [*answers(START, 250), *answers(IDEAL, 250)]
    reacted = [(true_quality(*pair, SECOND), crowd.react(*pair, occasion=number)) for number, pair in enumerate(told)]
    rated = [(quality, reaction.feedback) for quality, reaction in reacted if reaction]
    assert 0.4 < len(rated) / len(told) < 0.6
    stars = [(quality, float(vote["rating"])) for quality, vote in rated if "rating" in vote]
    assert 0.8 < correlation(*zip(*stars, strict=True)) < 0.99
    assert {vote for _, vote in stars} == {1, 2, 3, 4, 5}


def test_an_answer_corrected_by_hand_is_nearly_what_its_user_wanted_and_each_addition_shows_its_own_wish_only() -> None:
    told = answers(BAD, 60)
    after = [corrected(*pair, SECOND.taste, Draws("edit", number)) for number, pair in enumerate(told)]
    qualities = [true_quality(question, text, SECOND) for (question, _), text in zip(told, after, strict=True)]
    assert mean(qualities) > 0.85
    assert min(qualities) > 0.5
    question = "It has to be kosher. It is for 5 people."
    for name, wish in WISHES.items():
        if wish.weight > 0:
            assert seen(question, wish.wording(question), SECOND) == {name}
            assert [one for one, trait in TRAITS.items() if trait.sign.search(wish.wording(question))] == [MEANT[name]]


def test_what_hostile_raters_demand_is_understood_by_readers_and_by_the_model() -> None:
    cravings = [name for name, wish in WISHES.items() if wish.weight < 0]
    for craving in cravings:
        demands = demands_for(SECOND.taste, craving)
        for asked in demands:
            assert required(asked, SECOND.reading) == {MEANT[craving]: True}
            assert asked_for(asked, SECOND.craft.asks) == {craving: True}
        comments = [demand(demands, Draws(craving, number), pleased=False) for number in range(30)]
        assert all((MEANT[craving], True) in heard(str(comment), SECOND.reading) for comment in comments)
