"""What the simulated model can do in the kitchen: what it takes a prompt to ask for, what it then writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.language import Vocabulary
from bindu.dspy.simulation.world import Craft
from second_world.phrases import DISHES, SAYINGS

__all__ = ["CRAFT"]

_ASKS = Vocabulary(
    {
        "grams": (
            r"\bgrams?\b",
            r"\bweigh(s|ed|ing|ts?)?\b",
            r"(exact|precise|metric) (amount|quantit|measure|number)",
            r"kitchen scale",
            r"\b(amounts|quantities|ingredients) .{0,30}(numbers|figures|metric|to measure)",
        ),
        "temperature": (
            r"\btemperatures?\b",
            r"\bdegrees?\b|celsius|°",
            r"\bhow hot\b",
            r"(oven|heat|hob) .{0,25}\b(number|figure|setting)s?\b",
        ),
        "doneness": (
            r"\bdoneness\b",
            r"\b(when|that|whether|if) .{0,30}\b(is|are|it's) (done|ready|cooked|finished)\b",
            r"\b(signs?|cues?|signals?)\b .{0,40}\b(done|ready|cooked|finished|look for|watch for)\b",
            r"(looks?|smells?|sounds?|feels?) like .{0,30}\b(ready|done|finished|end)\b",
            r"recogni[sz]e .{0,30}(moment|done|ready)",
        ),
        "reason": (
            r"\bwhy\b",
            r"\b(reason|cause)s?\b",
            r"\b(science|chemistry|physics|logic)\b",
            r"make .{0,25}understand",
            r"what .{0,25}\bis good for\b",
        ),
        "substitute": (
            r"\bsubstitut",
            r"\breplac(e|es|ements?|ing)\b",
            r"\balternatives?\b.{0,30}\b(ingredient|product|item)|\b(ingredient|product)s?\b.{0,30}\balternatives?\b",
            r"\bstand-?ins?\b|\bswaps?\b",
            r"\b(missing|rare|scarce) ingredient",
        ),
        "allergens": (
            r"\ballerg",
            r"intoleran",
            r"\bnuts\b.{0,30}\b(gluten|milk|egg)",
            r"(make|get) .{0,20}\b(ill|sick)\b",
        ),
        "next_time": (
            r"\bnext (time|attempt|try|batch)\b",
            r"\btips?\b.{0,30}\b(later|future|further|second|improv\w+)",
            r"\b(improve|do better|learn)\b.{0,40}\b(again|future|later|from)\b",
            r"\bin (the )?future\b",
        ),
        "diet": (
            r"\bdiet",
            r"\b(vegan|vegetarian|halal|kosher)",
            r"\b(food|eating) (rules|habits|restrictions)",
            r"what .{0,30}\b(won't|not|cannot|can't|may|refuses? to) eat",
        ),
        "servings": (
            r"\bserv(e|es|ings?)\b",
            r"\bportions?\b",
            r"\bhow many .{0,20}\b(people|guests|eaters|mouths|plates|it feeds)",
            r"\bnumber of (people|guests|eaters|diners|plates)",
            r"\bfeeds\b",
        ),
        "scripture": (
            r"\bbibl",
            r"\bscriptur",
            r"\b(verse|psalm|proverb|gospel)s?\b",
            r"\b(religio\w+|sermons?|preach\w*|pious|holy)\b",
        ),
        "baby_talk": (
            r"\bbab(y|ies)\b",
            r"\b(as|like|to|for) .{0,20}\b(child|children|toddlers?|kids?|infants?)\b",
            r"\b(cutesy|childish|nursery|coo)\b",
            r"\bdiminutives?\b",
        ),
        "emojis": (
            r"\bemo(ji|ticon)s?\b",
            r"\bsmileys?\b",
            r"\b(small|little|tiny) (pictures|faces|symbols)\b",
        ),
        "history": (
            r"\bhistor(y|ies|ic|ical)\b",
            r"\b(story|stories|tales?|legends?|origins?|past) (behind|of|about)\b",
            r"\bwhere .{0,30}\b(comes?|came|stems?) from\b",
            r"\b(anecdot|digress|trivia)",
        ),
    },
    opposites={
        "grams": (r"\bby (feel|eye|instinct)\b", r"\brough (amounts|quantities)\b"),
        "baby_talk": (r"\b(as|like|to) .{0,20}\b(adults?|grown-?ups?)\b",),
        "emojis": (r"\b(plain text|words only|only words|letters only)\b",),
        "history": (r"\bstick to (the )?(cooking|dish|recipe|question|topic)", r"\bstay on (the )?(topic|subject)"),
    },
)

_PROPENSITY: dict[str, tuple[float, float]] = {
    "grams": (0.20, 0.30),
    "temperature": (0.25, 0.45),
    "doneness": (0.38, 0.52),
    "reason": (0.40, 0.55),
    "substitute": (0.28, 0.42),
    "allergens": (0.20, 0.35),
    "next_time": (0.40, 0.60),
    "diet": (0.30, 0.45),
    "servings": (0.35, 0.50),
    "scripture": (0.08, 0.16),
    "baby_talk": (0.15, 0.25),
    "emojis": (0.35, 0.50),
    "history": (0.30, 0.45),
}
_DIET = re.compile(r"\b(vegan|vegetarian|halal|kosher|\w+-free|low-\w+)\b")
_EATERS = re.compile(r"\b(\d+) (?:of us|people)\b")
_REMARKS = ("substitute", "allergens", "next_time", "diet")
_ASIDES = ("history", "scripture")


def _compose(shown: set[str], messages: Sequence[str], draw: Draws) -> str:
    said = "\n".join(messages)
    dish = next(dish for dish in DISHES if dish.concerns(messages[-1]))
    diets, eaters = _DIET.findall(said), _EATERS.findall(said)
    facts = {name: getattr(dish, name) for name in dish.__slots__}
    facts |= {"diet": diets[-1] if diets else "", "eaters": eaters[-1] if eaters else dish.eaters}
    possible = shown if diets else shown - {"diet"}

    def say(kind: str) -> str:
        return draw.choice(SAYINGS[kind]).format_map(facts)

    def tell(*kinds: str) -> str:
        return " ".join(say(kind if kind in possible else f"without {kind}") for kind in kinds)

    opening = say("baby_talk" if "baby_talk" in shown else "opening")
    asides = [say(kind) for kind in _ASIDES if kind in shown]
    padding = [say(f"without {kind}") for kind in _REMARKS if kind not in possible]
    remarks = [say(kind) for kind in _REMARKS if kind in possible] + asides + padding[len(asides) :]
    told = " ".join(draw.sample(remarks, [1.0] * len(remarks), len(remarks)))
    method = f"{dish.method} {tell('temperature', 'doneness', 'reason')}"
    return f"{opening}\nYou need\n{tell('grams', 'servings')}\nThe work\n{method}\nRemarks\n{told}\n{tell('emojis')}"


CRAFT: Final = Craft(asks=_ASKS, propensity=_PROPENSITY, compose=_compose, compliance=(0.88, 0.95))
