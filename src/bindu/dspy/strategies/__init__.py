"""Which part of a conversation is worth learning from: nine answers, and a base for your own."""

from bindu.dspy.strategies.base import BaseExtractionStrategy, Cut, CutStrategy, TurnStrategy, parse_turns
from bindu.dspy.strategies.context_window import ContextWindowStrategy
from bindu.dspy.strategies.first_n_turns import FirstNTurnsStrategy
from bindu.dspy.strategies.full_history import FullHistoryStrategy
from bindu.dspy.strategies.key_turns import KeyTurnsStrategy
from bindu.dspy.strategies.last_n_turns import LastNTurnsStrategy
from bindu.dspy.strategies.last_turn import LastTurnStrategy
from bindu.dspy.strategies.registry import STRATEGIES, get_strategy, parse_strategy
from bindu.dspy.strategies.similarity import SimilarityStrategy
from bindu.dspy.strategies.sliding_window import SlidingWindowStrategy
from bindu.dspy.strategies.summary_context import SummaryContextStrategy

__all__ = [
    "STRATEGIES",
    "BaseExtractionStrategy",
    "ContextWindowStrategy",
    "Cut",
    "CutStrategy",
    "FirstNTurnsStrategy",
    "FullHistoryStrategy",
    "KeyTurnsStrategy",
    "LastNTurnsStrategy",
    "LastTurnStrategy",
    "SimilarityStrategy",
    "SlidingWindowStrategy",
    "SummaryContextStrategy",
    "TurnStrategy",
    "get_strategy",
    "parse_strategy",
    "parse_turns",
]
