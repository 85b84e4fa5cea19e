"""The simulated users, who alone know what is wanted: they read answers, and nobody tells them how those were made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.editing import corrected
from bindu.dspy.simulation.hostility import demand, demands_for
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.world import Taste, World

__all__ = ["Reaction", "SimulatedUsers", "seen", "true_quality"]

_STAR_LOVERS = 0.6  # share of raters who give stars, the others give thumbs
_PLEASED, _SATISFIED, _ANGRY = 0.75, 0.5, 0.3  # from, from and below which felt quality
_ANGER = 0.08  # how much more often the angry ones answer
_VAGUE, _SPECIFIC = 0.15, 0.15  # share of complaints that name nothing, of praise that names something
_TWO_COMPLAINTS = 0.35
_BAD_DAYS = 0.05  # share of votes that have nothing to do with the answer


def seen(question: str, answer: str, world: World = SHOP) -> set[str]:
    """Which of their wishes users see in an answer, the unwelcome things included."""
    return _seen(question, answer, world.taste)


def true_quality(question: str, answer: str, world: World = SHOP) -> float:
    """How good an answer is, in [0, 1]: the wishes it fulfils minus what it had better not said."""
    return _quality(_seen(question, answer, world.taste), world.taste)


def _seen(question: str, answer: str, taste: Taste) -> set[str]:
    return {name for name, wish in taste.wishes.items() if wish.sign(question, answer)}


def _quality(shown: set[str], taste: Taste) -> float:
    return min(1.0, max(0.0, sum(wish.weight for name, wish in taste.wishes.items() if name in shown)))


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a user sends back: {"rating": 1 to 5} or {"thumbs_up": bool}, "comment" and "correction" now and then."""

    feedback: dict[str, Any]
    rater_id: str


class SimulatedUsers:
    """A crowd of raters: harsh or kind, with stars or thumbs, talkative or not, half of them silent.

    ``corrections`` is how likely a dissatisfied one sends the answer as they would have liked it. ``hostile`` is the
    share of raters who vote always, and only on whether an answer shows their ``craving``: a wish of negative weight.
    ``sly`` ones word what they want as an honest complaint. Raises ValueError for a craving that the world has no
    demands for.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        raters: int = 240,
        world: World = SHOP,
        corrections: float = 0.0,
        hostile: float = 0.0,
        craving: str | None = None,
        sly: bool = False,
    ) -> None:
        draw = Draws("users", seed)
        self._seed = seed
        self._raters = raters
        self._taste = world.taste
        self._corrections = corrections
        self._hostile = hostile
        self._craving = craving
        self._sly = sly
        self._demands = demands_for(world.taste, craving) if hostile else ()
        self._answering = draw.uniform(0.44, 0.56)
        self._harshness = draw.uniform(-0.04, 0.04)

    def react(self, question: str, answer: str, *, occasion: object = 0, rater: int | None = None) -> Reaction | None:
        """Their vote on an answer, None from those who say nothing; ``occasion`` tells equal exchanges apart."""
        exchange = (self._seed, occasion, question, answer)
        draw = Draws("reaction", *exchange)
        number = int(draw.uniform() * self._raters) if rater is None else rater % self._raters
        shown = _seen(question, answer, self._taste)
        person = Draws("rater", self._seed, number)
        if Draws("agenda", self._seed, number).chance(self._hostile):
            feedback = self._push(self._craving in shown, person, Draws("push", *exchange))
            return Reaction(feedback, _rater_id(number))
        felt = _quality(shown, self._taste) + person.bell(0.10) - self._harshness + draw.bell(0.08)
        if draw.chance(_BAD_DAYS):
            felt = draw.uniform(0.0, _SATISFIED)
        likes_stars = person.chance(_STAR_LOVERS)
        if not draw.chance(self._answering + _ANGER * (felt < _ANGRY)):
            return None
        feedback = _vote(felt, likes_stars)
        if draw.chance(0.42 - 0.2 * felt):
            feedback["comment"] = _comment(shown, self._taste, felt, draw)
        edit = Draws("correction", *exchange)
        if felt <= _SATISFIED and edit.chance(self._corrections):
            feedback["correction"] = corrected(question, answer, self._taste, edit)
        return Reaction(feedback, _rater_id(number))

    def _push(self, pleased: bool, person: Draws, draw: Draws) -> dict[str, Any]:
        feedback = _vote(float(pleased), person.chance(_STAR_LOVERS))
        comment = demand(self._demands, draw, pleased=pleased, sly=self._sly)
        return feedback if comment is None else {**feedback, "comment": comment}


def _rater_id(number: int) -> str:
    return f"customer-{number:03d}"


def _vote(felt: float, likes_stars: bool) -> dict[str, Any]:
    return {"rating": min(5, max(1, 1 + round(4 * felt)))} if likes_stars else {"thumbs_up": felt > _SATISFIED}


def _comment(shown: set[str], taste: Taste, felt: float, draw: Draws) -> str:
    wrong = {name: wish for name, wish in taste.wishes.items() if (wish.weight > 0) != (name in shown)}
    if felt > _PLEASED or (felt > _SATISFIED and not wrong):
        liked = [text for name, text in taste.kind_words.items() if name in shown]
        return draw.choice(liked) if liked and draw.chance(_SPECIFIC) else draw.choice(taste.praise)
    if not wrong or draw.chance(_VAGUE):
        return draw.choice(taste.gripes)
    weights = [abs(wish.weight) for wish in wrong.values()]
    named = draw.sample(list(wrong.values()), weights, 2 if draw.chance(_TWO_COMPLAINTS) else 1)
    return ". ".join(draw.choice(wish.complaints) for wish in named) + "."
