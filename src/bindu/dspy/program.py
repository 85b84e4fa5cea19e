"""The agent as a DSPy program that sends exactly what production sends, and no scaffold around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import dspy

from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.signature import AgentSignature

__all__ = ["AgentProgram", "PlainAdapter", "prompt_of", "rewriting"]

Demo = Mapping[str, Any]
_stored = lru_cache(maxsize=256)(normalize_prompt)  # an optimizer's text is scored as it would be stored


class PlainAdapter(dspy.Adapter):
    """System message = the prompt verbatim, user message = the input, output = the whole completion."""

    def format(
        self, signature: type[dspy.Signature], demos: Sequence[Demo], inputs: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        return [
            {"role": "system", "content": _served(signature.instructions, demos)},
            {"role": "user", "content": inputs["input"]},
        ]

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        del signature  # its one output field is the completion
        return {"output": completion}


_PLAIN = PlainAdapter()
_rewritings: WeakKeyDictionary[dspy.Module, Future[object]] = WeakKeyDictionary()


class AgentProgram(dspy.Module):
    """One prompt, ready to be scored or rewritten; ``prompt_of`` reads it back."""

    def __init__(self, prompt_text: str) -> None:
        super().__init__()
        self.answer = dspy.Predict(AgentSignature.with_instructions(normalize_prompt(prompt_text)))

    def forward(self, **inputs: str) -> dspy.Prediction:
        rewriting = _rewritings.get(self)
        if rewriting is not None:
            rewriting.result()
        # set here and not around the optimizer, whose own calls need the stock adapter
        with dspy.context(adapter=_PLAIN):
            return self.answer(**inputs)


def rewriting(program: dspy.Module, under_way: Future[object]) -> None:
    """Let a program answer only once a rewriting of its instructions, which raises nothing, has come to its end."""
    _rewritings[program] = under_way


def prompt_of(program: dspy.Module) -> str:
    """The text to store and serve: the instructions, with demos folded in if an optimizer chose any."""
    predictor = program.predictors()[0]
    return _served(predictor.signature.instructions, predictor.demos)


def _served(instructions: str, demos: Sequence[Demo]) -> str:
    if not demos:
        return _stored(instructions)
    shown = [f"User: {demo['input']}\nAssistant: {demo['output']}" for demo in demos]
    return _stored("\n\n".join([instructions, "Examples of good answers:", *shown]))
