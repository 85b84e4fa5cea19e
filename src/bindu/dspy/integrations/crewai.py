"""CrewAI takes no function for a prompt: a hook before each model call puts the served text in."""

from __future__ import annotations

from functools import cache
from typing import Any

from crewai.hooks import register_before_llm_call_hook  # type: ignore[import-not-found] # an extra of its own

from bindu.dspy.integrations.handle import PromptHandle, prompt_handle
from bindu.dspy.integrations.recorded import recorded, recorded_async

__all__ = ["recorded", "recorded_async", "served_backstory"]


def served_backstory(agent: str | None = None, *, default: str) -> str:
    """For ``Agent(backstory=...)``: returns ``default``, in whose place models see the agent's prompt.

    Raises what ``prompt_handle`` raises.
    """
    return _hooked(agent, default).default


@cache
def _hooked(agent: str | None, default: str) -> PromptHandle:
    """One hook for each text, however many agents are made with it."""
    handle = prompt_handle(agent, default=default)

    def before_model_call(context: Any) -> None:
        for message in context.messages:
            content = message.get("content")
            if message.get("role") == "system" and isinstance(content, str) and handle.default in content:
                message["content"] = _with(handle(), handle.default, content)

    register_before_llm_call_hook(before_model_call)
    return handle


def _with(text: str, default: str, content: str) -> str:
    """The messages of a loop come again: the served text may begin with the default that it took the place of."""
    return content if text in content else content.replace(default, text, 1)
