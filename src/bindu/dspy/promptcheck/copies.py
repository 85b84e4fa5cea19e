"""What a prompt repeats of other texts: runs of words, and codes such as an order number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from bindu.dspy.promptcheck.base import SPACELESS
from bindu.dspy.promptcheck.letters import PLAIN, Folded, Skeleton, fold

__all__ = ["COPY_CHARACTERS", "COPY_WORDS", "Copy", "copied_codes", "copied_run", "repeats"]

COPY_WORDS: Final = 8
COPY_CHARACTERS: Final = 24  # where words have no spaces between them; in a mixed run three count as one word

_SPACELESS: Final = re.compile(SPACELESS)
_SIGNS: Final = {"@": "a", "$": "s", "\u20ac": "e"}  # that pass for letters
_PER_WORD: Final = COPY_CHARACTERS // COPY_WORDS
_KEY: Final = 12  # letters that a run is looked up by; eight words of fewer than that are no run
_NOISE: Final = re.compile(  # what may stand between the words of a run without being one
    r"^[ \t>#*+\u2022\u2013\u2014-]*(?:\(?(?:\d{1,3}|[A-Za-z])[.):][ \t]+|\[[ xX]?\][ \t]+)?"  # a list's mark
    r"|[(\[]\d{1,2}[)\]]|<!--|-->|</?[A-Za-z][^<>]{0,60}>|&#?\w{2,8};",
    re.MULTILINE,
)
_NUMBERED: Final = re.compile(r"\d\S*(?: \d[\d.,/-]*(?!\S))*")  # from a word's first digit on; numbers that follow
_PIECE: Final = re.compile(r"[A-Za-z0-9]+")
_MEASURE: Final = re.compile(  # 1990s, 1080p
    r"(\d{1,4})(?:[psxkmgwlvh]|[KWVL]"
    r"|(?i:[cdkm][glmw]|[kmg]?(?:hz|wh|bit)|[kmgt]b|mah|px|pt|am|pm|ms|st|nd|rd|th|eur|usd|gbp|day|per))"
)
_SPARED: Final = re.compile(  # everybody's, whoever says it
    r"\b(?:ISO|IEC|DIN|EN|IEEE|ANSI|NIST|RFC|ASTM|BS|PEP|CVE|ECMA)(?:[ /-](?:IEC|EN|ISO|IEEE)){0,3}"
    r"[ :-]?\d+(?:[-:.]\d+){0,3}"
    r"|(?<![\w/-])(?:19|20)\d\d ?[-/] ?(?:19|20)?\d\d(?![\w/-])"  # 2024/25
    r"|(?<![\w:.-])[012]?\d[:.][0-5]\d ?- ?[012]?\d[:.][0-5]\d(?![\w:.-])"  # 9:00-17:30
    r"|(?<![\w./,-])\d{1,3}[05] ?- ?\d{1,3}[05](?![\w/-])"  # 150-200
    r"|(?<![\w.])v?\d{1,3}(?:\.\d{1,3}){2,3}(?![\w])",  # a version, an IP address
    re.IGNORECASE,
)
_CODE_LENGTH: Final = 5
_CODE_DIGITS: Final = 4
_LONGEST_CODE: Final = 40
_SHORT_WORD: Final = 3


@dataclass(frozen=True, slots=True)
class Copy:
    """What was copied: as it stands in the prompt, and whether it is words or, where there are none, characters."""

    text: str
    in_words: bool = True


def copied_run(candidate: str, active: str, texts: Iterable[str]) -> Copy | None:
    """The first run of COPY_WORDS words of one of the texts that stands in the candidate and not in the active prompt.

    Compared are letters and digits alone, as SKELETON leaves them, so neither case, punctuation, white space, accents,
    list marks, tags nor look-alikes hide a copy; words left out, put in or changed do.
    """
    folded = _squashed(candidate)
    mine, own = folded.text, _squashed(active).text
    keys = {mine[place : place + _KEY] for place in range(len(mine) - _KEY + 1)}
    judged: set[str] = set()
    for text in texts:
        for run, in_words in _runs(text, keys):
            if run in judged:
                continue
            judged.add(run)
            place = mine.find(run)
            if place >= 0 and run not in own:
                return Copy(folded.original(place, place + len(run)), in_words)
    return None


def repeats(part: str, texts: Iterable[str]) -> bool:
    """Whether the letters and digits of ``part`` stand in a row in one of the texts."""
    wanted = "".join(part.translate(_LETTERS).split())
    return any(wanted in "".join(text.translate(_LETTERS).split()) for text in texts)


class _Letters(Skeleton):
    """Besides, all but letters and digits are spaces, and spaces stand around what needs none to be a word."""

    def of(self, character: str) -> str:
        if character in _SIGNS:
            return _SIGNS[character]
        spaced = "".join(one if one.isalnum() else " " for one in super().of(character))
        return _SPACELESS.sub(r" \g<0> ", spaced)


_LETTERS: Final = _Letters()


def _squashed(text: str) -> Folded:
    """The letters and digits alone."""
    folded = fold(text, _LETTERS)
    noise = {place for found in _NOISE.finditer(text) for place in range(*found.span())}
    kept = [place for place, letter in enumerate(folded.text) if letter != " " and folded.places[place] not in noise]
    return Folded(text, "".join(folded.text[place] for place in kept), [folded.places[place] for place in kept])


def _runs(text: str, keys: set[str]) -> Iterator[tuple[str, bool]]:
    """Every run of the text that is too long to be chance and begins with one of the keys, squashed."""
    words = _NOISE.sub(" ", text).translate(_LETTERS).split()
    squashed = "".join(words)
    ends = list(accumulate(map(len, words)))
    for first, start in enumerate([0, *ends[:-1]]):
        if squashed[start : start + _KEY] in keys:
            last, weight, in_words = first, 0, False
            while weight < COPY_CHARACTERS and last < len(words):
                spaceless = _SPACELESS.match(words[last]) is not None
                weight += 1 if spaceless else _PER_WORD
                in_words = in_words or not spaceless
                last += 1
            if weight >= COPY_CHARACTERS:
                yield squashed[start : ends[last - 1]], in_words


def copied_codes(candidate: str, active: str, texts: Iterable[str]) -> list[str]:
    """Numbers and codes of the texts that stand in the candidate and not in the active prompt, as they stand there.

    A code has at least 5 letters and digits, of which at least 4 are digits: an order number, a postcode. Spaces and
    signs within it do not count. The names of standards, opening hours, versions and the like are everybody's.
    """
    folded = fold(candidate, PLAIN)
    own = {code for code, _, _ in _codes(active.translate(PLAIN))}
    new = [one for one in _codes(folded.text) if one[0] not in own]
    wanted = {code for code, _, _ in new}
    theirs = {code for text in texts for code in _wanted_codes(text, wanted)} if wanted else set()
    found = sorted(((start, -end) for code, start, end in new if code in theirs), reverse=True)
    codes: list[str] = []
    last = 0
    while found:
        start, end = found.pop()
        if start >= last:  # the longest of those that begin here
            last = -end
            codes.append(folded.original(start, last))
    return codes


def _wanted_codes(text: str, wanted: set[str]) -> set[str]:
    plain = text.translate(PLAIN)
    found = wanted.intersection(code for code, _, _ in _codes(plain, chosen=True))
    return found and wanted.intersection(code for code, _, _ in _codes(_SPARED.sub(" ", plain), chosen=True))


def _codes(text: str, *, chosen: bool = False) -> Iterator[tuple[str, int, int]]:
    """Each number or code, without its signs, with its place, and every part of one that signs set apart.

    ``chosen`` leaves out what only looks like a code: 1990s, 2000-word.
    """
    for found in _NUMBERED.finditer(text):
        start = found.start()
        while start and not text[start - 1].isspace():
            start -= 1
        pieces = [(one[0], *one.span()) for one in _PIECE.finditer(text, start, found.end())]
        for first in range(len(pieces)):
            yield from _joined(pieces[first : first + _LONGEST_CODE], text, chosen=chosen)


def _joined(pieces: list[tuple[str, int, int]], text: str, *, chosen: bool) -> Iterator[tuple[str, int, int]]:
    """The first piece, the first two, and so on, as far as they are one code."""
    code, digits, last, left = "", 0, "", pieces[0][1]
    for piece, start, end in pieces:
        if text[start - 1].isspace() and code and not (last[-1].isdigit() and piece.isdigit() and left == start - 1):
            return
        part = _part(piece) if chosen else piece
        if part is None or len(code) + len(part) > _LONGEST_CODE:
            return
        code, last, left = code + part.casefold(), piece, end
        digits += sum(map(str.isdigit, part))
        if len(code) >= _CODE_LENGTH and digits >= _CODE_DIGITS:
            yield code, pieces[0][1], end


def _part(piece: str) -> str | None:
    """What of it belongs to a code: not a unit, nor a word unless in capitals or short."""
    measure = _MEASURE.fullmatch(piece)
    if measure is not None:
        return measure[1]
    word = piece.isalpha() and not piece.isupper() and len(piece) > _SHORT_WORD
    return None if word else piece
