"""Strategies by name, and by the short form of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from bindu.dspy.errors import UnknownStrategyError
from bindu.dspy.strategies.base import BaseExtractionStrategy
from bindu.dspy.strategies.context_window import ContextWindowStrategy
from bindu.dspy.strategies.first_n_turns import FirstNTurnsStrategy
from bindu.dspy.strategies.full_history import FullHistoryStrategy
from bindu.dspy.strategies.key_turns import KeyTurnsStrategy
from bindu.dspy.strategies.last_n_turns import LastNTurnsStrategy
from bindu.dspy.strategies.last_turn import LastTurnStrategy
from bindu.dspy.strategies.similarity import SimilarityStrategy
from bindu.dspy.strategies.sliding_window import SlidingWindowStrategy
from bindu.dspy.strategies.summary_context import SummaryContextStrategy

__all__ = ["STRATEGIES", "get_strategy", "parse_strategy"]

STRATEGIES: dict[str, type[BaseExtractionStrategy]] = {
    "last_turn": LastTurnStrategy,
    "full_history": FullHistoryStrategy,
    "last_n_turns": LastNTurnsStrategy,
    "first_n_turns": FirstNTurnsStrategy,
    "context_window": ContextWindowStrategy,
    "sliding_window": SlidingWindowStrategy,
    "summary_context": SummaryContextStrategy,
    "key_turns": KeyTurnsStrategy,
    "similarity": SimilarityStrategy,
}

_MOST_DIGITS = 9  # more turns or characters than any conversation has; of many more Python makes no number

_SHORT = {"last_n": "last_n_turns", "first_n": "first_n_turns"}
_FORMS = {
    "last_turn": "last_turn",
    "full_history": "full_history[:max_length]",
    "last_n_turns": "last_n:3",
    "first_n_turns": "first_n:3",
    "context_window": "context_window:5",
    "sliding_window": "sliding_window:2:1 (window_size:stride:start_offset)",
    "summary_context": "summary_context:5:2 (summary_turns:recent_turns)",
    "key_turns": "key_turns:refund,invoice",
    "similarity": "similarity:how do refunds work",
}
_NUMBERS: dict[str, tuple[str, ...]] = {
    "last_turn": (),
    "full_history": ("max_length",),
    "last_n_turns": ("n_turns",),
    "first_n_turns": ("n_turns",),
    "context_window": ("n_turns",),
    "sliding_window": ("window_size", "stride", "start_offset"),
    "summary_context": ("summary_turns", "recent_turns"),
}


def get_strategy(name: str, **kwargs: Any) -> BaseExtractionStrategy:
    """Make the strategy of that name; the keywords are its constructor's. Raises UnknownStrategyError."""
    return STRATEGIES[_full_name(name)](**kwargs)


def parse_strategy(spec: str) -> BaseExtractionStrategy:
    """Read ``last_turn``, ``last_n:3``, ``sliding_window:2:1``, ``key_turns:refund,invoice``, ...

    Raises UnknownStrategyError, which names the nearest strategy or the accepted form.
    """
    given, colon, rest = spec.partition(":")
    name = _full_name(given)
    if not colon:
        return get_strategy(name)
    if not rest.strip():
        raise _wrong(spec, name)
    match name:
        case "similarity":
            return SimilarityStrategy(query=rest.strip())
        case "key_turns":
            keywords = [word.strip() for word in rest.split(",")]
            if not all(keywords):
                raise _wrong(spec, name)
            return KeyTurnsStrategy(keywords=keywords)
    return get_strategy(name, **_numbers(spec, name, rest.split(":")))


def _numbers(spec: str, name: str, values: Sequence[str]) -> dict[str, int]:
    parameters = _NUMBERS[name]
    if len(values) > len(parameters) or not all(value.strip().isdecimal() for value in values):
        raise _wrong(spec, name)
    longest = max(len(value.strip()) for value in values)
    if longest > _MOST_DIGITS:
        raise UnknownStrategyError(
            f"A number of {name} has {longest:,} digits; {_MOST_DIGITS} are the most. Write {_FORMS[name]}."
        )
    found = dict(zip(parameters, (int(value) for value in values), strict=False))
    if any(number < (parameter != "start_offset") for parameter, number in found.items()):
        raise _wrong(spec, name)
    return found


def _full_name(given: str) -> str:
    plain = given.strip().lower().replace("-", "_")
    name = _SHORT.get(plain, plain)
    if name in STRATEGIES:
        return name
    nearest = difflib.get_close_matches(plain, [*STRATEGIES, *_SHORT], n=1, cutoff=0.0)[0]
    forms = ", ".join(_FORMS.values())
    raise UnknownStrategyError(f"{given!r} is not a strategy. Did you mean {nearest}? Accepted: {forms}.")


def _wrong(spec: str, name: str) -> UnknownStrategyError:
    return UnknownStrategyError(f"{spec!r} cannot be read. Write {_FORMS[name]}.")
