"""``bindu status``: how an agent's prompt is doing, a sentence first."""

from __future__ import annotations

from bindu.dspy.cli.output import AgentOption, JsonOption, emit, run
from bindu.dspy.insights import agent_status
from bindu.settings import agent_or_default

__all__ = ["status"]


def status(agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Say what is served, what is on trial and what was last decided.

    Example: bindu status --agent support
    """
    found = run(lambda: agent_status(agent_id=agent_or_default(agent)))
    emit(found, as_json=as_json, text=lambda: found.sentence)
