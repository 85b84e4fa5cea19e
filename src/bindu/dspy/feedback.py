"""A click of any shape becomes a score in [0, 1]."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any, Literal

from bindu.dspy.arguments import shown
from bindu.dspy.errors import InvalidFeedbackError
from bindu.dspy.models import DIGITS, FeedbackKind, Vote

__all__ = ["ANONYMOUS", "anonymous_rater", "is_anonymous", "normalize_feedback", "parse_feedback", "task_score"]

BEST_RATING = 5
_THUMBS = {"true": 1.0, "1": 1.0, "yes": 1.0, "up": 1.0, "false": 0.0, "0": 0.0, "no": 0.0, "down": 0.0}
_ACCEPTED = 'Send {"rating": 1 to 5} or {"thumbs_up": true or false}.'


ANONYMOUS = "anonymous-"  # an imported vote of nobody known: anonymous-1@<row>, anonymous-up-1@<row>
_NOBODY = re.compile(rf"{ANONYMOUS}(?:(?:up|down)-)?\d+@.+", re.DOTALL)


def anonymous_rater(number: int, row: str, thumb: Literal["up", "down"] | None = None) -> str:
    """A name for one of nobody known on one imported row, the same at every import."""
    return f"{ANONYMOUS}{f'{thumb}-' if thumb else ''}{number}@{row}"


def is_anonymous(rater_id: str) -> bool:
    """Whether nobody knows who that was: no id at all, or one that the importer made up."""
    return not rater_id or _NOBODY.fullmatch(rater_id) is not None


def parse_feedback(data: Mapping[str, Any]) -> tuple[FeedbackKind, float]:
    """Read one vote strictly: its kind and its score in [0, 1]. A rating wins over a thumb.

    Ratings are numbers from 1 to 5 (or such numbers as text) and are divided by 5; thumbs are 1 or 0. Other keys
    are ignored. Raises InvalidFeedbackError for every other shape.
    """
    if not isinstance(data, Mapping):
        raise InvalidFeedbackError(f"Feedback is an object, not {shown(data)}. {_ACCEPTED}")
    if (rating := data.get("rating")) is not None:
        return "rating", _rating(rating) / BEST_RATING
    if (thumb := data.get("thumbs_up")) is not None:
        return "thumbs_up", _thumb(thumb)
    raise InvalidFeedbackError(f"Feedback without a rating or a thumb. {_ACCEPTED}")


def normalize_feedback(data: Mapping[str, Any] | None) -> tuple[float | None, str | None]:
    """Read one vote leniently: (score in [0, 1], kind), or (None, None) where there is no valid vote."""
    if data is None:
        return None, None
    try:
        kind, score = parse_feedback(data)
    except InvalidFeedbackError:
        return None, None
    return score, kind


def task_score(votes: Sequence[Vote]) -> tuple[float | None, FeedbackKind | None]:
    """What raters made of one task, given each rater's latest vote: (score in [0, 1], kind).

    The score is the mean over all raters, stars and thumbs alike: the same number that the prompt's metrics and
    the database's filter use. The kind is the more frequent one; of equally frequent ones it is the rating.
    """
    if not votes:
        return None, None
    kinds = Counter(vote.kind for vote in votes)
    kind: FeedbackKind = "rating" if kinds["rating"] >= kinds["thumbs_up"] else "thumbs_up"
    mean = fsum(vote.score for vote in votes) / len(votes)
    return round(mean, DIGITS), kind  # three raters with .6 each make .6 and reach a threshold of .6


def _rating(value: object) -> float:
    number: object = value
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not 1 <= number <= BEST_RATING:
        raise InvalidFeedbackError(f"A rating of {shown(value)} is not a number from 1 to 5. {_ACCEPTED}")
    return number


def _thumb(value: object) -> float:
    if isinstance(value, bool | int | float) and value in (0, 1):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in _THUMBS:
        return _THUMBS[value.strip().lower()]
    raise InvalidFeedbackError(f"thumbs_up of {shown(value)} is neither true nor false. {_ACCEPTED}")
