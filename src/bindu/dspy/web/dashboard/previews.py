"""What training would learn from, built once for however many people look on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from typing import Final
from weakref import WeakValueDictionary

from bindu.dspy.insights import DatasetPreview, dataset_preview

__all__ = ["Previews"]

_KEPT_SECONDS: Final = 30.0
_MOST_KEPT: Final = 32
_SAMPLES: Final = 5  # of either kind


class Previews:
    """One process's previews, each as it was half a minute ago at most; of an agent's one is built at a time."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[DatasetPreview, float]] = {}  # oldest first
        self._building: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by agent, while anybody waits

    async def read(self, agent_id: str, *, strategy: str = "last_turn", samples: int = _SAMPLES) -> DatasetPreview:
        """``dataset_preview``, with at most five samples of either kind. Its errors are not kept."""
        found = self._known(agent_id, strategy) or await self._built(agent_id, strategy)
        return replace(found, golden=found.golden[:samples], failures=found.failures[:samples])

    async def _built(self, agent_id: str, strategy: str) -> DatasetPreview:
        lock = self._building.setdefault(agent_id, asyncio.Lock())
        async with lock:
            found = self._known(agent_id, strategy)  # somebody else asked for it too
            if found is None:
                found = await dataset_preview(agent_id, strategy=strategy, samples=_SAMPLES)
                self._keep(agent_id, strategy, found)
            return found

    def _known(self, agent_id: str, strategy: str) -> DatasetPreview | None:
        found, until = self._kept.get((agent_id, strategy), (None, 0.0))
        return found if monotonic() < until else None

    def _keep(self, agent_id: str, strategy: str, found: DatasetPreview) -> None:
        self._kept.pop((agent_id, strategy), None)
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[agent_id, strategy] = found, monotonic() + _KEPT_SECONDS
