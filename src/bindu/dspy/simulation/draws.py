"""Chance without a state: every draw is a hash of what it is drawn for."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

__all__ = ["Draws"]

T = TypeVar("T")

_WORD = 4  # bytes per draw


class Draws:
    """An endless row of draws that depends on the given parts and on nothing else."""

    __slots__ = ("_buffer", "_key", "_offset", "_round")

    def __init__(self, *parts: object) -> None:
        self._key = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=32).digest()
        self._buffer = b""
        self._offset = 0
        self._round = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        if self._offset == len(self._buffer):
            self._buffer = blake2b(self._key + self._round.to_bytes(4)).digest()
            self._round += 1
            self._offset = 0
        word = self._buffer[self._offset : self._offset + _WORD]
        self._offset += _WORD
        return low + (high - low) * int.from_bytes(word) / 2**32

    def chance(self, probability: float) -> bool:
        """True that often."""
        return self.uniform() < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of them, each as likely as the others."""
        return options[int(self.uniform() * len(options))]

    def bell(self, spread: float) -> float:
        """Around 0 with that standard deviation, never further than three of them."""
        return spread * 2 * (self.uniform() + self.uniform() + self.uniform() - 1.5)

    def sample(self, options: Sequence[T], weights: Sequence[float], count: int) -> list[T]:
        """Up to ``count`` different ones, the heavier the likelier (Efraimidis and Spirakis, 2006)."""
        keyed = [(self.uniform() ** (1 / weight), i) for i, weight in enumerate(weights) if weight > 0]
        return [options[i] for _, i in sorted(keyed, reverse=True)[:count]]
