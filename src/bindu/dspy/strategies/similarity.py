"""How alike two texts are, and the turns that are most like a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

from bindu.dspy.models import Turn
from bindu.dspy.strategies.base import Cut, TurnStrategy, key_context

__all__ = [
    "Embedder",
    "SimilarityStrategy",
    "closest",
    "jaccard",
    "overlap",
    "similarity",
    "tokenize",
    "weighted",
]

Embedder = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Texts to vectors of one length, one per text, in order."""

Comparison = Callable[[str, Sequence[str]], list[float]]
"""One text against many: a number per text, the higher the more alike."""


@dataclass
class SimilarityStrategy(TurnStrategy):
    """The ``n_turns`` turns closest in meaning to ``query``, or to the final turn when there is none."""

    name = "similarity"
    query: str | None = None
    n_turns: int = 3  # at least 1
    embedder: Embedder | None = None  # None: TF-IDF over the conversation

    def __post_init__(self) -> None:
        self.n_turns = max(1, self.n_turns)

    def cut(self, turns: Sequence[Turn]) -> Cut:
        texts = [both_sides(turn) for turn in turns]
        if self.query is None:
            scores = self._compare(texts[-1], texts)
            chosen = [*closest(scores[:-1], self.n_turns - 1), len(turns) - 1]
        else:
            chosen = closest(self._compare(self.query, texts), self.n_turns)
        return key_context(turns, chosen)

    def _compare(self, reference: str, texts: Sequence[str]) -> list[float]:
        if self.embedder is None:
            return _weighted_to_all(reference, texts)
        first, *others = self.embedder([reference, *texts])
        return [_cosine(dict(enumerate(first)), dict(enumerate(vector))) for vector in others]


def both_sides(turn: Turn) -> str:
    """The question and the answer as one text."""
    return f"{turn.user}\n{turn.assistant}"


def closest(scores: Sequence[float], count: int) -> list[int]:
    """The places of the ``count`` highest scores, in time order; of equals the later."""
    best = sorted(range(len(scores)), key=lambda i: (scores[i], i), reverse=True)[:count]
    return sorted(best)


def tokenize(text: str) -> list[str]:
    """Lower-cased words, split at white space."""
    return text.lower().split()


def jaccard(first: str, second: str) -> float:
    """|A and B| / |A or B| of the two sets of words; 0 if a text is empty."""
    a, b = set(tokenize(first)), set(tokenize(second))
    return len(a & b) / len(a | b) if a and b else 0.0


def overlap(first: str, second: str) -> float:
    """|A and B| / min(|A|, |B|) of the two sets of words; 0 if a text is empty."""
    a, b = set(tokenize(first)), set(tokenize(second))
    return len(a & b) / min(len(a), len(b)) if a and b else 0.0


def weighted(first: str, second: str, corpus: Sequence[str] = ()) -> float:
    """Cosine of tf*idf with idf = ln(N/df) + 1 over the corpus (by default the two texts).

    A word that the corpus does not have counts as one of one document; an empty text is like nothing: 0.
    """
    return _weighted_to_all(first, [second], corpus or (first, second))[0]


def similarity(method: str) -> Comparison:
    """The comparison called ``jaccard``, ``overlap`` or ``weighted``. Raises ValueError for another name."""
    match method:
        case "jaccard":
            return lambda reference, texts: [jaccard(reference, text) for text in texts]
        case "overlap":
            return lambda reference, texts: [overlap(reference, text) for text in texts]
        case "weighted":
            return _weighted_to_all
    raise ValueError(f"{method!r} is not a similarity. Use 'jaccard', 'overlap' or 'weighted'.")


def _weighted_to_all(reference: str, texts: Sequence[str], corpus: Sequence[str] = ()) -> list[float]:
    counts = [Counter(tokenize(text)) for text in texts]
    weigh = _idf([Counter(tokenize(text)) for text in corpus] or counts)
    one = weigh(Counter(tokenize(reference)))
    return [_cosine(one, weigh(count)) for count in counts]


def _idf(documents: Sequence[Counter[str]]) -> Callable[[Counter[str]], dict[str, float]]:
    frequency = Counter(word for document in documents for word in document)
    total = len(documents)

    def weigh(counts: Counter[str]) -> dict[str, float]:
        return {word: n * (log(total / frequency.get(word, 1)) + 1) for word, n in counts.items()}

    return weigh


def _cosine(a: Mapping[Any, float], b: Mapping[Any, float]) -> float:
    norms = _norm(a.values()) * _norm(b.values())
    return sum(weight * b[key] for key, weight in a.items() if key in b) / norms if norms else 0.0


def _norm(weights: Iterable[float]) -> float:
    return sqrt(sum(weight * weight for weight in weights))
