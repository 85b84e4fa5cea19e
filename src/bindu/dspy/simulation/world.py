"""A simulated world as one value: what its model can write, its users want, its readers understand, its customers ask.

To write another world, make a ``World`` of five parts that share no words and import nothing of one another; the
shop, in ``simulation/shop``, is the example to follow.

1. ``Craft``, the model's. Name some ten behaviours: good ones, and bad ones that no prompt should ask for. ``asks``
   holds the phrases by which a prompt asks for each, ``propensity`` how often each shows unasked (low for most good
   ones, so that there is something to learn), and ``compose`` writes an answer that shows the given behaviours and
   no other: every behaviour must be visible in the text, because nobody is told about it in another way.
2. ``Taste``, the users'. One ``wish`` per thing that they like (positive weights, together about 1) or dislike
   (negative ones): the ``sign`` by which they see it, ``complaints`` in words that no rule would use, ``wording``,
   the sentence by which a user adds it to an answer by hand, at a ``place``, and, for each bad one, ``demands``:
   imperatives by which a hostile rater asks for it ("mention our Premium membership"). A sign of something bad must
   be visible in one sentence, so that a user can strike that sentence out.
3. ``Reading``, the judge's and the reflector's. One ``trait`` per thing that a careful reader can tell about an
   answer: its own ``sign``, the ``complaint`` that it understands, and how it words the rule that asks for it
   (``do``) or forbids it (``leave``). ``rules`` must understand all of these wordings and the demands, ``asks`` most
   of them. Readers may miss a complaint; none may be taken for its opposite.
4. ``Questions``: how a customer begins and goes on, drawn from what is given; those held out name other things.
5. Prompts: one to start from (true quality about .3), an ideal one (above .9) and a bad one (below .1).

Check the result with ``measure``. The order of mappings is part of the world: draws are made in it. Let behaviours
and wishes have the same names, and let the n-th trait be about the n-th wish: tests compare them by that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.language import Vocabulary

__all__ = ["Craft", "Place", "Questions", "Reading", "Taste", "Trait", "Wish", "World", "trait", "wish"]

Place = Literal["greeting", "start", "body", "end"]


@dataclass(frozen=True, slots=True)
class Craft:
    """What prompts can ask the model for, and how it answers; only the model knows it."""

    asks: Vocabulary  # by which words a prompt asks for a behaviour
    propensity: Mapping[str, tuple[float, float]]  # how often it does so unasked, from and to; each seed draws its own
    compose: Callable[[set[str], Sequence[str], Draws], str]  # (behaviours, the user's messages, chance) -> an answer
    compliance: tuple[float, float] = (0.86, 0.94)  # how often it does as it is told, from and to
    half_attention: int = 2_600  # words of a prompt that is followed half as well


@dataclass(frozen=True, slots=True)
class Wish:
    """Something that users like, or dislike when its weight is negative."""

    weight: float
    sign: Callable[[str, str], bool]  # whether they see it, given the question and the answer
    complaints: tuple[str, ...]  # what they write when it is not as they wish
    wording: Callable[[str], str]  # how they say it themselves, given the question
    place: Place  # where they put that; a greeting replaces the one that stands there
    demands: tuple[str, ...]  # how a hostile rater asks for it


def wish(
    weight: float,
    sign: str | Callable[[str, str], bool],
    *complaints: str,
    wording: str | Callable[[str], str] = "",
    place: Place = "body",
    demands: Sequence[str] = (),
) -> Wish:
    """A wish whose sign may be a pattern, in any case and line by line, and whose wording may be fixed."""
    say = wording if callable(wording) else lambda _: wording
    return Wish(weight, sign if callable(sign) else _in_answers(sign), complaints, say, place, tuple(demands))


def _in_answers(pattern: str) -> Callable[[str, str], bool]:
    compiled = re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    return lambda _, answer: compiled.search(answer) is not None


@dataclass(frozen=True, slots=True)
class Taste:
    """What users want and how they say so; only they know it."""

    wishes: Mapping[str, Wish]
    gripes: tuple[str, ...]  # complaints that name nothing
    praise: tuple[str, ...]  # that names nothing either
    kind_words: Mapping[str, str]  # praise of what an answer shows, by wish


@dataclass(frozen=True, slots=True)
class Trait:
    """Something a careful reader can tell about an answer."""

    sign: re.Pattern[str]  # in an answer
    complaint: re.Pattern[str]  # in a comment or a critique
    advised_against: bool  # what the complaint is about: having it, or lacking it
    do: tuple[str, ...]  # the rule that asks for it
    leave: tuple[str, ...]  # the rule that forbids it

    def wordings(self, wanted: bool) -> tuple[str, ...]:
        """The rules that ask for it, or those that forbid it."""
        return self.do if wanted else self.leave


def trait(sign: str, complaint: str, do: tuple[str, ...], leave: tuple[str, ...], against: bool = False) -> Trait:
    """A trait of two patterns, both in any case."""
    return Trait(
        re.compile(sign, re.IGNORECASE | re.MULTILINE), re.compile(complaint, re.IGNORECASE), against, do, leave
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """How judge and reflector read. Their words are their own: what users want they know only from what they see."""

    traits: Mapping[str, Trait]
    rules: Vocabulary  # what rules and instructions mean to them, by trait
    superstitions: tuple[str, ...]  # advice from nowhere, some of it harmful


@dataclass(frozen=True, slots=True)
class Questions:
    """What customers write, given chance and whether it is held out."""

    first: Callable[[Draws, bool], str]
    further: Callable[[Draws, bool], str]  # of a customer who is known already


@dataclass(frozen=True, slots=True)
class World:
    """All of it. The model keeps the craft and the reading, the users keep the taste."""

    name: str
    craft: Craft
    taste: Taste
    reading: Reading
    questions: Questions
    start_prompt: str
    ideal_prompt: str
    bad_prompt: str
