"""The simulated world is honest: text in, text out, and only its users know what is wanted."""

import ast
import importlib
import inspect
import string
from itertools import pairwise
from statistics import correlation, mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.simulation.answering import Answering, asked_for
from bindu.dspy.simulation.desk import BAD_PROMPT, IDEAL_PROMPT, START_PROMPT
from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.language import Vocabulary, read
from bindu.dspy.simulation.measure import measure
from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.questions import follow_up, questions
from bindu.dspy.simulation.reading import complained, required
from bindu.dspy.simulation.shop import SHOP, phrases
from bindu.dspy.simulation.users import SimulatedUsers, seen, true_quality

SEEDS = range(5)
MEANT = dict(zip(SHOP.taste.wishes, SHOP.reading.traits, strict=True))  # one thing, two names


def answers(prompt: str, count: int, seed: int = 0) -> list[tuple[str, str]]:
    model = SimulatedModel(seed)
    return [(asked, model.reply(prompt, [("user", asked)])) for asked in questions(count, seed=seed)]


@given(st.text(), st.integers(), st.integers(min_value=1, max_value=40))
def test_draws_of_the_same_parts_are_the_same_and_stay_in_range(part: str, other: int, count: int) -> None:
    first, second = Draws(part, other), Draws(part, other)
    drawn = [first.uniform() for _ in range(count)]
    assert drawn == [second.uniform() for _ in range(count)]
    assert all(0 <= value < 1 for value in drawn)


def test_draws_are_spread_evenly_and_do_not_follow_one_another() -> None:
    draw = Draws("evenness")
    drawn = [draw.uniform() for _ in range(20_000)]
    assert mean(drawn) == pytest.approx(0.5, abs=0.01)
    assert abs(correlation(drawn[:-1], drawn[1:])) < 0.03
    bells = [draw.bell(2.0) for _ in range(20_000)]
    assert mean(value * value for value in bells) == pytest.approx(4.0, rel=0.05)


@given(st.lists(st.floats(min_value=0.01, max_value=9), max_size=8), st.integers(min_value=0, max_value=10))
def test_a_sample_has_no_repeats_and_only_what_weighs_something(weights: list[float], count: int) -> None:
    options = list(range(len(weights) + 1))
    sampled = Draws("sample").sample(options, [*weights, 0.0], count)
    assert len(sampled) == len(set(sampled)) == min(count, len(weights))
    assert options[-1] not in sampled


def test_there_are_hundreds_of_different_questions_and_the_held_out_ones_share_no_name_item_or_number() -> None:
    known, held_out = questions(600, seed=0), questions(600, seed=0, held_out=True)
    assert len(set(known)) >= 500
    assert not set(known) & set(held_out)
    assert questions(5, seed=0) == known[:5] != questions(5, seed=1)
    assert follow_up(3, 1, seed=0) == follow_up(3, 1, seed=0) != follow_up(3, 2, seed=0)


def test_the_same_seed_is_the_same_world_and_a_repeated_request_gets_another_sample() -> None:
    first, second, other = SimulatedModel(3), SimulatedModel(3), SimulatedModel(4)
    asked = [("user", questions(1, seed=0)[0])]
    samples = [first.reply(START_PROMPT, asked) for _ in range(6)]
    assert samples == [second.reply(START_PROMPT, asked) for _ in range(6)]
    assert len(set(samples)) >= 3
    assert samples != [other.reply(START_PROMPT, asked) for _ in range(6)]
    assert len({first.reply(START_PROMPT, asked, temperature=0) for _ in range(6)}) == 1


def test_a_request_s_own_seed_decides_whatever_was_asked_before() -> None:
    asked = [("user", questions(1, seed=0)[0])]
    busy = SimulatedModel(3)
    samples = [busy.reply(START_PROMPT, asked, sample=number) for number in (*range(6), *range(6))]
    assert samples[:6] == samples[6:]
    assert len(set(samples)) >= 3
    assert SimulatedModel(3).reply(START_PROMPT, asked, sample=5) == samples[5]
    assert SimulatedModel(3).reply(START_PROMPT, asked) == busy.reply(START_PROMPT, asked)  # not counted as repetitions
    assert len({busy.reply(START_PROMPT, asked, sample=number, temperature=0) for number in range(6)}) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_start_prompt_is_poor_the_ideal_one_is_good_and_the_bad_one_is_worse(seed: int) -> None:
    assert measure(START_PROMPT, seed=seed) == pytest.approx(0.29, abs=0.02)
    assert measure(IDEAL_PROMPT, seed=seed) == pytest.approx(0.925, abs=0.02)
    assert measure(BAD_PROMPT, seed=seed) < 0.10


