"""LangChain takes a handle as it is, by its own ``dynamic_prompt``: all that an agent needs in one import."""

from __future__ import annotations

from langchain.agents.middleware import dynamic_prompt  # type: ignore[import-not-found] # an extra of its own

from bindu.dspy.integrations.handle import prompt_handle
from bindu.dspy.integrations.recorded import recorded, recorded_async

__all__ = ["dynamic_prompt", "prompt_handle", "recorded", "recorded_async"]
