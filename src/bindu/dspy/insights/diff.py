"""What one prompt says that another does not, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Final, Literal

from bindu.dspy.errors import UnknownPromptError
from bindu.dspy.models import Prompt
from bindu.dspy.promptcheck.regions import kept_spans
from bindu.dspy.storage import agent_named, get_storage

__all__ = ["DiffPiece", "PromptDiff", "prompt_diff", "word_diff"]

_WORD: Final = re.compile(r"\w+|\s|[^\w\s]")
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
_MOST_WORDS: Final = 10_000  # of one text; comparing costs the product of both, so longer ones are compared by lines
_MOST_LINES: Final = 10_000

_Token = tuple[str, bool]
Change = Literal["same", "removed", "added"]


@dataclass(frozen=True, slots=True)
class DiffPiece:
    """A run of words with the same fate."""

    change: Change
    text: str
    kept: bool = False  # in a region that only people may change


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptDiff:
    """Two versions and how one becomes the other; without the added pieces it is the old text, and the reverse."""

    old: Prompt
    new: Prompt
    pieces: tuple[DiffPiece, ...]


async def prompt_diff(old_id: int, new_id: int, *, agent_id: str | None = None) -> PromptDiff:
    """Compare two versions of an agent's prompt. Raises UnknownPromptError."""
    agent = agent_named(agent_id)
    old, new = await _prompt(agent, old_id), await _prompt(agent, new_id)
    return PromptDiff(old=old, new=new, pieces=word_diff(old.text, new.text))


@lru_cache(maxsize=16)
def word_diff(old: str, new: str) -> tuple[DiffPiece, ...]:
    """How ``old`` becomes ``new`` with the fewest words removed and added; in a change, what went comes first."""
    from rapidfuzz.distance import Indel  # noqa: PLC0415 - an extra, and only people who look need it

    before, after = _tokens(old, new)
    pieces = [
        piece
        for step in Indel.opcodes([text for text, _ in before], [text for text, _ in after])
        for piece in _pieces(step.tag, before[step.src_start : step.src_end], after[step.dest_start : step.dest_end])
    ]
    return tuple(_joined(pieces))


def _joined(pieces: Sequence[DiffPiece]) -> Iterator[DiffPiece]:
    """Neighbours of the same fate as one; between two stretches that stay, what went before what came."""
    for _, stretch in groupby(pieces, key=lambda piece: piece.change == "same"):
        by_change = sorted(stretch, key=lambda piece: piece.change, reverse=True)
        for (change, kept), run in groupby(by_change, key=lambda piece: (piece.change, piece.kept)):
            yield DiffPiece(change, "".join(piece.text for piece in run), kept)


def _tokens(old: str, new: str) -> tuple[list[_Token], list[_Token]]:
    """Words, marks and single spaces; of long texts the lines, of endless ones the whole."""
    for unit, most in ((_WORD, _MOST_WORDS), (_LINE, _MOST_LINES)):
        both = _cut(old, unit, most), _cut(new, unit, most)
        if both[0] is not None and both[1] is not None:
            return both[0], both[1]
    return [(old, False)] if old else [], [(new, False)] if new else []


def _cut(text: str, unit: re.Pattern[str], most: int) -> list[_Token] | None:
    """Pieces of a text, each with whether it is kept, None for too many. A region's edge ends a piece."""
    spans = kept_spans(text)
    edges = sorted({0, len(text), *(edge for span in spans for edge in span)})
    starts = {start for start, _ in spans}
    tokens: list[_Token] = []
    for start, end in pairwise(edges):
        kept = start in starts  # spans do not overlap, so each is one stretch between edges
        for token in unit.finditer(text, start, end):
            tokens.append((token[0], kept))
            if len(tokens) > most:
                return None
    return tokens


def _pieces(tag: str, gone: Sequence[_Token], come: Sequence[_Token]) -> Iterator[DiffPiece]:
    if tag == "equal":
        yield from (DiffPiece("same", text, kept) for text, kept in come)
        return
    yield from (DiffPiece("removed", text, kept) for text, kept in gone)
    yield from (DiffPiece("added", text, kept) for text, kept in come)


async def _prompt(agent_id: str, prompt_id: int) -> Prompt:
    found = await (await get_storage()).prompt(agent_id, prompt_id)
    if found is None:
        raise UnknownPromptError(agent_id, prompt_id)
    return found
