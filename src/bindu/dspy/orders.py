"""Comments that say what answers shall be like: they may propose rules, which the others have to confirm. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from bindu.dspy.feedback import is_anonymous
from bindu.dspy.models import Interaction
from bindu.dspy.splits import Conversation, Split

__all__ = ["gives_orders", "only_orders", "without_orders"]

_ORDERS: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"(?:^|[.!?,:;]\s*)(?:please\s+)?(?:always|never)\s+\w+",
        r"\b(?:you|answers?|repl(?:y|ies)|responses?|bot|assistant|model)\s+(?:must|should|shall|ha(?:s|ve) to)\b"
        r"(?! have\b)",
        r"\b(?:from now on|in (?:every|each|all) (?:answer|reply|response)s?)\b",
    )
)


def gives_orders(comment: str) -> bool:
    """Whether a comment says what answers shall be like, rather than what this one was like.

    Honest people do so too; but what orders alone ask for has to be confirmed by the ratings of others.
    """
    return any(sign.search(comment) for sign in _ORDERS)


def only_orders(row: Interaction) -> bool:
    """Whether everything that was said about an answer is an order."""
    return bool(row.comments) and all(map(gives_orders, row.comments))


def without_orders(split: Split) -> Split:
    """The same conversations without orders, and without the votes of known raters who said nothing else.

    Whoever pushes one thing votes on that alone: such votes would teach a judge, a model of scores or a rule's support
    what to think of everybody else's wishes.
    """
    parts = (split.train, split.select, split.accept)
    givers = _order_givers(row for part in parts for one in part for row in one.rows)

    def freed(part: Iterable[Conversation]) -> tuple[Conversation, ...]:
        return tuple(replace(one, rows=tuple(_freed(row, givers) for row in one.rows)) for one in part)

    train, select, accept = map(freed, parts)
    return replace(split, train=train, select=select, accept=accept)


def _order_givers(rows: Iterable[Interaction]) -> frozenset[str]:
    """Known raters who said what answers shall be like, and never what one was like."""
    ordering: set[str] = set()
    describing: set[str] = set()
    for row in rows:
        if row.comments:
            (ordering if only_orders(row) else describing).update(row.raters)
    return frozenset(rater for rater in ordering - describing if not is_anonymous(rater))


def _freed(row: Interaction, givers: Collection[str]) -> Interaction:
    comments = tuple(one for one in row.comments if not gives_orders(one))
    if not row.raters or not set(row.raters) <= set(givers):
        return replace(row, comments=comments)
    return replace(row, comments=comments, feedback_score=None, feedback_type=None)
