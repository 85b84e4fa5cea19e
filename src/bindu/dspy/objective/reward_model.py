"""What "better" means when no judge can be trusted: the users' score of an answer, learned from its words."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from bindu.dspy.models import Interaction

__all__ = ["RewardModel", "cross_predicted"]

Floats = NDArray[np.float64]
_TOKEN: Final = re.compile(r"\w+|[^\w\s]|\n")  # marks and lines, too: users like lists and questions, or do not
_LONGEST: Final = 20_000  # characters of an answer that are read
_FEWEST: Final = 2  # answers with a term: what was said once, teaches nothing
_MOST_TERMS: Final = 20_000
_STRENGTHS: Final = (1000.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3)  # of the ridge; of equally good ones the strongest
_FOLDS: Final = 5  # that choose the strength


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Ridge regression on TF-IDF of the words and pairs of words of an answer (Hoerl and Kennard, 1970).

    Scores are centred within their kind of feedback, since stars and thumbs have different scales. A value without
    state: many threads may ask it at once.
    """

    mean: float  # of the users' scores, in [0, 1]
    offset: float  # of an answer without known words, from the mean
    terms: Mapping[str, tuple[float, float]]  # term: (inverse document frequency, coefficient)

    @classmethod
    def fit(cls, rows: Sequence[Interaction], *, seed: int = 0) -> RewardModel:
        """Learn from the rows with a score; the ridge's strength is what predicts unseen conversations best.

        Raises ValueError when no row has a score.
        """
        return _fit(rows, [row.unit_id or row.context_id or str(row.id) for row in rows], seed)

    def predict(self, question: str, answer: str) -> float:
        """The score in [0, 1] that users would give, on the scale of the mean over all kinds.

        The question counts for nothing: hard questions get low scores whatever is answered, and no prompt changes
        them.
        """
        del question
        total = squares = 0.0
        for term, count in Counter(_terms(answer)).items():
            if (known := self.terms.get(term)) is not None:
                weight = (1 + math.log(count)) * known[0]
                total += weight * known[1]
                squares += weight * weight
        deviation = self.offset + (total / math.sqrt(squares) if squares else 0.0)
        return min(max(self.mean + deviation, 0.0), 1.0)


def cross_predicted(
    rows: Sequence[Interaction], groups: Sequence[int | str], *, folds: int = 5, seed: int = 0
) -> list[float]:
    """A score in [0, 1] for every row, by a model that saw no row of its group; as such ``calibrate`` wants them.

    All folds speak on the scale of the overall mean: a fold's own mean is lower the better the rows it left out are,
    which alone would turn the order around. Raises ValueError for fewer than two groups or no scored row to learn from.
    """
    if len(set(groups)) < 2:  # noqa: PLR2004 - one to learn from, one to predict
        raise ValueError("Predicting rows by a model that did not see them needs at least two groups.")
    fold = _dealt(groups, folds, seed).tolist()
    mean = _mean_score(rows)
    found = [mean] * len(rows)
    for number in set(fold):
        learned = [i for i, one in enumerate(fold) if one != number]
        model = replace(_fit([rows[i] for i in learned], [groups[i] for i in learned], seed), mean=mean)
        for i, one in enumerate(fold):
            if one == number:
                found[i] = model.predict(rows[i].user_input, rows[i].agent_output)
    return found


def _fit(rows: Sequence[Interaction], groups: Sequence[int | str], seed: int) -> RewardModel:
    mean = _mean_score(rows)
    scored = [i for i, row in enumerate(rows) if row.feedback_score is not None]
    scores = np.array([rows[i].feedback_score for i in scored], float)
    target = _centred(scores, [rows[i].feedback_type for i in scored])
    vectorizer = TfidfVectorizer(analyzer=_terms, min_df=_FEWEST, max_features=_MOST_TERMS, sublinear_tf=True)
    try:
        features = vectorizer.fit_transform([rows[i].agent_output for i in scored])
    except ValueError:  # no term stands in two answers
        return RewardModel(mean, 0.0, {})
    strength = _strength(features, target, _dealt([groups[i] for i in scored], _FOLDS, seed))
    ridge = _ridge(strength).fit(features, target)
    idf, coefficients = vectorizer.idf_.tolist(), ridge.coef_.tolist()
    terms = {term: (idf[i], coefficients[i]) for term, i in vectorizer.vocabulary_.items()}
    return RewardModel(mean, float(ridge.intercept_), terms)


def _strength(features: Any, target: Floats, fold: NDArray[np.int64]) -> float:
    """The one with the smallest squared error on folds it did not see; the strongest where there is one fold only."""
    errors = np.zeros(len(_STRENGTHS))
    for number in range(fold.max() + 1) if fold.any() else ():
        seen, unseen = fold != number, fold == number
        for i, strength in enumerate(_STRENGTHS):
            found = _ridge(strength).fit(features[seen], target[seen]).predict(features[unseen])
            errors[i] += ((found - target[unseen]) ** 2).sum()
    return _STRENGTHS[int(errors.argmin())]


def _ridge(strength: float) -> Any:
    return Ridge(alpha=strength, solver="lsqr")  # needs no memory beside the sparse matrix, draws nothing


def _dealt(groups: Sequence[int | str], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row, from 0: groups stay whole, the largest is dealt first, always to the smallest fold."""
    members: dict[int | str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    shuffled = [list(members.values())[i] for i in np.random.default_rng(seed).permutation(len(members))]
    fold, sizes = np.zeros(len(groups), np.int64), [0] * min(folds, len(members))
    for rows in sorted(shuffled, key=len, reverse=True):
        smallest = sizes.index(min(sizes))
        fold[rows] = smallest
        sizes[smallest] += len(rows)
    return fold


def _centred(scores: Floats, kinds: Sequence[str | None]) -> Floats:
    """Scores less the mean of their kind."""
    centred = scores.copy()
    for kind in set(kinds):
        alike = np.array([one == kind for one in kinds])
        centred[alike] -= scores[alike].mean()
    return centred


def _mean_score(rows: Sequence[Interaction]) -> float:
    scores = [row.feedback_score for row in rows if row.feedback_score is not None]
    if not scores:
        raise ValueError("A reward model learns from rows with a score, and there are none.")
    return sum(scores) / len(scores)


def _terms(text: str) -> list[str]:
    """Words, marks and line ends in lower case, and every two that follow each other."""
    tokens = _TOKEN.findall(text[:_LONGEST].lower())
    return tokens + [f"{one} {other}" for one, other in pairwise(tokens)]
