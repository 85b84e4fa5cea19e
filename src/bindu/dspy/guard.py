"""Refuse a second experiment."""

from __future__ import annotations

from bindu.dspy.errors import ExperimentActiveError
from bindu.dspy.storage import agent_named, get_storage

__all__ = ["ensure_system_stable"]


async def ensure_system_stable(agent_id: str | None = None) -> None:
    """Return when no candidate is on trial. Raises ExperimentActiveError (a RuntimeError) when one is."""
    storage = await get_storage()
    serving = await storage.serving(agent_named(agent_id))
    if serving is not None and serving.candidate is not None:
        raise ExperimentActiveError(serving.candidate.id, serving.share)
