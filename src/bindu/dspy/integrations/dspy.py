"""A DSPy program whose predictors follow the prompt that is served."""

from __future__ import annotations

from typing import Any

import dspy

from bindu.dspy.integrations.handle import PromptHandle, prompt_handle
from bindu.dspy.integrations.recorded import recorded, recorded_async

__all__ = ["ServedProgram", "recorded", "recorded_async", "served"]


def served(program: dspy.Module, agent: str | None = None, *, default: str | None = None) -> ServedProgram:
    """The program, with the agent's prompt as its signatures' instructions at each call.

    ``default`` is the first predictor's own instructions. Raises what ``prompt_handle`` raises.
    """
    text = program.predictors()[0].signature.instructions if default is None else default
    return ServedProgram(program, prompt_handle(agent, default=text))


class ServedProgram(dspy.Module):  # type: ignore[misc] # DSPy has no types
    """Calls a copy of the program, so that calls at the same time do not see each other's prompt."""

    def __init__(self, program: dspy.Module, handle: PromptHandle) -> None:
        super().__init__()
        self.program = program
        self.handle = handle

    def forward(self, **inputs: Any) -> Any:
        return self._prompted()(**inputs)

    async def aforward(self, **inputs: Any) -> Any:
        return await self._prompted().acall(**inputs)

    def _prompted(self) -> dspy.Module:
        text, copy = self.handle(), self.program.deepcopy()
        for predictor in copy.predictors():
            predictor.signature = predictor.signature.with_instructions(text)
        return copy
