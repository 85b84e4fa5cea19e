"""Comments that say what answers shall be like: they may propose rules, which the others have to confirm. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from bindu.dspy.feedback import is_anonymous
from bindu.dspy.models import Interaction
from bindu.dspy.splits import Conversation, Split

__all__ = ["gives_orders", "only_orders", "without_orders"]

_TOLD: Final = (
    r"(?:\w+ed|\w+[^s\W]s|told|got|said|gave|came|went|had|was|been|did|knew|saw|made|seen|heard"
    r"|again|once|before|mind|too|so|the|an?|my|me|it|in)"
)
_ORDERS: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        rf"(?:^|[.!?,:;]\s*)(?:please\s+)?(?:always|never)\s+(?!{_TOLD}\b)\w+",  # not: never told me the price
        r"\b(?:you|answers?|repl(?:y|ies)|responses?|bot|assistant|model)\s+"
        r"(?:must|should|shall|ought to|need(?:s)? to|ha(?:s|ve) to)\b(?!\s+have\b|['\u2019]ve\b)",
        r"\b(?:from now on|i want you to|make sure (?:to|that|you))\b",
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
    """The same conversations without orders, and without what known raters vote and correct who said nothing else.

    Whoever pushes one thing votes on that alone: such votes would teach a judge, a model of scores or a rule's support
    what to think of everybody else's wishes.
    """
    givers = _order_givers([*split.train, *split.select])
    return replace(
        split,
        train=_freed(split.train, givers),
        select=_freed(split.select, givers),
        accept=_freed(split.accept, givers | _order_givers(split.accept)),
    )


def _order_givers(conversations: Iterable[Conversation]) -> frozenset[str]:
    """Known raters who said what answers shall be like, and never what one was like.

    Who of several raters said what nobody knows.
    """
    ordering: set[str] = set()
    describing: set[str] = set()
    for row in (row for one in conversations for row in one.rows):
        if row.comments and len(row.raters) == 1:
            (ordering if only_orders(row) else describing).update(row.raters)
    return frozenset(rater for rater in ordering - describing if not is_anonymous(rater))


def _freed(conversations: Iterable[Conversation], givers: frozenset[str]) -> tuple[Conversation, ...]:
    return tuple(replace(one, rows=tuple(_without(row, givers) for row in one.rows)) for one in conversations)


def _without(row: Interaction, givers: frozenset[str]) -> Interaction:
    comments = tuple(one for one in row.comments if not gives_orders(one))
    if not row.raters or not givers.issuperset(row.raters):
        return replace(row, comments=comments)
    return replace(row, comments=comments, feedback_score=None, feedback_type=None, correction=None)
