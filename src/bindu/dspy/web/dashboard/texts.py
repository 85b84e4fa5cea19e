"""Texts that anybody may have written, made fit for a page: nothing in them is obeyed, and nothing in them hides."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup, escape

from bindu.dspy.promptcheck.letters import hidden_spans

__all__ = ["LONG", "shown"]

LONG: Final = 2_000  # characters; the rest has a page of its own


def shown(text: object, most: int = LONG) -> Markup:
    """At most so many characters of a text, isolated from its surroundings, with hidden characters as their number."""
    whole = "" if text is None else str(text)
    piece = whole[:most]
    parts, seen = [], 0
    for start, end in hidden_spans(piece):
        parts += [escape(piece[seen:start]), *map(_mark, piece[start:end])]
        seen = end
    parts.append(escape(piece[seen:]))
    return Markup("<bdi>{}</bdi>{}").format(Markup("").join(parts), _rest(len(whole) - len(piece)))


def _mark(character: str) -> Markup:
    return Markup('<span class="hidden">U+{:04X}</span>').format(ord(character))


def _rest(characters: int) -> Markup:
    if not characters:
        return Markup("")
    return Markup('<span class="cut"> … {} more characters</span>').format(f"{characters:,}")
