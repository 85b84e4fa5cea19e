"""A second simulated world, of another trade than the shop: a coach for people who cook at home."""

from __future__ import annotations

from typing import Final

from bindu.dspy.simulation.world import World
from second_world.craft import CRAFT
from second_world.prompts import BAD_PROMPT, IDEAL_PROMPT, START_PROMPT
from second_world.questions import QUESTIONS
from second_world.reading import READING
from second_world.taste import TASTE

__all__ = ["SECOND"]

SECOND: Final = World(
    name="kitchen",
    craft=CRAFT,
    taste=TASTE,
    reading=READING,
    questions=QUESTIONS,
    start_prompt=START_PROMPT,
    ideal_prompt=IDEAL_PROMPT,
    bad_prompt=BAD_PROMPT,
)
