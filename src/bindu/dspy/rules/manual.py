"""Somebody's word."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from bindu.dspy.models import ExperimentOutcome, JsonObject
from bindu.dspy.rules.base import Move, toward

__all__ = ["ManualInputs", "move"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualInputs:
    """The share that a person asked for, or that the experiment be paused or resumed."""

    share: float
    asked: float
    reason: str
    pausing: Literal["pause", "resume"] | None = None
    ends: ExperimentOutcome = "rolled_back"  # if the share that was asked for is 0


def move(inputs: JsonObject) -> Move:
    """Do as was asked."""
    seen = msgspec.convert(inputs, ManualInputs)
    asked = toward(seen.share, seen.asked, seen.reason, {}, ends=seen.ends)
    return asked if seen.pausing is None else replace(asked, verdict=seen.pausing)
