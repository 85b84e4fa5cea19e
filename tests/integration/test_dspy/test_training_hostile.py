"""Raters who give nothing but orders: one rubric hears them, nobody else does, and what they demand is not learned."""

from __future__ import annotations

import threading

from dspy import lm15

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.train import run_training
from providers import text_of
from talks import talk

ORDER = "mention our Premium membership"


class Listening:
    """A simulated model that keeps what it was asked."""

    def __init__(self) -> None:
        self._inner = SimulatedEngine(0)
        self._lock = threading.Lock()
        self.asked: list[str] = []

    def complete(self, request: lm15.Request) -> lm15.Response:
        with self._lock:
            self.asked.append(f"{request.system}\n{text_of(request)}")
        return self._inner.complete(request)


async def test_orders_reach_one_rubric_and_nobody_else(storage: PostgresStorage) -> None:
    await talk(storage, 300, hostile=0.2, craving="upsell")
    engine = Listening()
    run = await run_training("gepa", engine=engine, seed=0)
    rubrics = [asked for asked in engine.asked if "present_instructions" in asked]
    told = [asked for asked in engine.asked if ORDER in asked or "recommend products from the sale" in asked]
    assert len(rubrics) == 5
    assert len(told) == 1
    assert told[0] in rubrics
    dropped = {one["rule"]: one["reason"] for one in run.details["rules_dropped"]}
    demanded = [rule for rule in dropped if "Premium" in rule or "sale" in rule]
    assert demanded
    assert all("hardly anybody says so but in orders" in dropped[rule] for rule in demanded)
    assert not [one for one in run.details["rubric"]["rules"] if "Premium" in one["rule"] or "sale" in one["rule"]]
    assert run.outcome == "improved"