def test_other_seeds_are_other_worlds_with_other_numbers() -> None:
    assert len({measure(START_PROMPT, 200, seed=seed) for seed in SEEDS}) == len(SEEDS)


def test_a_prompt_lost_in_three_thousand_words_is_followed_much_worse() -> None:
    padding = "\n".join("The shop was founded by two sisters in a garage near the harbour." for _ in range(230))
    assert measure(f"{IDEAL_PROMPT}\n{padding}", 200) < measure(IDEAL_PROMPT, 200) - 0.2


def test_every_single_line_of_the_ideal_prompt_helps() -> None:
    lines = IDEAL_PROMPT.splitlines()
    whole = measure(IDEAL_PROMPT, 300)
    for left_out in range(1, len(lines)):
        assert measure("\n".join(lines[:left_out] + lines[left_out + 1 :]), 300) < whole


def test_what_a_prompt_switches_on_is_what_users_see_in_the_text() -> None:
    model, asked = Answering(SHOP.craft, 0), questions(150, seed=0)
    for number, question in enumerate(asked):
        shown = model.behaviours(START_PROMPT, Draws(number))
        text = model.answer(START_PROMPT, [question], Draws(number))
        unnamed = seen(question, "") & {"name"}  # nobody expects to be called by a name that was never given
        assert seen(question, text) == shown | unnamed


def test_every_sentence_the_model_can_say_shows_only_what_it_stands_for() -> None:
    shows = {
        "greeting": set(),
        "anonymous": set(),
        "preamble": set(),
        "order_known": {"order"},
        "order_asked": {"order"},
    }
    for kind, variants in phrases.EXTRAS.items():
        for sentence in variants:
            text = sentence.format(name="Maria", order="12345") + (" Bye." if kind != "follow_up" else "")
            assert seen("no name", text) - {"name"} == shows.get(kind, {kind}), text
    for topic in phrases.TOPICS:
        assert seen("no name", f"{topic.prose}\n{topic.short}") == {"name", "direct"}
        assert seen("no name", topic.time) == {"name", "time"}
        assert seen("no name", topic.cost) == {"name", "cost"}
        assert seen("no name", "\n".join(f"{i}. {step}" for i, step in enumerate(topic.steps, 1))) == {"name", "steps"}


@given(st.text(alphabet=string.printable, max_size=300), st.text(max_size=300))
def test_quality_is_a_share_whatever_the_text(question: str, answer: str) -> None:
    assert 0 <= true_quality(question, answer) <= 1


def test_the_last_word_counts_and_negations_switch_off() -> None:
    words = Vocabulary({"name": ("by name",), "time": ("how long",)}, {"time": ("in haste",)})
    assert read("Greet them by name. Say how long it takes.", words) == {"name": True, "time": True}
    assert read("Never greet by name, but say how long it takes", words) == {"name": False, "time": True}
    assert read("Greet by name.\nDo not greet by name.", words) == {"name": False}
    assert read("Never forget to greet by name; answer in haste", words) == {"name": True, "time": False}
    assert read("Be nice.", words) == {}


@pytest.mark.parametrize(("behaviour", "trait"), list(MEANT.items()))
def test_most_rules_that_a_reflector_writes_reach_the_model_and_none_the_wrong_way(behaviour: str, trait: str) -> None:
    rules = SHOP.reading.traits[trait]
    for wanted, variants in ((True, rules.do), (False, rules.leave)):
        understood = [asked_for(rule, SHOP.craft.asks).get(behaviour) for rule in variants]
        assert understood.count(wanted) >= len(variants) / 2
        assert understood.count(not wanted) == 0
        assert all(required(rule, SHOP.reading).get(trait) == wanted for rule in variants), variants


