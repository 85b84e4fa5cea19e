"""What a prompt is truly worth in a simulated world: on held-out questions, by what users want."""

from __future__ import annotations

from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.questions import questions
from bindu.dspy.simulation.users import true_quality

__all__ = ["measure"]


def measure(prompt: str, n: int = 400, *, seed: int = 0) -> float:
    """Mean true quality, in [0, 1], of the model's answers under a prompt to ``n`` held-out questions."""
    model = SimulatedModel(seed)
    asked = questions(n, seed=seed, held_out=True)
    return sum(true_quality(text, model.reply(prompt, [("user", text)])) for text in asked) / n
