"""When the active prompt has to face the pinned champion: small losses that no single experiment sees add up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from bindu.dspy.models import Experiment

__all__ = ["ORIGIN", "champion_due", "is_champion_test"]

ORIGIN: Final = "champion"  # of the prompt that holds a champion's text while it is tested


def is_champion_test(experiment: Experiment) -> bool:
    """Whether the candidate's text is that of an earlier champion."""
    return experiment.policy.get("champion") is True


def champion_due(experiments: Sequence[Experiment], *, now: datetime, promotions: int, days: float) -> int | None:
    """The champion's prompt id when the active prompt is to be tested against it now, else None.

    ``experiments`` are all of the agent, newest first. The champion is the winner of the last ended test of this kind
    (its candidate if that was promoted, else the prompt that was active), pinned when the test ended; before the first
    one it is the prompt that was active when the first experiment opened, pinned then. The test is due after
    ``promotions`` promotions since, and after ``days`` if there was one; 0 promotions switch it off.
    """
    if not promotions or not experiments or experiments[0].state == "running":
        return None
    last = next((place for place, one in enumerate(experiments) if is_champion_test(one)), None)
    since = experiments[:last]
    if last is None:
        champion_id, pinned_at = experiments[-1].active_id, experiments[-1].started_at
    else:
        test = experiments[last]
        champion_id = test.candidate_id if test.outcome == "promoted" else test.active_id
        pinned_at = test.ended_at
    won = sum(one.outcome == "promoted" for one in since)
    aged = pinned_at is not None and now - pinned_at >= timedelta(days=days)
    return champion_id if won >= promotions or (won and aged) else None
