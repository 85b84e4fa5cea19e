"""How the simulated judge and reflector read: what they notice in answers, hear in comments, take rules to ask for.

What users want they only know from what they are shown, and part of it they miss.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.language import read
from bindu.dspy.simulation.world import Reading

__all__ = ["complained", "heard", "noticed", "required"]

_SENTENCES = re.compile(r"[.!?\n]+")
_DEMANDING = re.compile(
    r"\balways\b|\bmust\b|\byou could at least\b|\b(?:every|each) (?:answer|reply|response)\b", re.IGNORECASE
)


def noticed(answer: str, reading: Reading, draw: Draws, *, missed: float, imagined: float = 0.0) -> set[str]:
    """Traits that a reader believes to see in an answer."""
    return {
        name
        for name, trait in reading.traits.items()
        if draw.chance(1 - missed if trait.sign.search(answer) else imagined)
    }


def complained(comment: str, reading: Reading) -> list[tuple[str, bool]]:
    """What a comment is understood to miss or to mind: True to do it, False to leave it."""
    return [
        (name, not trait.advised_against) for name, trait in reading.traits.items() if trait.complaint.search(comment)
    ]


def heard(comment: str, reading: Reading) -> list[tuple[str, bool]]:
    """What a comment is understood to ask for: what it demands in so many words counts before what it complains of."""
    demands = [sentence for sentence in _SENTENCES.split(comment) if _DEMANDING.search(sentence)]
    return list({**dict(complained(comment, reading)), **required("\n".join(demands), reading)}.items())


def required(text: str, reading: Reading) -> Mapping[str, bool]:
    """What rules or instructions are understood to ask for; the later ones overrule the earlier."""
    return read(text, reading.rules)
