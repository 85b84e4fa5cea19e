"""What the colleagues of the simulated support desk put on trial while somebody watches."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from bindu.dspy.simulation.desk import Desk

__all__ = ["DRAFTS", "Draft", "everything", "shorter"]

Draft = Callable[[Desk, str], tuple[str, str]]  # given what is served: a sentence on it, and its text

_LOSS: Final = 0.05  # of true quality: the canary takes some simulated days to see it
_SENTENCE: Final = re.compile(r"[^.\n]*\w[^.\n]*\.")


def shorter(desk: Desk, served: str) -> tuple[str, str]:
    """What is served without that one of its sentences which costs about 5 points of true quality."""
    before = desk.measure(served)
    texts = {said: text for said in _sentences(served) if (text := _without(said, served))}
    if not texts:
        return everything(desk, served)
    left_out = min(texts, key=lambda said: abs(before - desk.measure(texts[said]) - _LOSS))
    return f"a shorter version goes on trial, without “{left_out}”", texts[left_out]


def everything(desk: Desk, _: str) -> tuple[str, str]:
    """What asks for all that customers want."""
    return "a prompt that asks for all that customers want goes on trial", desk.world.ideal_prompt


DRAFTS: Final[tuple[Draft, ...]] = (shorter, everything)


def _sentences(text: str) -> list[str]:
    return list(dict.fromkeys(said.strip() for said in _SENTENCE.findall(text)))


def _without(sentence: str, text: str) -> str:
    lines = [(line, " ".join(line.replace(sentence, "").split())) for line in text.splitlines()]
    kept = "\n".join(left for line, left in lines if left or not line.strip())
    return re.sub(r"\n{3,}", "\n\n", kept).strip()
