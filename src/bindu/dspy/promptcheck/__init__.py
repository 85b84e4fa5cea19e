"""The text of a prompt: how it is stored, and what an optimizer may not do to it. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

from bindu.dspy.errors import InvalidPromptError
from bindu.dspy.promptcheck.base import SPACELESS, Refusal, Rule

__all__ = ["SPACELESS", "Refusal", "Rule", "check_prompt", "normalize_prompt", "same_text"]


def normalize_prompt(text: str) -> str:
    """Return the text as it is stored, scored and served: what DSPy's cleandoc leaves alone.

    Raises InvalidPromptError for what is no text, an empty text, and characters that no database or model takes.
    """
    if not isinstance(text, str):
        raise InvalidPromptError(f"A prompt is a text, not {type(text).__name__}.")
    if "\x00" in text:
        raise InvalidPromptError("A prompt cannot contain the NUL character. Remove it and try again.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidPromptError("The prompt holds a lone surrogate, which is not valid Unicode. Repair it.") from None
    before = None
    while text != before:  # one pass can leave an indented first line that the next would strip
        before, text = text, inspect.cleandoc(text)
    if not text.strip():
        raise InvalidPromptError("The prompt is empty. Give the agent at least one sentence of instructions.")
    return text


def same_text(left: str, right: str) -> bool:
    """Whether two prompts differ in nothing but letter case and white space."""
    return left.casefold().split() == right.casefold().split()


def check_prompt(
    candidate: str,
    *,
    active: str,
    training_texts: Iterable[str] = (),
    rolled_back: Sequence[str] = (),
    customer_texts: Iterable[str] = (),
) -> list[Refusal]:
    """Say everything that forbids deploying ``candidate`` in place of ``active``; an empty list allows it.

    ``training_texts`` is all that the optimizer saw, answers included, ``customer_texts`` what customers wrote of it:
    messages, comments and corrections. ``rolled_back`` are earlier losers.
    """
    from bindu.dspy.promptcheck.checks import refusals  # noqa: PLC0415 - serving normalizes prompts and checks none

    customers = list(customer_texts)
    seen = list(dict.fromkeys([*training_texts, *customers]))
    return list(refusals(candidate, active, seen=seen, customers=customers, rolled_back=rolled_back))
