"""Our headers, whose names are compared without regard to case, and the one rule for their values."""

from __future__ import annotations

from typing import Final

__all__ = ["CONVERSATION_ID", "KEY", "LONGEST", "PROMPT_NAME", "PROMPT_VERSION", "TASK_ID", "usable"]

PROMPT_NAME: Final = "X-Prompt-Name"  # the agent whose prompt it is
PROMPT_VERSION: Final = "X-Prompt-Version"  # of an answer: the prompt's number
CONVERSATION_ID: Final = "X-Conversation-Id"
TASK_ID: Final = "X-Task-Id"  # of an answer: the exchange, for feedback
KEY: Final = "X-Bindu-Key"  # where Authorization belongs to somebody else, as in the proxy

LONGEST: Final = 200  # characters of a name or an id


def usable(value: str | None) -> str | None:
    """The value, None for an empty or a too long one: cut, two conversations could become one."""
    return value if value and len(value) <= LONGEST else None
