"""What a run may spend: calls, money and minutes, held to even by calls that are still in flight."""

from __future__ import annotations

import threading
import time
from typing import Final

from bindu.dspy.errors import BudgetExceededError

__all__ = ["Budget"]

_LOOK_UP: Final = 0.1  # seconds between looks at whether waiting for money still makes sense
_ROUNDING: Final = 1e-9  # dollars: sums of floats


class Budget:
    """Limits that many threads reserve from before they spend.

    A call reserves the most it can cost and gives back what it did not. So the sum of what was spent and what is in
    flight never passes ``max_cost``; a call that does not fit waits for the others to settle, so that the run does not
    end in the middle of answers that it pays for.
    """

    def __init__(
        self, *, max_calls: int, max_cost: float | None = None, max_minutes: float | None = None, calls: int = 0,
        cost: float = 0.0,
    ) -> None:  # fmt: skip
        """``calls`` and ``cost`` (US dollars) were spent by earlier processes of the same run."""
        self.max_calls = max_calls
        self.max_cost = max_cost
        self.max_minutes = max_minutes
        self.calls = calls
        self.cost = cost
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._reserved = 0.0
        self._in_flight = 0
        self._changed = threading.Condition()
        self._closed = False

    def reserve(self, worst: float) -> None:
        """Take one call and at most ``worst`` dollars; nothing once the run is over.

        Raises BudgetExceededError when that cannot be had.
        """
        with self._changed:
            while not self._closed:
                self.check_time()
                short = self._short_of(worst)
                if short is None:
                    self.calls += 1
                    self._in_flight += 1
                    self._reserved += worst
                    return
                if not self._in_flight:
                    raise BudgetExceededError(short)
                self._changed.wait(_LOOK_UP)

    def settle(self, worst: float, spent: float) -> None:
        """Give back a reservation of ``worst`` dollars, of which ``spent`` were used."""
        with self._changed:
            self._in_flight -= 1
            self._reserved -= worst
            self.cost += spent
            self._changed.notify_all()

    def close(self) -> None:
        """Let those who wait go on: the run is over, and whoever asks next is told so."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def check_time(self) -> None:
        """Raise BudgetExceededError when the minutes are over."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise BudgetExceededError(
                f"The run reached its limit of {self.max_minutes:g} minutes. Nothing was deployed. Run the same "
                "command again to go on: what was paid for is kept."
            )

    def _short_of(self, worst: float) -> str | None:
        """What is missing for one more call, in a sentence."""
        if self.calls >= self.max_calls:
            return (
                f"The run reached its limit of {self.max_calls:,} model calls. Nothing was deployed. Run the same "
                "command with a higher --max-calls (DSPY__TRAINING__MAX_CALLS): what was paid for is kept."
            )
        if self.max_cost is not None and self.cost + self._reserved + worst > self.max_cost + _ROUNDING:
            return (
                f"The run spent ${self.cost:.4f} and the next call may cost ${worst:.4f}, which would pass its "
                f"limit of ${self.max_cost:.2f}. Nothing was deployed. Run the same command with a higher "
                "--max-cost: what was paid for is kept."
            )
        return None
