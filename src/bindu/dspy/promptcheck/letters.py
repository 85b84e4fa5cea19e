"""Texts as a reader sees them: what is hidden left out, look-alikes as one letter, each knowing where it stood."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["PLAIN", "SKELETON", "Folded", "Skeleton", "fold", "hidden_runs", "hidden_spans", "printable"]

_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
_UNDRAWN: Final = re.compile(  # letters, marks and code points outside those that no font draws
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufdd0-\ufdef\ufe00-\ufe0f\uffa0\ufffe\uffff\U000e0000-\U000e0fff]"
)
_DRAWN: Final = re.compile("[\t\n\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]")
_AT_WORK: Final = re.compile(  # hidden characters that change what is seen, where they do
    "\r(?=\n)"
    "|(?<=[\u00a9\u00ae\u203c-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])[\ufe0e\ufe0f]"  # style of an emoji
    "|(?<=[#*0-9])\ufe0f(?=\u20e3)"  # a key
    "|(?<=[\u203c-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d(?=[\u203c-\u2bff\U0001f000-\U0001faff])"  # two emoji as one
    "|(?<=[\u0600-\u08ff\u0900-\u0dff])[\u200c\u200d](?=[\u0600-\u08ff\u0900-\u0dff])"  # Persian, Indic
    "|(?<=\U0001f3f4)\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074"
    "|\U000e0077\U000e006c\U000e0073)\U000e007f"  # the flags of England, Scotland and Wales
)
_LOOKALIKES: Final = str.maketrans(  # small letters, after Unicode took off accents and styles
    "авекмнорстухѕіјһԁԛԝӏүԍҝαβεζηικμνορτυχωγϲϳօոսհցզıɑɡɩɪƒʋøđłħŧɵɛᴀʙᴄᴅᴇꜰɢʜᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢil0134578",  # noqa: RUF001
    "abekmhopctyxsljhdqwlygkabezhlkmnoptyxwycjonuhgqlagllfvodlhtoeabcdefghjklmnoprstuvwyzlloleastb",
    "'`\u2018\u2019\u02bc\u00b4",  # within words: don't is dont
)
_ENCLOSED: Final = (0x1F130, 0x1F150, 0x1F170, 0x1F1E6)  # where the letters A to Z in boxes and circles begin
_LETTERS: Final = 26


class _Folding(dict[int, str]):
    """A table for ``str.translate`` that learns what a character becomes when it meets one."""

    def __missing__(self, code: int) -> str:
        self[code] = self.of(chr(code))
        return self[code]

    def of(self, character: str) -> str:
        raise NotImplementedError


class _Plain(_Folding):
    """Hidden characters and combining marks go; digits, spaces and dashes of any kind and script become plain ones."""

    def of(self, character: str) -> str:
        if _is_hidden(character):
            return ""
        return "".join(map(_plain, unicodedata.normalize("NFKC", character)))


class Skeleton(_Plain):
    """Besides, letter case and accents go, and letters that pass for Latin ones become those."""

    def of(self, character: str) -> str:
        for first in _ENCLOSED:
            if first <= ord(character) < first + _LETTERS:
                character = chr(ord("a") + ord(character) - first)
        plain = unicodedata.normalize("NFKD", super().of(character)).casefold()
        kept = "".join(one for one in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(one))
        return kept.translate(_LOOKALIKES)


def _plain(character: str) -> str:
    match unicodedata.category(character):
        case "Nd":
            return str(unicodedata.decimal(character))
        case "Zs":
            return " "
        case "Pd":
            return "-"
        case "Mn" | "Mc" | "Me":
            return ""
        case "Pf" if character == "\u2019":
            return "'"
        case _:
            return character


PLAIN: Final = _Plain()
SKELETON: Final = Skeleton()


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded text, and for each of its characters the place of the one in the source that it came from."""

    source: str
    text: str
    places: list[int]

    def original(self, start: int, end: int) -> str:
        """What stands in the source where ``text[start:end]`` came from."""
        return self.source[self.places[start] : self.places[end - 1] + 1]


def fold(text: str, table: dict[int, str]) -> Folded:
    """What ``text.translate(table)`` gives, with places: for the one text that is checked, which is slower."""
    pieces = [table[ord(character)] for character in text]
    places = [place for place, piece in enumerate(pieces) for _ in piece]
    return Folded(text, "".join(pieces), places)


def hidden_runs(text: str) -> Iterator[str]:
    """Each run of characters that nobody sees and that change nothing of what is seen around them."""
    return (text[start:end] for start, end in hidden_spans(text))


def hidden_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where each of them begins and ends."""
    if text.isascii() and text.isprintable():
        return
    at_work = {place for found in _AT_WORK.finditer(text) for place in range(*found.span())}
    start = None
    for place, character in enumerate(f"{text}."):
        hidden = place not in at_work and _is_hidden(character)
        if hidden and start is None:
            start = place
        elif not hidden and start is not None:
            yield start, place
            start = None


def _is_hidden(character: str) -> bool:
    if character.isprintable() and not _UNDRAWN.match(character):
        return False
    if _UNDRAWN.match(character):
        return True
    return unicodedata.category(character) in _HIDDEN_CATEGORIES and not _DRAWN.match(character)


def printable(text: str, limit: int = 120) -> str:
    """The text on one line of at most ``limit`` characters and an ellipsis, hidden characters as escapes."""
    line = " ".join(text.split())
    cut = line if len(line) <= limit else f"{line[:limit]}..."
    return "".join(one if one.isprintable() and not _is_hidden(one) else f"\\u{ord(one):04x}" for one in cut)
