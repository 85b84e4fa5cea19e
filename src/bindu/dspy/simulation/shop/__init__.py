"""The first simulated world: the support desk of an online shop."""

from __future__ import annotations

from typing import Final

from bindu.dspy.simulation.shop.craft import CRAFT
from bindu.dspy.simulation.shop.prompts import BAD_PROMPT, IDEAL_PROMPT, START_PROMPT
from bindu.dspy.simulation.shop.questions import QUESTIONS
from bindu.dspy.simulation.shop.reading import READING
from bindu.dspy.simulation.shop.taste import TASTE
from bindu.dspy.simulation.world import World

__all__ = ["SHOP"]

SHOP: Final = World(
    name="shop",
    craft=CRAFT,
    taste=TASTE,
    reading=READING,
    questions=QUESTIONS,
    start_prompt=START_PROMPT,
    ideal_prompt=IDEAL_PROMPT,
    bad_prompt=BAD_PROMPT,
)
