"""Values that are handed to the exporters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bindu.dspy.recorder import Recorder

__all__ = ["SpoolFigures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolFigures:
    """What of this process waits for the database, and what it gave up."""

    size: int = 0  # bytes on disk
    exchanges: int = 0  # those in memory included
    dropped: Mapping[str, int] = field(default_factory=dict)  # exchanges that were given up, by reason

    @classmethod
    def of(cls, recorder: Recorder) -> SpoolFigures:
        """As they are now; in any thread."""
        return cls(size=recorder.spooled, exchanges=recorder.waiting, dropped=dict(recorder.dropped))
