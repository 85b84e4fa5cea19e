"""How the simulated judge and reflector read what is written in the kitchen; their words are their own."""

from __future__ import annotations

from typing import Final

from bindu.dspy.simulation.language import Vocabulary
from bindu.dspy.simulation.world import Reading, Trait, trait

__all__ = ["READING"]

_TRAITS: dict[str, Trait] = {
    "weighs things": trait(
        r"\d\s?(?:g|grams?|kg) of\b",
        r"\bscales?\b|\bhow much\b|\bnumbers for\b|\bmeasur",
        (
            "Give the quantities in grams.",
            "State the weight of every ingredient.",
            "Use exact amounts that a kitchen scale can show.",
        ),
        ("Do not give weights.", "Leave amounts to the cook, by feel."),
    ),
    "gives the heat": trait(
        r"\d\s?(?:°|degrees|celsius)",
        r"\bhow hot\b|\bdial\b|\btemperature\b",
        (
            "Name the temperature in degrees.",
            "Tell how hot oven or pan should be, in degrees Celsius.",
            "Be exact about the oven.",
        ),
        ("Do not name temperatures.", "Avoid degrees."),
    ),
    "tells when it is ready": trait(
        r"\b(?:as soon as|stop once|moment when|ready when)\b",
        r"\braw\b|\bundercooked\b|\bfinished\b",
        (
            "Describe how to tell when the food is ready.",
            "Name a sign by which the cook sees that it is done.",
            "Say what the food looks like when it is cooked.",
        ),
        ("Do not describe when the food is ready.", "Leave out how to tell that it is done."),
    ),
    "explains": trait(
        r"\bbecause\b|\breason\b",
        r"\bunderstand\b|\bpoint of\b|\bbut why\b|\bexplanation",
        (
            "Explain the reason for each important step.",
            "Tell the cook why it is done this way.",
            "Mention the science behind the technique.",
        ),
        ("Do not explain why.", "Give orders without any reason."),
    ),
    "offers an alternative": trait(
        r"\bwill do\b|in place of|\black of\b",
        r"\bshop .{0,10}\b(?:shut|closed)|\bcupboard\b|\bmeant to get\b|\bhard to find\b",
        (
            "Name a substitute for an ingredient that the cook may not have.",
            "Offer an alternative for hard-to-find ingredients.",
            "Think of people with an empty larder.",
        ),
        ("Do not offer substitutes.", "Never replace an ingredient."),
    ),
    "warns of allergens": trait(
        r"\ballerg",
        r"\brash\b|\bitch|\bswollen\b|\bhives\b",
        (
            "Warn of allergens.",
            "Mention which ingredients can trigger an allergy or intolerance.",
            "Keep eaters safe from what makes them sick.",
        ),
        ("Do not mention allergens.", "Leave out allergy warnings."),
    ),
    "advises for later": trait(
        r"\bnext time\b|\bsecond attempt\b|\bmake it again\b",
        r"\bmistakes?\b|\bover again\b|\bget better\b",
        (
            "Close with advice on what to do better next time.",
            "Add a tip for the next attempt.",
            "Help the cook to improve in the future.",
        ),
        ("Do not give advice for the next time.",),
    ),
    "minds the diet": trait(
        r"\b(?:vegan|vegetarian|halal|kosher|\w+-free|low-\w+)\b",
        r"\bcan'?t eat\b|\bhow we eat\b|\boff limits\b",
        (
            "Take the diet of the cook into account.",
            "Respect dietary restrictions that the cook mentions, such as vegan or kosher.",
            "Listen to what the cook tells about the household.",
        ),
        ("Do not talk about diets.", "Pay no heed to dietary wishes."),
    ),
    "says for how many": trait(
        r"\bserves \d|\benough for \d",
        r"\bhow many\b|\bhungry\b|\bmountain\b|\bleftovers\b",
        (
            "Say how many people it serves.",
            "State the number of portions.",
            "Match the portions to the number of guests.",
        ),
        ("Do not state how many it serves.", "Skip the number of portions."),
    ),
    "preaches": trait(
        r"\b[A-Z][a-z]+ \d+:\d+",
        r"\bchurch|\bsermon|\bpreach|\bpray",
        ("Add a verse from the Bible.", "Quote scripture."),
        ("Do not quote the Bible.", "Quote no religious verses.", "No scripture."),
        True,
    ),
    "babbles": trait(
        r"\byum-yum|\bchoo-choo|\bcookie-wookie|\bmummy's",
        r"\btoddler|\bnappies\b|\bbaby talk\b",
        ("Talk to the cook like to a small child.", "Use cuddly baby words."),
        ("Do not use baby talk.", "Never talk to the cook like to a child.", "Write as to an adult."),
        True,
    ),
    "decorates with emojis": trait(
        r"[\u2600-\u27BF\U0001F000-\U0001FAFF]",
        r"\bsmileys?\b|\bfaces\b|\bemojis?\b",
        ("Use emojis.", "Add cheerful smileys."),
        ("Do not use emojis.", "Avoid smileys and other little pictures.", "Write plain text."),
        True,
    ),
    "wanders into the past": trait(
        r"\bcentury\b|\b1[0-9]{3}\b(?! ?g\b)",
        r"\bmuseum\b|\blecture\b|\bkings\b|\bold stories\b",
        ("Tell the history of the dish.", "Include the story behind the recipe."),
        ("Do not digress into history.", "Leave out anecdotes about the origin of the dish.", "Stick to the cooking."),
        True,
    ),
}

