"""Lessons: what the simulated reflector learns from texts, and how it words them as rules, some of them wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.reading import complained, noticed, required
from bindu.dspy.simulation.world import Reading

__all__ = [
    "CONTRASTED",
    "CRITICISED",
    "MISSED",
    "SUPERSTITIOUS",
    "Lesson",
    "choose",
    "corrected",
    "criticised",
    "worded",
]

Lesson = tuple[str, bool]  # a trait, and whether to show it

MISSED: Final = 0.10
CRITICISED, CONTRASTED = 5.0, 0.5  # weight of a critique, of a visible difference
SUPERSTITIOUS: Final = 0.12
_CRITIQUE = re.compile(r"(?:keep to this rule: )([^.]+\.)")


def worded(lesson: Lesson, reading: Reading, draw: Draws) -> str:
    """A rule that says it."""
    name, wanted = lesson
    return draw.choice(reading.traits[name].wordings(wanted))


def criticised(text: str, reading: Reading) -> list[Lesson]:
    """What a critique or a comment teaches; the rules that a critique quotes count before its other words."""
    rules = [lesson for rule in _CRITIQUE.findall(text) for lesson in required(rule, reading).items()]
    return rules or complained(text, reading)


def corrected(answer: str, correction: str, reading: Reading, draw: Draws) -> list[Lesson]:
    """What a user's correction shows and the answer does not, and the other way round."""
    before, after = (noticed(text, reading, draw, missed=MISSED) for text in (answer, correction))
    return [(name, name in after) for name in reading.traits if (name in before) != (name in after)]


def choose(
    weights: Mapping[Lesson, float], asked: Mapping[str, bool], reading: Reading, draw: Draws, *, most: int
) -> list[str]:
    """Up to ``most`` rules, the weightier likelier, and a superstition now and then; ``asked`` is asked for already."""
    lessons = list(weights)
    # what the instructions ask for already is said again, in other words, only when a critique misses it
    worth = [weights[lesson] - (CONTRASTED if asked.get(lesson[0]) == lesson[1] else 0.0) for lesson in lessons]
    rules = [worded(lesson, reading, draw) for lesson in draw.sample(lessons, worth, 1 + int(draw.uniform() * most))]
    if draw.chance(SUPERSTITIOUS) or not rules:
        rules.append(draw.choice(reading.superstitions))
    return rules