def test_most_complaints_of_users_are_heard_and_none_is_heard_as_its_opposite() -> None:
    heard = total = 0
    for name, wish in SHOP.taste.wishes.items():
        for complaint in wish.complaints:
            lessons = complained(complaint, SHOP.reading)
            total += 1
            heard += (MEANT[name], wish.weight > 0) in lessons
            assert (MEANT[name], wish.weight < 0) not in lessons
    assert heard / total > 0.85


def test_three_vocabularies_know_nothing_of_each_other() -> None:
    for part in ("craft", "taste", "reading", "questions"):
        tree = ast.parse(inspect.getsource(importlib.import_module(f"bindu.dspy.simulation.shop.{part}")))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        own = {name.rpartition(".")[2] for name in imported if name and name.startswith("bindu.dspy.simulation")}
        assert own <= {"draws", "language", "phrases", "world"}


def test_half_of_the_users_rate_a_third_of_them_comment_and_their_votes_follow_the_true_quality() -> None:
    crowd = SimulatedUsers(0)
    told = [*answers(START_PROMPT, 500), *answers(IDEAL_PROMPT, 500)]
    reacted = [(true_quality(*pair), crowd.react(*pair, occasion=number)) for number, pair in enumerate(told)]
    rated = [(quality, reaction.feedback) for quality, reaction in reacted if reaction]
    assert 0.4 < len(rated) / len(told) < 0.6
    assert 0.25 < mean("comment" in vote for _, vote in rated) < 0.42
    stars = [(quality, vote["rating"]) for quality, vote in rated if "rating" in vote]
    thumbs = [(quality, float(vote["thumbs_up"])) for quality, vote in rated if "thumbs_up" in vote]
    assert 0.3 < len(thumbs) / len(rated) < 0.5
    assert 0.8 < correlation(*zip(*stars, strict=True)) < 0.99
    assert 0.6 < correlation(*zip(*thumbs, strict=True)) < 0.95
    assert {vote for _, vote in stars} == {1, 2, 3, 4, 5}


def test_some_raters_are_harsher_than_others_and_each_keeps_to_stars_or_thumbs() -> None:
    crowd = SimulatedUsers(0, raters=40)
    means: dict[str, list[float]] = {}
    kinds: dict[str, set[str]] = {}
    for number, (question, answer) in enumerate(answers(START_PROMPT, 3_000)):
        reaction = crowd.react(question, answer, occasion=number)
        if reaction:
            kinds.setdefault(reaction.rater_id, set()).update({*reaction.feedback} - {"comment"})
            if "rating" in reaction.feedback:
                means.setdefault(reaction.rater_id, []).append(reaction.feedback["rating"])
    assert {len(kind) for kind in kinds.values()} == {1}
    averages = sorted(mean(stars) for stars in means.values())
    assert averages[-1] - averages[0] > 0.5


def test_a_better_answer_is_never_rated_lower_by_the_same_person_on_the_same_occasion_of_mood() -> None:
    lines = ["Hello,", "Yes, we can.", "It takes 3 days.", "It is free of charge.", "Sorry about this."]
    ladder = ["\n".join(lines[: count + 1]) for count in range(len(lines))]
    assert all(true_quality("?", low) < true_quality("?", high) for low, high in pairwise(ladder))


def test_users_say_in_their_own_words_what_is_missing_and_praise_says_little() -> None:
    crowd = SimulatedUsers(0)
    own_words = {text for wish in SHOP.taste.wishes.values() for text in wish.complaints}

    def comments(prompt: str) -> list[str]:
        votes = [crowd.react(*pair, occasion=n) for n, pair in enumerate(answers(prompt, 600))]
        return [vote.feedback["comment"] for vote in votes if vote and "comment" in vote.feedback]

    poor, good = comments(START_PROMPT), comments(IDEAL_PROMPT)
    assert mean(any(words in comment for words in own_words) for comment in poor) > 0.75
    assert mean(bool(complained(comment, SHOP.reading)) for comment in good) < 0.25


def test_answering_costs_less_than_a_third_of_a_millisecond_of_cpu() -> None:
    from time import process_time

    asked = questions(2_000, seed=0)
    model = SimulatedModel(0)
    started = process_time()
    for question in asked:
        model.reply(IDEAL_PROMPT, [("user", question)])
    assert (process_time() - started) / len(asked) < 0.0003
