"""What an optimizer may not do to a prompt: pure rules, each with the words that broke it."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bindu.dspy.errors import InvalidPromptError

__all__ = ["Refusal", "Rule", "check_prompt", "normalize_prompt", "same_text"]

Rule = Literal["protected", "variables", "length", "copied", "private", "identical", "rolled_back"]

_PROTECTED = re.compile(r"<!-- keep -->.*?<!-- /keep -->", re.DOTALL)
_VARIABLE = re.compile(r"\{\{\s*[A-Za-z_]\w*\s*\}\}|\{[A-Za-z_]\w*\}|\$\{?[A-Za-z_]\w*\}?")
_WORD = re.compile(r"\w+")
_PRIVATE = {
    "an e-mail address": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "a key": re.compile(
        r"\b(?:sk|pk|rk)[-_][\w-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bxox[abprs]-[\w-]{10,}"
        r"|\beyJ[\w-]{10,}\.[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    ),
    "a payment card": re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)"),
    "a phone number": re.compile(
        r"(?<![\w.])(?:\+\d{1,3}[ .-]?|\(\d{2,5}\)[ .-]?|0)\d{2,5}(?:[ .-]?\d{2,5}){1,4}(?!\w)"
    ),
}
_COPY_WORDS = 8
_MAX_CHARACTERS = 16_000  # some 4,000 tokens
_MAX_GROWTH = 1.5  # of an active prompt that is already longer than that


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rule a text broke, and the words that broke it."""

    rule: Rule
    offending: str
    reason: str  # a sentence


def normalize_prompt(text: str) -> str:
    """Return the text as it is stored, scored and served: what DSPy's cleandoc leaves alone.

    Raises InvalidPromptError for an empty text and for characters that no database or model takes.
    """
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
    candidate: str, *, active: str, training_texts: Iterable[str] = (), rolled_back: Sequence[str] = ()
) -> list[Refusal]:
    """Say everything that forbids deploying ``candidate`` in place of ``active``; an empty list allows it.

    ``training_texts`` are the customers' words that the optimizer saw, ``rolled_back`` earlier losers.
    """
    return [
        *_check_protected(candidate, active),
        *_check_variables(candidate, active),
        *_check_length(candidate, active),
        *_check_copied(candidate, active, training_texts),
        *_check_private(candidate, active),
        *_check_twins(candidate, active, rolled_back),
    ]


def _check_protected(candidate: str, active: str) -> Iterator[Refusal]:
    have, want = _PROTECTED.findall(candidate), _PROTECTED.findall(active)
    if have == want:
        return
    changed = next((region for region in want if region not in have), None)
    offending = changed if changed is not None else "".join(have)
    yield Refusal("protected", offending, f"A region between keep marks was changed: {_short(offending)}")


def _check_variables(candidate: str, active: str) -> Iterator[Refusal]:
    have, want = set(_VARIABLE.findall(candidate)), set(_VARIABLE.findall(active))
    for name in sorted(want - have):
        yield Refusal("variables", name, f"The template variable {name} was lost.")
    for name in sorted(have - want):
        yield Refusal("variables", name, f"The template variable {name} is new, so nobody would fill it in.")


def _check_length(candidate: str, active: str) -> Iterator[Refusal]:
    budget = max(_MAX_CHARACTERS, int(_MAX_GROWTH * len(active)))
    if len(candidate) > budget:
        reason = f"The prompt has {len(candidate):,} characters and the budget is {budget:,}."
        yield Refusal("length", candidate[budget:], reason)


def _check_copied(candidate: str, active: str, training_texts: Iterable[str]) -> Iterator[Refusal]:
    own = set(_runs(active))
    new = {run for run in _runs(candidate) if run not in own}
    for text in training_texts:
        for run in _runs(text):
            if run in new:
                words = " ".join(run)
                yield Refusal("copied", words, f"{_COPY_WORDS} words in a row are a customer's: {_short(words)}")
                return


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return zip(*(words[start:] for start in range(_COPY_WORDS)), strict=False)


def _check_private(candidate: str, active: str) -> Iterator[Refusal]:
    for what, pattern in _PRIVATE.items():
        known = Counter(pattern.findall(active))
        for found in pattern.findall(candidate):
            if found not in known and (what != "a payment card" or _luhn(found)):
                yield Refusal("private", found, f"The prompt contains {what} that the active one does not: {found}")
                break


def _luhn(number: str) -> bool:
    digits = [int(character) for character in number if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _check_twins(candidate: str, active: str, rolled_back: Sequence[str]) -> Iterator[Refusal]:
    if same_text(candidate, active):
        yield Refusal("identical", candidate, "The prompt is the active one.")
    for text in rolled_back:
        if same_text(candidate, text):
            yield Refusal("rolled_back", candidate, "The prompt was tried before and rolled back.")
            return


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
