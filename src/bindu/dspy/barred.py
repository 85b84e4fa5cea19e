"""Whether a text was on trial before and did not win: tried often enough, an equal prompt would be promoted.

Exact Jaccard similarity, which MinHash would estimate: there are a thousand texts at most to compare with.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from bindu.dspy.promptcheck import SPACELESS
from bindu.dspy.units import BarredText

__all__ = ["barred_by"]

SAME_CHANGE: Final = 0.5  # from this similarity on, two edits of the active prompt count as one idea

_WORD = re.compile(rf"[^\W{SPACELESS[1:-1]}]+|{SPACELESS}")

Shingles = set[tuple[str, ...]]


def barred_by(text: str, barred: Iterable[BarredText], *, similar: float, active: str = "") -> BarredText | None:
    """The first of the barred texts that is at least ``similar`` to this one, or None.

    Similar is the share of three-word runs, of all that either text has, that both have. Letter case, white space and
    punctuation make no difference; where words have no spaces between them, a character is a word.

    Two texts that each keep a long active prompt and add a rule of their own are alike as a whole, although they are
    two ideas: what they change in ``active`` has to be alike too, by SAME_CHANGE.
    """
    mine, base = _shingles(text), _shingles(active) if active else set()
    for earlier in barred:
        theirs = _shingles(earlier.text)
        if _alike(mine, theirs) >= similar and _alike(mine ^ base, theirs ^ base) >= min(similar, SAME_CHANGE):
            return earlier
    return None


def _shingles(text: str) -> Shingles:
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = _WORD.findall(plain) or plain.split()  # a text of signs alone
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}


def _alike(one: Shingles, other: Shingles) -> float:
    both = len(one & other)
    return both / (len(one) + len(other) - both) if one or other else 1.0
