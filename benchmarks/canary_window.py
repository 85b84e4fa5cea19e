"""What a window costs: 1,000 rated units ordered by hash, made strata and folded with the band."""

from __future__ import annotations

import time
from datetime import timedelta

import numpy as np
from canary_runs import POLICY, START
from canary_world import drawn_ratings

from bindu.dspy.evidence import Evidence, fold
from bindu.dspy.units import CountedUnit
from bindu.dspy.windows import windows_of

__all__ = ["milliseconds"]


def milliseconds(share: float, seed: int, *, first: bool, windows: int = 60, units: int = 1_000) -> list[float]:
    """Per window, without reading it from the database; half thumbs and half ratings.

    ``first``: as an experiment's first window, when the band is at its widest and so dearest; else one after another.
    """
    chance, evidence, spent = np.random.default_rng(seed), Evidence(), []
    for window in range(1, windows + 1):
        counted = _units(chance, units, share, window)
        began = time.process_time()
        [closed] = windows_of((), counted, {1: share}, POLICY)
        after = fold(evidence, closed, POLICY)
        spent.append(1_000 * (time.process_time() - began))
        evidence = Evidence() if first else after
    return spent


def _units(chance: np.random.Generator, units: int, share: float, window: int) -> list[CountedUnit]:
    thumbs, draw = np.arange(units) % 2 == 0, chance.random(units)
    scores = np.where(thumbs, draw < 0.7, drawn_ratings(np.full(units, 0.5), draw))
    return [
        CountedUnit(
            unit_id=f"{window}-{number}",
            arm="candidate" if place < share else "active",
            epoch=1,
            window=window,
            kind="thumbs_up" if thumb else "rating",
            rater_id="",
            rated_at=START + timedelta(hours=window),
            score=score,
        )
        for number, (place, thumb, score) in enumerate(
            zip(chance.random(units).tolist(), thumbs.tolist(), scores.tolist(), strict=True)
        )
    ]
