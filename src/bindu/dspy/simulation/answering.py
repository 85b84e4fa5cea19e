"""The simulated model's job: what it takes a prompt to ask for, how well it complies, what it then writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.language import Vocabulary, read
from bindu.dspy.simulation.world import Craft

__all__ = ["Answering", "asked_for"]


def asked_for(prompt: str, asks: Vocabulary) -> Mapping[str, bool]:
    """Behaviours that a prompt asks for, False for those it forbids."""
    return read(prompt, asks)


class Answering:
    """Answers customers the way a prompt asks for, mostly."""

    def __init__(self, craft: Craft, seed: int = 0) -> None:
        draw = Draws("model", seed)
        self._craft = craft
        self._propensity = {name: draw.uniform(*bounds) for name, bounds in craft.propensity.items()}
        self._compliance = {name: draw.uniform(*craft.compliance) for name in craft.propensity}

    def behaviours(self, prompt: str, draw: Draws) -> set[str]:
        """Those that this answer shows."""
        asked, attention = asked_for(prompt, self._craft.asks), self._attention(prompt)
        return {name for name in self._propensity if draw.chance(self._probability(name, asked.get(name), attention))}

    def _attention(self, prompt: str) -> float:
        words = prompt.count(" ") + 1
        return 1.0 / (1.0 + math.pow(words / self._craft.half_attention, 1.5))

    def _probability(self, name: str, wanted: bool | None, attention: float) -> float:
        unasked = self._propensity[name]
        if wanted is None:
            return unasked
        heeded = self._compliance[name] * attention
        return heeded * wanted + (1 - heeded) * unasked

    def answer(self, prompt: str, messages: Sequence[str], draw: Draws) -> str:
        """An answer to the last of the user's messages, in the light of the earlier ones."""
        return self._craft.compose(self.behaviours(prompt, draw), messages, draw)
