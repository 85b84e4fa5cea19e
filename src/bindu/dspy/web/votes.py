"""One way for feedback from HTTP into the database, whatever protocol it came by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from bindu.dspy.arguments import shown
from bindu.dspy.collector import Opinion
from bindu.dspy.errors import UnknownTaskError
from bindu.dspy.recorder import Recorder
from bindu.dspy.telemetry import told_of_feedback
from bindu.dspy.web.problems import RETRY_SECONDS, Problem

__all__ = ["Store", "not_yet", "store_vote"]

Store = Callable[[str, Opinion], Awaitable[UUID | None]]  # of an agent; None for a task it does not have


async def store_vote(
    store: Store, agent_id: str, opinion: Opinion, recorder: Recorder | None = None, response_id: str | None = None
) -> UUID:
    """Store it and tell the exporters. ``recorder`` is what the exchange may still wait in: an answer through the
    proxy is quicker than its record.

    Raises UnknownTaskError, or Problem, 503, while the recorder is behind.
    """
    stored = await store(agent_id, opinion)
    if stored is None and recorder is not None:
        await recorder.flush()
        stored = await store(agent_id, opinion)
        if stored is None and recorder.is_behind:
            raise not_yet(opinion.task_id)
    if stored is None:
        raise UnknownTaskError(agent_id, opinion.task_id)
    told_of_feedback(agent_id, opinion.task_id, opinion.vote, response_id=response_id)
    return stored


def not_yet(task_id: object) -> Problem:
    """The refusal of feedback while exchanges wait on disk, of which it may be on one."""
    sentence = f"What {shown(task_id)} names is not stored yet, or unknown. Try again in a moment."
    return Problem(503, "storage_unavailable", sentence, {"Retry-After": str(RETRY_SECONDS)})
