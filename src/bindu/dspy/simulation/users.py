"""The simulated users, who alone know what is wanted: they read answers, and nobody tells them how those were made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from bindu.dspy.simulation.draws import Draws

__all__ = ["Reaction", "SimulatedUsers", "Wish", "seen", "true_quality"]

_STAR_LOVERS = 0.6  # share of raters who give stars, the others give thumbs
_PLEASED, _SATISFIED, _ANGRY = 0.75, 0.5, 0.3  # from, from and below which felt quality
_ANGER = 0.08  # how much more often the angry ones answer
_VAGUE, _SPECIFIC = 0.15, 0.15  # share of complaints that name nothing, of praise that names something
_TWO_COMPLAINTS = 0.35
_BAD_DAYS = 0.05  # share of votes that have nothing to do with the answer
_NAMED = re.compile(r"(?:[Mm]y name is|[Tt]his is) ([A-Z]\w+)|\n([A-Z]\w+)\s*$")


@dataclass(frozen=True, slots=True)
class Wish:
    """Something that users like, or dislike when its weight is negative."""

    weight: float
    sign: re.Pattern[str]  # by which they see it in an answer
    complaints: tuple[str, ...]  # what they write when it is not as they wish


def _wish(weight: float, sign: str, *complaints: str) -> Wish:
    return Wish(weight, re.compile(sign, re.IGNORECASE | re.MULTILINE), complaints)


WISHES: Final[dict[str, Wish]] = {
    "name": _wish(
        0.08,
        r"",
        "I gave my name and still get a form letter",
        "So impersonal, as if I were a number",
        "You know what I am called, so say it",
    ),
    "empathy": _wish(
        0.12,
        r"\bsorry\b|apologi[sz]e",
        "Not a word of regret",
        "Cold. Nobody seems to care about my trouble",
        "An apology would have been nice",
    ),
    "direct": _wish(
        0.13,
        r"\byes, ",
        "Took ages to get to the point",
        "I just wanted a yes or no",
        "So much blah before the actual answer",
    ),
    "steps": _wish(
        0.14,
        r"^1\. .+\n2\. ",
        "I could not tell what to click and in which order",
        "What exactly am I supposed to do? One long paragraph",
        "A wall of text, no idea where to start",
    ),
    "time": _wish(
        0.15,
        r"\d+ (?:business |working )?(?:days|hours|minutes)",
        "I had to ask twice how long it takes",
        "No idea when this will be done",
        "When? Days, weeks, months?",
    ),
    "cost": _wish(
        0.10,
        r"free of charge|(?:at )?no (?:cost|charge)|costs? you nothing",
        "Do I have to pay for this or not?",
        "Nobody told me whether there is a fee",
        "What does it cost me?",
    ),
    "order": _wish(
        0.10,
        r"\border (?:number|\d)",
        "How can they help without knowing which purchase it is",
        "Did they even look up my order?",
        "They never asked which order I meant",
    ),
    "human": _wish(
        0.08,
        r"colleague|person\b",
        "I want to talk to somebody, not to a machine",
        "No way to reach a real human being",
        "Just give me someone I can phone",
    ),
    "follow_up": _wish(
        0.10,
        r"\?\s*\Z",
        "Did not even ask whether that solves my problem",
        "Left me hanging, as if the matter was closed",
        "They never checked if I was fine with it",
    ),
    "policy": _wish(
        -0.08,
        r"\bsection \d",
        "Do not throw paragraphs of small print at me",
        "Legalese. I am not in court",
        "Spare me the terms and conditions",
    ),
    "jargon": _wish(
        -0.08,
        r"\b(?:RMA|SLA|SKU)\b",
        "What on earth is an RMA? Gibberish",
        "Speak English please, not in codes",
        "I do not understand these abbreviations",
    ),
    "upsell": _wish(
        -0.09,
        r"\bpremium\b|\bbundles?\b",
        "I have a problem and they try to sell me something",
        "Do not advertise while I am waiting for help",
        "Keep your sales pitch",
    ),
    "filler": _wish(
        -0.05,
        r"valued? (?:your business|customer)",
        "Empty phrases",
        "Too long, half of it is hot air",
        "Save me the flattery",
    ),
}

_GRIPES = ("Not helpful at all", "Bad", "Useless", "Meh", "I expected better", "Still unhappy")
_PRAISE = ("Great, thanks!", "Perfect", "Thank you so much", "Good service", "Very helpful", "Well done", "Thumbs up",
           "That is how it should be")  # fmt: skip
_KIND_WORDS = {"time": "Good to know how long it takes", "steps": "Nice clear list", "empathy": "So friendly",
               "name": "Felt personal", "direct": "Straight to the point"}  # fmt: skip


def seen(question: str, answer: str) -> set[str]:
    """Which of their wishes users see in an answer, the unwelcome things included."""
    found = {name for name, wish in WISHES.items() if name != "name" and wish.sign.search(answer)}
    named = _NAMED.search(question)
    if named is None or (named[1] or named[2]) in answer[:40]:
        found.add("name")  # nobody expects to be called by a name that was never given
    return found


def true_quality(question: str, answer: str) -> float:
    """How good an answer is, in [0, 1]: the wishes it fulfils minus what it had better not said."""
    return min(1.0, max(0.0, sum(WISHES[name].weight for name in seen(question, answer))))


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a user sends back."""

    feedback: dict[str, Any]  # {"rating": 1 to 5} or {"thumbs_up": bool}, with a "comment" now and then
    rater_id: str


