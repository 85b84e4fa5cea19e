"""The exporters' functions where their library is not installed: they do nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bindu.dspy.models import FeedbackKind
from bindu.dspy.telemetry.figures import SpoolFigures

__all__ = [
    "count_exposure",
    "counted_feedback",
    "counted_request",
    "feedback_event",
    "metrics_text",
    "prompt_attributes",
    "refresh_gauges",
    "show_spool",
]


def count_exposure(agent: str, arm: str) -> None: ...


def counted_feedback(agent: str, kind: str) -> None: ...


def counted_request(route: str, method: str, status: int, seconds: float) -> None: ...


def show_spool(read: Callable[[], SpoolFigures] | None) -> None: ...


async def refresh_gauges(agent_ids: Iterable[str] | None = None) -> None: ...


def metrics_text() -> tuple[bytes, str]:
    """Nothing, as a text."""
    return b"", "text/plain; charset=utf-8"


def prompt_attributes(prompt: Mapping[str, Any]) -> None: ...


def feedback_event(
    agent: str,
    kind: FeedbackKind,
    score: float,
    *,
    task_id: object = None,
    response_id: str | None = None,
) -> None: ...
