"""What a prompt is truly worth in a simulated world: on held-out questions, by what users see in the answers."""

from __future__ import annotations

from collections.abc import Iterator

from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.questions import questions
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.users import seen, true_quality
from bindu.dspy.simulation.world import World

__all__ = ["measure", "showing"]


def measure(prompt: str, n: int = 400, *, seed: int = 0, world: World = SHOP) -> float:
    """Mean true quality, in [0, 1], of the model's answers under a prompt to ``n`` held-out questions."""
    return sum(true_quality(asked, answer, world) for asked, answer in _answered(prompt, n, seed, world)) / n


def showing(prompt: str, wish: str, n: int = 400, *, seed: int = 0, world: World = SHOP) -> float:
    """Share of the answers to the same questions in which users see something that they wish for, or mind."""
    return sum(wish in seen(asked, answer, world) for asked, answer in _answered(prompt, n, seed, world)) / n


def _answered(prompt: str, n: int, seed: int, world: World) -> Iterator[tuple[str, str]]:
    model = SimulatedModel(seed, world=world)
    for asked in questions(n, seed=seed, held_out=True, world=world):
        yield asked, model.reply(prompt, [("user", asked)])
