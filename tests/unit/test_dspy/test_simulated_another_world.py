"""The simulation plays any world that it is given: here a very small one, of weather reports."""

import pytest

from bindu.dspy.simulation.desk import Desk
from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.language import Vocabulary
from bindu.dspy.simulation.lessons import criticised
from bindu.dspy.simulation.measure import measure, showing
from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.questions import follow_up, question, questions
from bindu.dspy.simulation.server import SimulatedServer
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.users import SimulatedUsers, true_quality
from bindu.dspy.simulation.world import Craft, Questions, Reading, Taste, World, trait, wish


def compose(shown: set[str], messages: list[str], draw: Draws) -> str:
    del messages
    said = ["Some sun." if draw.chance(0.5) else "Some clouds."]
    said += ["Rain: 40 percent."] if "rain" in shown else []
    said += ["Wind from the west."] if "wind" in shown else []
    return " ".join([*said, *(["Ha, what a joke!"] if "joke" in shown else [])])


WEATHER = World(
    name="weather",
    craft=Craft(
        asks=Vocabulary({"rain": (r"\brain\b",), "wind": (r"\bwind\b",), "joke": (r"\bjokes?\b",)}),
        propensity={"rain": (0.2, 0.3), "wind": (0.3, 0.4), "joke": (0.3, 0.4)},
        compose=compose,
    ),
    taste=Taste(
        wishes={
            "rain": wish(0.6, r"\brain: \d", "Got wet", wording="Rain: 10 percent."),
            "wind": wish(0.4, r"\bwind from", "My kite never flew", wording="Wind from the east.", place="end"),
            "joke": wish(-0.3, r"\bha\b", "Silly", demands=("tell a joke",)),
        },
        gripes=("Bad",),
        praise=("Good",),
        kind_words={},
    ),
    reading=Reading(
        traits={
            "tells the rain": trait(r"rain", r"\bwet\b", ("Give the chance of rain.",), ("Leave out the rain.",)),
            "tells the wind": trait(
                r"wind", r"\bkite\b", ("Say where the wind comes from.",), ("Leave out the wind.",)
            ),
            "jokes": trait(r"joke", r"silly", ("Tell a joke.",), ("Do not tell jokes.",), True),
        },
        rules=Vocabulary(
            {"tells the rain": (r"\brain\b",), "tells the wind": (r"\bwind\b",), "jokes": (r"\bjokes?\b",)}
        ),
        superstitions=("Write in verse.",),
    ),
    questions=Questions(
        first=lambda draw, held_out: f"What is it like in {'Rome' if held_out else 'Oslo'} on day {draw.uniform()}?",
        further=lambda draw, _: f"And on day {draw.uniform()}?",
    ),
    start_prompt="Tell a joke.",
    ideal_prompt="Give the chance of rain. Say where the wind comes from. Do not tell jokes.",
    bad_prompt="Leave out rain and wind. Tell a joke.",
)


def test_its_prompts_are_worth_what_its_users_think_of_them() -> None:
    assert measure(WEATHER.bad_prompt, world=WEATHER) < measure(WEATHER.start_prompt, world=WEATHER) + 0.05 < 0.4
    assert measure(WEATHER.ideal_prompt, world=WEATHER) > 0.8
    assert showing(WEATHER.start_prompt, "joke", world=WEATHER) > 0.8
    assert measure(SHOP.ideal_prompt, world=WEATHER) < 0.5  # means nothing here


def test_its_customers_ask_its_questions_in_every_place() -> None:
    assert all("Oslo" in asked for asked in questions(5, seed=0, world=WEATHER))
    assert "Rome" in question(0, seed=0, held_out=True, world=WEATHER)
    assert follow_up(0, 1, seed=0, world=WEATHER).startswith("And on day")


def test_its_users_complain_correct_and_crave_in_its_words() -> None:
    asked, answer = "?", "Some sun. Ha, what a joke!"
    crowd = SimulatedUsers(0, world=WEATHER, corrections=1.0)
    votes = [one.feedback for n in range(200) if (one := crowd.react(asked, answer, occasion=n))]
    assert {vote.get("comment") for vote in votes} > {"Got wet.", "Silly.", "Bad"}
    assert "Some sun.\n\nRain: 10 percent.\n\nWind from the east." in {vote.get("correction") for vote in votes}
    hostile = SimulatedUsers(0, world=WEATHER, hostile=1.0, craving="joke")
    shouted = [hostile.react(asked, "Some sun.", occasion=n).feedback["comment"] for n in range(20)]
    assert all("tell a joke" in comment for comment in shouted)
    assert true_quality(asked, "Rain: 5 percent. Wind from the sea.", WEATHER) == pytest.approx(1.0)


def test_its_readers_hear_its_complaints_and_nothing_of_the_shop() -> None:
    assert criticised("Got wet. Silly.", WEATHER.reading) == [("tells the rain", True), ("jokes", False)]
    assert criticised("Got wet. Silly.", SHOP.reading) == []


def test_engine_server_and_desk_answer_in_it() -> None:
    said = [("user", question(0, seed=0, world=WEATHER))]
    expected = SimulatedModel(3, world=WEATHER).reply(WEATHER.ideal_prompt, said, sample=1)
    assert expected.startswith("Some ")
    for model in (
        SimulatedEngine(3, world=WEATHER).model,
        SimulatedServer(3, world=WEATHER).model,
        Desk(seed=3, world=WEATHER).engine.model,
    ):
        assert model.reply(WEATHER.ideal_prompt, said, sample=1) == expected
    assert Desk(seed=3, world=WEATHER).measure(WEATHER.ideal_prompt) > 0.8
