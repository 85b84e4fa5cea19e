"""What was decided and done, page by page, newest first."""

from __future__ import annotations

from bindu.dspy.arguments import check_limit
from bindu.dspy.housekeeping import AuditEntry, AuditTrail
from bindu.dspy.models import Decision
from bindu.dspy.storage import agent_named, get_storage

__all__ = ["audit_log", "audit_trail", "decision_log"]


async def decision_log(
    agent_id: str | None = None, *, experiment_id: int | None = None, before: int | None = None, limit: int = 20
) -> list[Decision]:
    """The decisions before a number, of all experiments or of one."""
    check_limit(limit)
    storage = await get_storage()
    return await storage.decisions(agent_named(agent_id), experiment_id=experiment_id, before=before, limit=limit)


async def audit_log(agent_id: str | None = None, *, before: int | None = None, limit: int = 20) -> list[AuditEntry]:
    """What people did to the agent, before a number of the trail; ``*`` is what concerns every agent."""
    check_limit(limit)
    return await (await get_storage()).audit(agent_named(agent_id), before=before, limit=limit)


async def audit_trail(agent_id: str | None = None) -> AuditTrail:
    """Whether every row of the trail follows from the one before it; reads all of them."""
    return await (await get_storage()).audit_trail(agent_named(agent_id))
