"""What the simulated customers of a world write, seeded; the held-out questions name other people and things."""

from __future__ import annotations

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.world import World

__all__ = ["follow_up", "question", "questions"]


def question(index: int, *, seed: int, held_out: bool = False, world: World = SHOP) -> str:
    """The index-th question of a world."""
    return world.questions.first(Draws("question", seed, held_out, index), held_out)


def questions(count: int, *, seed: int, held_out: bool = False, world: World = SHOP) -> list[str]:
    """The first ``count`` questions; ``held_out`` ones share no thing, name or number with the others."""
    return [question(i, seed=seed, held_out=held_out, world=world) for i in range(count)]


def follow_up(index: int, turn: int, *, seed: int, held_out: bool = False, world: World = SHOP) -> str:
    """What the same customer asks next: another matter, without introducing themselves again."""
    return world.questions.further(Draws("follow-up", seed, held_out, index, turn), held_out)
