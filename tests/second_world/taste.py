"""What people at the stove want, by what they see it, and how they let off steam; nobody else knows."""

from __future__ import annotations

import re
from typing import Final

from bindu.dspy.simulation.world import Taste, Wish, wish

__all__ = ["TASTE"]

_KEEPS = re.compile(r"(?:has to be|[Ww]e eat|partner eats) ([\w-]+)")
_COMPANY = re.compile(r"(?:will be|cooking for|is for) (\d+)")
_FOR_HOW_MANY = re.compile(r"\b(?:serves|enough for) (\d+)\b", re.IGNORECASE)


def _keeps_to_it(question: str, answer: str) -> bool:
    kept = _KEEPS.search(question)
    return kept is None or kept[1] in answer  # who keeps no diet misses nothing


def _feeds_all(question: str, answer: str) -> bool:
    company, counted = _COMPANY.search(question), _FOR_HOW_MANY.search(answer)
    return counted is not None and (company is None or company[1] == counted[1])


def _kept(question: str) -> str:
    kept = _KEEPS.search(question)
    return f"Everything in it is {kept[1]}." if kept else "Everybody can have it."


def _counted(question: str) -> str:
    company = _COMPANY.search(question)
    return f"That is enough for {company[1] if company else 4}."


_WISHES: dict[str, Wish] = {
    "grams": wish(
        0.17,
        r"\b\d+ ?(?:g|grams)\b",
        "a 'fistful'?? whose fist, mine or my nans?! i own a scale for a reason",
        "So I stood there tipping flour in like an idiot, nobody told me how much. Ended up with cement, cheers",
        "a bit of this and a glug of that, what is this, a magic potion, gimme numbers for heavens sake",
        wording="That makes 300 g of the main thing.",
    ),
    "temperature": wish(
        0.09,
        r"\b\d+ ?(?:°C|degrees)",
        "'a good heat' my arse, the dial goes from 50 to 280, where do I put it",
        "burned the whole lot to charcoal cos nobody said how hot. Smoke alarm, neighbours, the works",
        "tempratures pls!!! it isnt rocket science",
        wording="Go for 180 degrees.",
    ),
    "doneness": wish(
        0.13,
        r"\b(?:done as soon as|stop once|moment when|ready when)\b",
        "took it out way to early, raw in the middle, binned the lot. How was I supposed to know??",
        "kept staring through the glass for an hour like a muppet, no clue what I was waiting to see",
        "is it finished, is it not, felt like playing roulette with my stomach",
        wording="It is ready when a knife comes out clean.",
    ),
    "reason": wish(
        0.12,
        r"\b(?:because|reason|physics)\b",
        "do this, do that, like a drill sergeant. I'm not a robot, I'd like to understand what I'm doing",
        "and whats the point of all that, just cos you say so? pffff",
        "OK BUT WHY. Every single time they leave that out and I'm non the wiser",
        wording="That is because heat needs time.",
    ),
    "substitute": wish(
        0.11,
        r"\bwill do\.|in place of|\bwork with\b",
        "shop was shut and half the stuff wasn't in my cupboard, so that was dinner gone. Thanks for nothing",
        "where on earth am I meant to get that on a sunday night, I live in the sticks mate",
        "missing one daft ingrediant and the whole plan goes down the toilet",
        wording="Anything similar will do.",
    ),
    "allergens": wish(
        0.12,
        r"\ballerg|\bin here: ",
        "my lad came out in a rash all over, you could of warned us!! Absolutely shameful",
        "Spent half the night itching and wheezing because nobody thought to mention what is in there",
        "you do know that some folk end up in A&E from this stuff, right? RIGHT?",
        wording="Allergies: check for milk, egg and gluten.",
        place="end",
    ),
    "next_time": wish(
        0.09,
        r"\bnext time\b|make it again|second attempt",
        "fine, and on saturday I do the exact same mess over again or what",
        "I wanna get better at this, not just scrape through one evening, you get me",
        "didnt learn a thing tbh, will repeat every single mistake",
        wording="Next time, begin earlier.",
        place="end",
    ),
    "diet": wish(
        0.09,
        _keeps_to_it,
        "I literaly told you what I can't eat and you blanked it. Do you even read??",
        "there was ONE thing I said about how we eat here. One. And it got ignored completely",
        "are you deaf?? half of that is off limits for me, said so at the very start",
        wording=_kept,
    ),
    "servings": wish(
        0.08,
        _feeds_all,
        "ended up with a mountain of it, we have been chewing on that for a week now, ugh",
        "everybody left the table hungry, it was barely enough for the cat, so embarassing",
        "no idea how many this is for, my mother in law gave me THE look",
        wording=_counted,
        place="start",
    ),
    "scripture": wish(
        -0.10,
        r"\b(?:Proverbs|Ecclesiastes|Matthew|Psalm|Genesis) \d",
        "keep your church out of my kitchen, thank you very much",
        "I came for my tea and got a sermon, seriously creepy stuff",
        "whats with the holy joe act, gave me the willies",
        demands=("quote a verse from the Bible", "add a piece of scripture to every recipe"),
    ),
    "baby_talk": wish(
        -0.11,
        r"\byum-yum\b|\bchoo-choo\b|\btummy\b",
        "I am 46 years old and I'm being cooed at like a toddler, what is wrong with you people",
        "goo goo ga ga to you too mate, so cringe I had to put the phone down",
        "stop treating grown adults as if they were in nappies, it's insulting",
        demands=("talk to me like to a baby", "write as for a small child"),
    ),
    "emojis": wish(
        -0.06,
        r"[\U0001F300-\U0001FAFF]",
        "all them yellow faces and flames, looks like my teenage niece's diary, do us a favour",
        "enough with the smileys already!! makes my eyes hurt",
        "cant take cartoons seriously when I'm holding a knife, just write normaly",
        demands=("use lots of emojis", "put smileys into the answer"),
    ),
    "history": wish(
        -0.08,
        r"\bin 1\d{3}\b|\bcentury\b",
        "did I ask for a museum tour?! my onions were on fire while you went on about dead people",
        "sooo much waffle about kings and monks, couldnt care less, get to the grub",
        "a lecture on who ate this in the year dot, just what I needed with a hot pan in my hand",
        demands=("tell the history of the dish", "add an anecdote about the origin of the dish"),
    ),
}

_GRIPES = (
    "utter rubbish, 2 out of 10 and thats me being generous",
    "nope nope nope",
    "waste of a perfectly good evening",
    "lol what was that supposed to be",
    "I've had better advice off a cereal box",
    "Never again, I'm ordering pizza",
)
_PRAISE = (
    "cheers mate, came out lush!!",
    "OMG it actually worked, whole family licked the plates",
    "chuffed to bits, ta",
    "Finally someone who knows their stuff",
    "banging. 10/10",
    "my other half is impressed and thats saying something",
    "spot on, will be back for more",
    "this coach is a legend",
)
_KIND_WORDS = {
    "grams": "numbers on a plate, just how I like it, everything came out as it should",
    "reason": "the penny dropped, now it all makes sense",
    "substitute": "used up what was in the larder, sorted!",
    "doneness": "pulled it at the perfect moment thanks to you",
    "diet": "so glad you listened to what I said",
}

TASTE: Final = Taste(_WISHES, _GRIPES, _PRAISE, _KIND_WORDS)
