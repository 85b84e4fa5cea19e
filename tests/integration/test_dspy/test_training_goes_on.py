"""A run that was killed goes on where it was: the same result, and nothing is paid twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from dspy import lm15

from bindu.dspy.models import TrainingRun
from bindu.dspy.optimizers import GepaOptimizer, MiproOptimizer, SimbaOptimizer
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.train import Limits, run_training
from bindu.settings import app_settings
from faults import Killed
from talks import talk

KILLS = 10
THREADS = 4
NO_TRIAL = Limits(accept_margin=1.0)  # what is found is compared, not deployed


class Mortal:
    """A simulated model whose process dies at the n-th call, and with it all calls that are in flight then."""

    def __init__(self, dies_at: int | None = None) -> None:
        self._inner = SimulatedEngine(0)
        self._dies_at = dies_at
        self._lock = threading.Lock()
        self.calls = 0

    def complete(self, request: lm15.Request) -> lm15.Response:
        with self._lock:
            if self._dies_at is not None and self.calls >= self._dies_at:
                raise Killed("the process is gone")
            self.calls += 1
        return self._inner.complete(request)


def found(run: TrainingRun) -> dict[str, Any]:
    """What a run came to."""
    kept = ("diff", "gate", "rubric", "rules_dropped", "calibration", "split", "lineage")
    return {name: run.details.get(name) for name in kept} | {"outcome": run.outcome}


@pytest.mark.parametrize(
    "make",
    [GepaOptimizer, MiproOptimizer, lambda: SimbaOptimizer(bsize=12, num_candidates=3, max_steps=3)],
    ids=["gepa", "miprov2", "simba"],
)
async def test_killed_ten_times_in_a_row_it_finds_the_same_and_pays_only_for_what_was_in_flight(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    monkeypatch.setattr(app_settings.dspy.training, "num_threads", THREADS)
    await talk(storage, 240, agent_id="whole")
    await talk(storage, 240, agent_id="killed")
    whole = Mortal()
    unkilled = await run_training(make(), agent_id="whole", engine=whole, seed=3, limits=NO_TRIAL)

    chance, spent = random.Random(5), 0
    for _ in range(KILLS):
        model = Mortal(dies_at=chance.randint(1, whole.calls // KILLS))
        with pytest.raises(Killed):
            await run_training(make(), agent_id="killed", engine=model, seed=3, limits=NO_TRIAL)
        spent += model.calls
    last = Mortal()
    run = await run_training(make(), agent_id="killed", engine=last, seed=3, limits=NO_TRIAL)

    assert found(run) == found(unkilled)
    assert spent + last.calls <= whole.calls + KILLS * THREADS
    runs = await storage.runs("killed")
    assert [one.outcome for one in runs] == [run.outcome] + ["aborted"] * KILLS
    assert [one.resumes for one in runs] == [*(one.id for one in runs[1:]), None]
