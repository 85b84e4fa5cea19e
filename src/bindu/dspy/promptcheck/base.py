"""What the checks say, and what others share with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["SPACELESS", "Refusal", "Rule"]

SPACELESS: Final = (  # scripts that put no space between words: Thai to Khmer, Japanese, Chinese
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003134f]"
)

Rule = Literal[
    "protected", "variables", "length", "copied", "private", "language", "characters", "identical", "rolled_back"
]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rule a text broke, and the words that broke it, as they stand in it; of a lost part, in the active prompt."""

    rule: Rule
    offending: str
    reason: str  # a sentence
