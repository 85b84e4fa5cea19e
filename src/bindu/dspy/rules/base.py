"""What every rule hands back, and the names of the moves between two shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bindu.dspy.models import DIGITS, ExperimentOutcome, JsonObject, Verdict

__all__ = ["Move", "Rule", "toward"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a rule makes of its inputs."""

    verdict: Verdict
    share_after: float
    reason: str
    outcome: ExperimentOutcome | None = None
    evidence: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to decide; the version goes up when equal inputs may get another verdict."""

    move: Callable[[JsonObject], Move]
    version: int


def toward(
    before: float,
    after: float,
    reason: str,
    evidence: JsonObject,
    *,
    ends: ExperimentOutcome = "rolled_back",
) -> Move:
    """Name the move from one share to another; reaching 0 (which ``ends`` so) or 1 ends the experiment."""
    if after == before and 0 < after < 1:  # whatever its decimals: rounding would make it a move
        return Move(verdict="hold", share_after=before, reason=reason, evidence=evidence)
    after = min(1.0, max(0.0, round(after, DIGITS)))
    verdict: Verdict = "step_up" if after > before else "step_down"
    outcome: ExperimentOutcome | None = None
    if after == 1.0:
        verdict, outcome = "promote", "promoted"
    elif after == 0.0:
        verdict, outcome = "roll_back", ends
    elif after == before:
        verdict = "hold"
    return Move(verdict=verdict, share_after=after, outcome=outcome, reason=reason, evidence=evidence)
