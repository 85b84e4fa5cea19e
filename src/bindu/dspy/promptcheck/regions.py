"""The regions of a prompt that only people may change: between ``<!-- keep -->`` and ``<!-- /keep -->``."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["kept_spans"]

_MARK: Final = re.compile(r"<!--\s*(/?)\s*keep\s*-->", re.IGNORECASE)


def kept_spans(text: str) -> list[tuple[int, int]]:
    """Where each outermost region begins and ends, with its marks, in order.

    One that nothing closes lasts to the end; a mark that closes nothing is a region of its own.
    """
    spans: list[tuple[int, int]] = []
    depth = start = 0
    for mark in _MARK.finditer(text):
        if not mark[1]:
            start = start if depth else mark.start()
            depth += 1
        elif depth == 0:
            spans.append(mark.span())
        else:
            depth -= 1
            if depth == 0:
                spans.append((start, mark.end()))
    return [*spans, (start, len(text))] if depth else spans
