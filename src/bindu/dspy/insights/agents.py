"""Which agents there are."""

from __future__ import annotations

from bindu.dspy.storage import get_storage

__all__ = ["agent_list"]


async def agent_list() -> list[str]:
    """The agents that have a prompt, sorted."""
    return await (await get_storage()).agent_ids()
