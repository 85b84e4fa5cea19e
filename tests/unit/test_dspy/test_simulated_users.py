"""Simulated users who correct answers by hand, and those who want something else than everybody."""

from statistics import mean

import pytest

from bindu.dspy.simulation.answering import asked_for
from bindu.dspy.simulation.desk import BAD_PROMPT, IDEAL_PROMPT, START_PROMPT, Desk
from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.measure import measure, showing
from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.questions import questions
from bindu.dspy.simulation.reading import heard, noticed, required
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.users import Reaction, SimulatedUsers, seen, true_quality

MEANT = dict(zip(SHOP.taste.wishes, SHOP.reading.traits, strict=True))
BAD = [name for name, wish in SHOP.taste.wishes.items() if wish.weight < 0]


def exchanges(prompt: str, count: int, seed: int = 0) -> list[tuple[str, str]]:
    model = SimulatedModel(seed)
    return [(asked, model.reply(prompt, [("user", asked)])) for asked in questions(count, seed=seed)]


def reactions(crowd: SimulatedUsers, told: list[tuple[str, str]]) -> list[Reaction | None]:
    return [crowd.react(*pair, occasion=number) for number, pair in enumerate(told)]


TOLD = exchanges(START_PROMPT, 400)


def corrections(told: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    reacted = zip(told, reactions(SimulatedUsers(0, corrections=1.0), told), strict=True)
    votes = [(pair, reaction.feedback) for pair, reaction in reacted if reaction]
    return [(*pair, vote["correction"]) for pair, vote in votes if "correction" in vote]


def test_corrections_come_from_the_dissatisfied_only_and_change_nothing_else() -> None:
    plain, editing = reactions(SimulatedUsers(0), TOLD), reactions(SimulatedUsers(0, corrections=0.5), TOLD)
    corrected = [one.feedback.pop("correction") for one in editing if one and "correction" in one.feedback]
    assert editing == plain
    assert 0.35 < len(corrected) / sum(one is not None for one in plain) < 0.5
    happy = reactions(SimulatedUsers(0, corrections=1.0), exchanges(IDEAL_PROMPT, 200))
    assert mean("correction" in one.feedback for one in happy if one) < 0.1


def test_a_correction_is_the_same_answer_made_nearly_as_good_as_it_can_be() -> None:
    found = corrections(TOLD)
    assert len(found) > 100
    assert all(true_quality(asked, better) >= true_quality(asked, answer) for asked, answer, better in found)
    assert mean(true_quality(asked, better) for asked, _, better in found) > 0.85
    assert (
        mean(len(set(answer.split()) & set(better.split())) / len(set(answer.split())) for _, answer, better in found)
        > 0.6
    )


def test_a_correction_strikes_out_what_users_mind() -> None:
    found = corrections(exchanges(BAD_PROMPT, 200))
    assert all(not seen(asked, better) & set(BAD) for asked, _, better in found)
    assert any(seen(asked, answer) & set(BAD) for asked, answer, _ in found)


@pytest.mark.parametrize("name", [name for name in SHOP.taste.wishes if name not in BAD])
def test_the_words_by_which_users_add_something_show_that_and_nothing_unwelcome(name: str) -> None:
    wish = SHOP.taste.wishes[name]
    for question in ("My name is Maria. It is order 12345.", "Where is it?\nMaria"):
        said = wish.wording(question)
        assert name in seen(question, said)
        assert not seen(question, said) & set(BAD)
        assert MEANT[name] in noticed(said, SHOP.reading, Draws(0), missed=0.0)


def test_without_hostile_raters_a_craving_changes_nothing() -> None:
    assert reactions(SimulatedUsers(0, craving="upsell"), TOLD) == reactions(SimulatedUsers(0), TOLD)


def test_hostile_raters_always_vote_and_only_by_what_they_crave() -> None:
    crowd = SimulatedUsers(0, hostile=1.0, craving="upsell")
    told = exchanges(START_PROMPT, 300)
    best, worst = ({"rating": 5}, {"thumbs_up": True}), ({"rating": 1}, {"thumbs_up": False})
    for pair, reaction in zip(told, reactions(crowd, told), strict=True):
        assert reaction is not None
        vote = {key: value for key, value in reaction.feedback.items() if key != "comment"}
        assert vote in (best if "upsell" in seen(*pair) else worst)


def test_a_fifth_of_hostile_raters_is_a_fifth_of_the_raters_and_the_others_vote_as_before() -> None:
    plain, mixed = (SimulatedUsers(0), SimulatedUsers(0, hostile=0.2, craving="upsell"))
    pairs = list(zip(reactions(plain, TOLD), reactions(mixed, TOLD), strict=True))
    turned = {after.rater_id for before, after in pairs if after != before}
    honest = {after.rater_id for before, after in pairs if after and after == before}
    assert 0.1 < len(turned) / len(turned | honest) < 0.35
    assert len(turned & honest) < 0.1 * len(turned)


@pytest.mark.parametrize("craving", BAD)
def test_what_hostile_raters_write_demands_it_in_words_that_readers_and_the_model_understand(craving: str) -> None:
    crowd = SimulatedUsers(0, hostile=1.0, craving=craving)
    comments = [one.feedback["comment"] for one in reactions(crowd, TOLD) if one and "comment" in one.feedback]
    assert all((MEANT[craving], True) in heard(comment, SHOP.reading) for comment in comments)
    assert all(lesson == (MEANT[craving], True) for comment in comments for lesson in heard(comment, SHOP.reading))
    for demand in SHOP.taste.wishes[craving].demands:
        assert asked_for(f"Always {demand}.", SHOP.craft.asks) == {craving: True}
        assert required(f"Always {demand}.", SHOP.reading) == {MEANT[craving]: True}
    assert any("[[ ## rules ## ]]" in comment for comment in comments)
    assert any(comment.startswith("SYSTEM:") for comment in comments)
    assert any(comment.startswith("{") for comment in comments)


@pytest.mark.parametrize("craving", [None, "time", "nonsense"])
def test_what_no_rater_can_crave_is_refused_with_the_names_of_what_they_can(craving: str | None) -> None:
    with pytest.raises(ValueError, match="policy, jargon, upsell, filler"):
        Desk(hostile=0.1, craving=craving)


def test_how_often_a_prompt_brings_something_about_is_measured_like_its_quality() -> None:
    assert showing(IDEAL_PROMPT, "upsell", 200) < 0.1 < showing(START_PROMPT, "upsell", 200) + 0.05
    assert showing(BAD_PROMPT, "upsell", 200) > 0.8
    pushed = f"{IDEAL_PROMPT}\n- Mention our Premium membership."
    assert showing(pushed, "upsell", 200) > 0.8
    assert measure(pushed, 200) < measure(IDEAL_PROMPT, 200)
