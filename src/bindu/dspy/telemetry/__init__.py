"""What we export: Prometheus figures (extra ``server``), OpenTelemetry attributes and events (extra ``otel``).

Without a library its functions do nothing, so callers need not ask what is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bindu.dspy.models import FeedbackKind
from bindu.dspy.telemetry.figures import SpoolFigures

try:
    from bindu.dspy.telemetry.prometheus import (
        count_exposure,
        counted_feedback,
        counted_request,
        metrics_text,
        refresh_gauges,
        show_spool,
    )
except ModuleNotFoundError as missing:
    if missing.name != "prometheus_client":
        raise
    from bindu.dspy.telemetry.silent import (
        count_exposure,
        counted_feedback,
        counted_request,
        metrics_text,
        refresh_gauges,
        show_spool,
    )
try:
    from bindu.dspy.telemetry.otel import feedback_event, prompt_attributes
except ImportError as missing:  # a module is missing, or of a version without events
    if not (missing.name or "").startswith("opentelemetry"):
        raise
    from bindu.dspy.telemetry.silent import feedback_event, prompt_attributes

__all__ = [
    "SpoolFigures",
    "counted_exposure",
    "counted_feedback",
    "counted_request",
    "feedback_event",
    "metrics_text",
    "refresh_gauges",
    "show_spool",
    "told_of_feedback",
]


def counted_exposure(prompt: Mapping[str, Any]) -> None:
    """Count one served prompt and name it on the caller's span.

    ``prompt`` is what ``select_prompt_with_canary`` returned. A default, whose agent nobody may have stored, is counted
    without the agent's name and named on no span.
    """
    stored = prompt.get("id") is not None
    count_exposure(*(prompt["agent_id"], prompt["arm"]) if stored else ("", "default"))
    if stored:
        prompt_attributes(prompt)


def told_of_feedback(
    agent: str, task_id: object, vote: tuple[FeedbackKind, float] | None, *, response_id: str | None = None
) -> None:
    """Count feedback that was stored, and emit its vote as an event; words without a vote are a remark.

    ``task_id`` is the id that the caller knows the task by, ``response_id`` the model's own if that is known.
    """
    if vote is None:
        counted_feedback(agent, "remark")
        return
    kind, score = vote
    counted_feedback(agent, kind)
    feedback_event(agent, kind, score, task_id=task_id, response_id=response_id)
