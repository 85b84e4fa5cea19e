"""What the guardrails of an experiment read of a request that was recorded, and what they see of a unit."""

from __future__ import annotations

from collections.abc import Iterable

from bindu.dspy.models import JsonObject, Task
from bindu.dspy.policy import Policy
from bindu.dspy.units import FirstRequest

__all__ = ["cost_of", "guard_values", "is_refused"]

_MOST = 1e300  # more is no number to measure with


def is_refused(task: Task) -> bool:
    """Whether the answer was refused: by the agent, by its last message, or by the provider's content filter."""
    last: JsonObject = task.history[-1] if task.history else {}
    content = last.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return (
        task.state == "rejected"
        or any(bool(said.get("refusal")) for said in (last, *parts))
        or (task.usage or {}).get("finish_reason") == "content_filter"
    )


def cost_of(usage: JsonObject | None) -> float | None:
    """The caller's ``cost`` of a request, else its ``total_tokens``; None when neither is a number from 0 up."""
    for name in ("cost", "total_tokens"):
        value = (usage or {}).get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST:
            return float(value)
    return None


def guard_values(first: FirstRequest, policy: Policy) -> Iterable[tuple[str, float]]:
    """What guardrails see of a unit, in [0, 1], more being worse; what was not recorded is not seen."""
    yield "error", float(first.failed)
    yield "refusal", float(first.refused)
    if policy.slow_ms and first.latency_ms is not None:
        yield "slow", float(first.latency_ms > policy.slow_ms)
    if policy.cost_cap and first.cost is not None:
        yield "cost", min(1.0, first.cost / policy.cost_cap)
    if policy.judged and first.judged is not None:
        yield "judge", 1.0 - first.judged
