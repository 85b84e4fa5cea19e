"""A real model, by one client and one attempt."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Final, Protocol

import dspy
from dspy import lm15

__all__ = ["InnerEngine", "ProviderEngine"]

_THINKS: Final = re.compile(r"(?:^|/)(?:o[134]|gpt-5)(?:$|[-.])")  # OpenAI's that refuse any temperature but their own


class InnerEngine(Protocol):
    """DSPy 3.4's engine contract, the part that training needs: one attempt, one answer, errors raised."""

    def complete(self, request: lm15.Request) -> lm15.Response: ...


class ProviderEngine:
    """A real model by its DSPy name, ``provider/model``, through whichever client DSPy has for it."""

    def __init__(
        self, model: str, *, api_base: str | None = None, api_key: str | None = None, lm: dspy.LM | None = None
    ) -> None:
        """``lm`` is a user's own language model, whose client is used as it is."""
        # litellm would fetch a price list from the network when DSPy falls back to it
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        client = {"api_base": api_base, "api_key": api_key}
        given = {key: value for key, value in client.items() if value}
        self.model = model
        self._lm = lm or dspy.LM(model, cache=False, num_retries=0, **given)

    def complete(self, request: lm15.Request) -> lm15.Response:
        if _THINKS.search(self.model):
            request = replace(request, config=replace(request.config, temperature=None))
        with dspy.context(disable_history=True, callbacks=[]):
            answer: lm15.Response = self._lm(replace(request, model=self.model))
        return answer
