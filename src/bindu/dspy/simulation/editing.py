"""How a simulated user corrects an answer: strikes out what they mind, adds what they miss in their own words."""

from __future__ import annotations

import re
from collections.abc import Callable

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.world import Place, Taste

__all__ = ["corrected"]

_FORGOTTEN = 0.1  # share of what they miss that they do not add either
_SENTENCES = re.compile(r"(?<=[.!?]) +")


def corrected(question: str, answer: str, taste: Taste, draw: Draws) -> str:
    """The answer as they would have liked it."""
    text = "\n".join(_kept(question, line, taste) for line in answer.splitlines()).strip()
    text = re.sub(r"\n{3,}", "\n\n", text)
    missed = [wish for wish in taste.wishes.values() if wish.weight > 0 and not wish.sign(question, text)]
    for wish in missed:
        if not draw.chance(_FORGOTTEN):
            text = _ADD[wish.place](text, wish.wording(question))
    return text


def _kept(question: str, line: str, taste: Taste) -> str:
    unwelcome = [wish for wish in taste.wishes.values() if wish.weight < 0]
    sentences = _SENTENCES.split(line)
    return " ".join(one for one in sentences if not any(wish.sign(question, one) for wish in unwelcome))


def _greeted(text: str) -> tuple[str, str]:
    """The salutation, if there is one, and the rest."""
    first, _, rest = text.partition("\n")
    return (first, rest.lstrip()) if first.endswith(",") else ("", text)


def _joined(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))


def _greet(text: str, words: str) -> str:
    return _joined(words, _greeted(text)[1])


def _start(text: str, words: str) -> str:
    greeting, rest = _greeted(text)
    return _joined(greeting, f"{words} {rest}".strip())


def _insert(text: str, words: str) -> str:
    before, _, last = text.rpartition("\n\n")
    return _joined(before, words, last) if last.endswith("?") else _joined(text, words)


def _append(text: str, words: str) -> str:
    return _joined(text, words)


_ADD: dict[Place, Callable[[str, str], str]] = {
    "greeting": _greet,
    "start": _start,
    "body": _insert,
    "end": _append,
}
