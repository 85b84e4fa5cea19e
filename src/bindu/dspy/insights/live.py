"""What happens now: the newest votes, what they are about, and whether anything has changed."""

from __future__ import annotations

from uuid import UUID

from bindu.dspy.arguments import check_limit
from bindu.dspy.errors import UnknownTaskError
from bindu.dspy.reports import LatestVote, Pulse, StoredTask
from bindu.dspy.storage import agent_named, get_storage

__all__ = ["newest_votes", "pulse", "recorded_task"]

LONGEST = 500  # characters of a question or a comment in a list


async def newest_votes(
    agent_id: str | None = None, *, before: UUID | None = None, limit: int = 30, longest: int = LONGEST
) -> list[LatestVote]:
    """The agent's newest votes, newest first, those before an id; their texts are cut to ``longest`` characters."""
    check_limit(limit)
    storage = await get_storage()
    return await storage.latest_votes(agent_named(agent_id), before=before, limit=limit, longest=longest)


async def recorded_task(task_id: UUID, *, agent_id: str | None = None) -> StoredTask:
    """One exchange as it was recorded. Raises UnknownTaskError."""
    agent = agent_named(agent_id)
    found = await (await get_storage()).task(agent, task_id)
    if found is None:
        raise UnknownTaskError(agent, task_id)
    return found


async def pulse(agent_id: str | None = None) -> Pulse | None:
    """What changes whenever a page about the agent would, at the same cost for any log; None before bootstrap."""
    return await (await get_storage()).pulse(agent_named(agent_id))
