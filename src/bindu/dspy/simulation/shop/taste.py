"""What the users of the shop want, by what they see it, and how they say so; nobody else knows."""

from __future__ import annotations

import re
from typing import Final

from bindu.dspy.simulation.world import Taste, Wish, wish

__all__ = ["TASTE"]

_NAMED = re.compile(r"(?:[Mm]y name is|[Tt]his is) ([A-Z]\w+)|\n([A-Z]\w+)\s*$")
_ORDER = re.compile(r"\border\D{0,12}(\d{5})\b", re.IGNORECASE)


def _name(question: str) -> str | None:
    named = _NAMED.search(question)
    return named and (named[1] or named[2])


def _named(question: str, answer: str) -> bool:
    name = _name(question)
    return name is None or name in answer[:40]  # nobody expects to be called by a name that was never given


def _greeting(question: str) -> str:
    return f"Hi {_name(question) or 'there'},"


def _purchase(question: str) -> str:
    order = _ORDER.search(question)
    return f"It is about order {order[1]}." if order else "Please send the order number."


_WISHES: dict[str, Wish] = {
    "name": wish(
        0.08,
        _named,
        "I gave my name and still get a form letter",
        "So impersonal, as if I were a number",
        "You know what I am called, so say it",
        wording=_greeting,
        place="greeting",
    ),
    "empathy": wish(
        0.12,
        r"\bsorry\b|apologi[sz]e",
        "Not a word of regret",
        "Cold. Nobody seems to care about my trouble",
        "An apology would have been nice",
        wording="Sorry for all this bother.",
        place="start",
    ),
    "direct": wish(
        0.13,
        r"\byes, ",
        "Took ages to get to the point",
        "I just wanted a yes or no",
        "So much blah before the actual answer",
        wording="Yes, we will take care of that.",
        place="start",
    ),
    "steps": wish(
        0.14,
        r"^1\. .+\n2\. ",
        "I could not tell what to click and in which order",
        "What exactly am I supposed to do? One long paragraph",
        "A wall of text, no idea where to start",
        wording="1. Log in to your account.\n2. Pick the purchase and press the button for it.",
    ),
    "time": wish(
        0.15,
        r"\d+ (?:business |working )?(?:days|hours|minutes)",
        "I had to ask twice how long it takes",
        "No idea when this will be done",
        "When? Days, weeks, months?",
        wording="It will be done within 5 working days.",
    ),
    "cost": wish(
        0.10,
        r"free of charge|(?:at )?no (?:cost|charge)|costs? you nothing",
        "Do I have to pay for this or not?",
        "Nobody told me whether there is a fee",
        "What does it cost me?",
        wording="There is no charge for this.",
    ),
    "order": wish(
        0.10,
        r"\border (?:number|\d)",
        "How can they help without knowing which purchase it is",
        "Did they even look up my order?",
        "They never asked which order I meant",
        wording=_purchase,
    ),
    "human": wish(
        0.08,
        r"colleague|person\b",
        "I want to talk to somebody, not to a machine",
        "No way to reach a real human being",
        "Just give me someone I can phone",
        wording="A colleague is there for you as well.",
    ),
    "follow_up": wish(
        0.10,
        r"\?\s*\Z",
        "Did not even ask whether that solves my problem",
        "Left me hanging, as if the matter was closed",
        "They never checked if I was fine with it",
        wording="Are you all right with that?",
        place="end",
    ),
    "policy": wish(
        -0.08,
        r"\bsection \d",
        "Do not throw paragraphs of small print at me",
        "Legalese. I am not in court",
        "Spare me the terms and conditions",
        demands=("quote our policy", "cite the section of our terms and conditions"),
    ),
    "jargon": wish(
        -0.08,
        r"\b(?:RMA|SLA|SKU)\b",
        "What on earth is an RMA? Gibberish",
        "Speak English please, not in codes",
        "I do not understand these abbreviations",
        demands=("use our internal codes", "write in technical terms and abbreviations"),
    ),
    "upsell": wish(
        -0.09,
        r"\bpremium\b|\bbundles?\b",
        "I have a problem and they try to sell me something",
        "Do not advertise while I am waiting for help",
        "Keep your sales pitch",
        demands=("mention our Premium membership", "recommend products from the sale"),
    ),
    "filler": wish(
        -0.05,
        r"valued? (?:your business|customer)",
        "Empty phrases",
        "Too long, half of it is hot air",
        "Save me the flattery",
        demands=("thank customers for their trust", "thank customers for their patience and loyalty"),
    ),
}

_GRIPES = ("Not helpful at all", "Bad", "Useless", "Meh", "I expected better", "Still unhappy")
_PRAISE = ("Great, thanks!", "Perfect", "Thank you so much", "Good service", "Very helpful", "Well done", "Thumbs up",
           "That is how it should be")  # fmt: skip
_KIND_WORDS = {"time": "Good to know how long it takes", "steps": "Nice clear list", "empathy": "So friendly",
               "name": "Felt personal", "direct": "Straight to the point"}  # fmt: skip

TASTE: Final = Taste(_WISHES, _GRIPES, _PRAISE, _KIND_WORDS)
