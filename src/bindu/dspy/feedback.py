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

__all__ = [
    "ANONYMOUS",
    "VOTES",
    "anonymous_rater",
    "has_vote",
    "is_anonymous",
    "is_remark",
    "normalize_feedback",
    "parse_feedback",
    "task_score",
]

BEST_RATING = 5
VOTES = ("rating", "thumbs_up", "score", "label")
_THUMBS = {"true": 1.0, "1": 1.0, "yes": 1.0, "up": 1.0, "false": 0.0, "0": 0.0, "no": 0.0, "down": 0.0}
_LIKED = ("good", "positive", "up", "thumbs_up", "like", "helpful", "correct", "pass", "yes")
_DISLIKED = ("bad", "negative", "down", "thumbs_down", "dislike", "unhelpful", "incorrect", "fail", "no")
_LABELS = dict.fromkeys(_LIKED, 1.0) | dict.fromkeys(_DISLIKED, 0.0)
_ACCEPTED = 'Send {"rating": 1 to 5}, {"thumbs_up": true or false}, {"score": 0 to 1} or {"label": "good" or "bad"}.'


ANONYMOUS = "anonymous-"  # an imported vote of nobody known: anonymous-1@<row>, anonymous-up-1@<row>
_NOBODY = re.compile(rf"{ANONYMOUS}(?:(?:up|down)-)?\d+@.+", re.DOTALL)


def anonymous_rater(number: int, row: str, thumb: Literal["up", "down"] | None = None) -> str:
    """A name for one of nobody known on one imported row, the same at every import."""
    return f"{ANONYMOUS}{f'{thumb}-' if thumb else ''}{number}@{row}"


def is_anonymous(rater_id: str) -> bool:
    """Whether nobody knows who that was: no id at all, or one that the importer made up."""
    return not rater_id or _NOBODY.fullmatch(rater_id) is not None


def is_remark(data: Mapping[str, Any]) -> bool:
    """Whether somebody said something, as a comment or a correction, and gave no vote with it."""
    said = [data.get(name) for name in ("comment", "correction")]
    return not has_vote(data) and any(isinstance(text, str) and text.strip() for text in said)


def has_vote(data: Mapping[str, Any]) -> bool:
    """Whether there is a vote of any shape, right or wrong."""
    return any(data.get(name) is not None for name in VOTES)


def parse_feedback(data: Mapping[str, Any]) -> tuple[FeedbackKind, float]:
    """Read one vote strictly: its kind and its score in [0, 1]. A rating wins over a thumb, that over a score or label.

    Ratings are numbers from 1 to 5 (or such numbers as text) and are divided by 5; thumbs are 1 or 0. A score from 0 to
    1 and a label count as thumbs do, from 0 to 1: stars begin at .2. Other keys are ignored. Raises
    InvalidFeedbackError for every other shape.
    """
    if not isinstance(data, Mapping):
        raise InvalidFeedbackError(f"Feedback is an object, not {shown(data)}. {_ACCEPTED}")
    if (rating := data.get("rating")) is not None:
        return "rating", _number(rating, 1, BEST_RATING, "A rating") / BEST_RATING
    if (thumb := data.get("thumbs_up")) is not None:
        return "thumbs_up", _thumb(thumb)
    if (score := data.get("score")) is not None:
        return "thumbs_up", _number(score, 0, 1, "A score")
    if (label := data.get("label")) is not None:
        return "thumbs_up", _label(label)
    raise InvalidFeedbackError(f"Feedback without a rating or a thumb, a score or a label. {_ACCEPTED}")


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


def _number(value: object, least: int, most: int, what: str) -> float:
    number: object = value
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= most:
        raise InvalidFeedbackError(f"{what} of {shown(value)} is not a number from {least} to {most}. {_ACCEPTED}")
    return number


def _label(value: object) -> float:
    score = _LABELS.get(value.strip().lower().replace(" ", "_")) if isinstance(value, str) else None
    if score is None:
        known = ", ".join((*_LIKED, *_DISLIKED))
        raise InvalidFeedbackError(f"The label {shown(value)} is none of {known}. {_ACCEPTED}")
    return score


def _thumb(value: object) -> float:
    if isinstance(value, bool | int | float) and value in (0, 1):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in _THUMBS:
        return _THUMBS[value.strip().lower()]
    raise InvalidFeedbackError(f"thumbs_up of {shown(value)} is neither true nor false. {_ACCEPTED}")