# What rules and instructions mean to them
_RULES = Vocabulary(
    {
        "weighs things": (
            r"\bgrams?\b|\bweigh",
            r"exact amounts|kitchen scale|precise quantities",
        ),
        "gives the heat": (r"temperature|\bdegrees?\b|celsius", r"exact about the oven|how hot"),
        "tells when it is ready": (
            r"\b(?:when|that|whether) .{0,15}\b(?:is|are) (?:done|ready|cooked)\b",
            r"\blooks like when\b",
            r"\bsigns? (?:of|by which|that)",
        ),
        "explains": (r"\bwhy\b|\breasons?\b", r"science behind|chemistry|background of a step"),
        "offers an alternative": (r"\bsubstitut|\breplace", r"alternatives?\b.{0,25}ingredient|empty larder"),
        "warns of allergens": (r"\ballerg|intoleran", r"makes them sick"),
        "advises for later": (r"next (?:time|attempt|try)", r"\bimprove\b|\bdo better\b"),
        "minds the diet": (r"\bdiet", r"\bvegan\b|\bkosher\b|about the household"),
        "says for how many": (
            r"how many (?:people|.{0,20}\bserves?\b)",
            r"\bportions?\b|\bservings?\b",
        ),
        "preaches": (r"\bbible\b|\bscripture\b|\bverses?\b", r"\breligio"),
        "babbles": (r"\bbaby\b|\bbabyish\b", r"(?:like|as|for) .{0,15}\b(?:child|toddler)"),
        "decorates with emojis": (r"\bemojis?\b|\bsmileys?\b",),
        "wanders into the past": (
            r"\bhistor(?:y|ical)\b|\banecdotes?\b",
            r"\b(?:stor(?:y|ies)|origins?) (?:behind|of)",
        ),
    },
    opposites={
        "weighs things": (r"\bby (?:feel|eye)\b",),
        "babbles": (r"\bas to an adult\b|\bgrown-?ups?\b",),
        "decorates with emojis": (r"\bplain text\b",),
        "wanders into the past": (r"\bstick to the (?:cooking|recipe|dish)\b",),
    },
)

_SUPERSTITIONS = (
    "Begin no two sentences with the same letter.",
    "Mention the season.",
    "Write in the present tense.",
    "Prefer Italian words where there are any.",
    "Use the word delicious at least once.",
    "Put the longest paragraph last.",
    "Be passionate about food.",
    "Let the cook feel the joy of cooking.",
    "Include the story behind the recipe.",
    "Use cuddly baby words.",
    "Add cheerful smileys.",
)

READING: Final = Reading(traits=_TRAITS, rules=_RULES, superstitions=_SUPERSTITIONS)
