"""Ways to decide: each a pure function of the inputs that are stored with its decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bindu.dspy.rules import evidence, manual, means
from bindu.dspy.rules.base import Rule

__all__ = ["RULES"]

RULES: Final[Mapping[str, Rule]] = {
    "evidence": Rule(evidence.move, version=1),
    "means": Rule(means.move, version=1),
    "manual": Rule(manual.move, version=1),
}