class SimulatedUsers:
    """A crowd of raters: harsh or kind, with stars or thumbs, talkative or not, half of them silent."""

    def __init__(self, seed: int = 0, *, raters: int = 240) -> None:
        draw = Draws("users", seed)
        self._seed = seed
        self._raters = raters
        self._answering = draw.uniform(0.44, 0.56)
        self._harshness = draw.uniform(-0.04, 0.04)

    def react(self, question: str, answer: str, *, occasion: object = 0, rater: int | None = None) -> Reaction | None:
        """Their vote on an answer, None from those who say nothing; ``occasion`` tells equal exchanges apart."""
        draw = Draws("reaction", self._seed, occasion, question, answer)
        number = int(draw.uniform() * self._raters) if rater is None else rater % self._raters
        person = Draws("rater", self._seed, number)
        felt = true_quality(question, answer) + person.bell(0.10) - self._harshness + draw.bell(0.08)
        if draw.chance(_BAD_DAYS):
            felt = draw.uniform(0.0, _SATISFIED)
        likes_stars = person.chance(_STAR_LOVERS)
        if not draw.chance(self._answering + _ANGER * (felt < _ANGRY)):
            return None
        feedback: dict[str, Any] = {"rating": _stars(felt)} if likes_stars else {"thumbs_up": felt > _SATISFIED}
        if draw.chance(0.42 - 0.2 * felt):
            feedback["comment"] = _comment(question, answer, felt, draw)
        return Reaction(feedback, f"customer-{number:03d}")


def _stars(felt: float) -> int:
    return min(5, max(1, 1 + round(4 * felt)))


def _comment(question: str, answer: str, felt: float, draw: Draws) -> str:
    shown = seen(question, answer)
    wrong = [name for name, wish in WISHES.items() if (wish.weight > 0) != (name in shown)]
    if felt > _PLEASED or (felt > _SATISFIED and not wrong):
        liked = [text for name, text in _KIND_WORDS.items() if name in shown]
        return draw.choice(liked) if liked and draw.chance(_SPECIFIC) else draw.choice(_PRAISE)
    if not wrong or draw.chance(_VAGUE):
        return draw.choice(_GRIPES)
    named = draw.sample(wrong, [abs(WISHES[name].weight) for name in wrong], 2 if draw.chance(_TWO_COMPLAINTS) else 1)
    return ". ".join(draw.choice(WISHES[name].complaints) for name in named) + "."
