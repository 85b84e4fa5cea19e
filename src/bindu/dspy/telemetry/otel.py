"""Names of the OpenTelemetry conventions for generative AI, on the caller's spans and in events.

Through the API alone: without an SDK that the application set up, nothing leaves the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
from opentelemetry.trace import get_current_span

from bindu.dspy.models import FAILED_BELOW, FeedbackKind

__all__ = ["feedback_event", "prompt_attributes"]

if "event_name" not in signature(LogRecord.__init__).parameters:
    raise ImportError("opentelemetry-api is older than events; version 1.38 has them.", name="opentelemetry")

EVALUATION: Final = "gen_ai.evaluation.result"
PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"

_logger = get_logger("bindu.dspy")


def prompt_attributes(prompt: Mapping[str, Any]) -> None:
    """Say on the current span which prompt of which agent was served."""
    span = get_current_span()
    if span.is_recording():
        span.set_attributes({PROMPT_NAME: prompt["agent_id"], PROMPT_VERSION: str(prompt["id"])})


def feedback_event(
    agent: str,
    kind: FeedbackKind,
    score: float,
    *,
    task_id: object = None,
    response_id: str | None = None,
) -> None:
    """Emit a stored vote, ``score`` in [0, 1], as an evaluation of the answer. What the user wrote stays here."""
    known = {
        "bindu.task.id": None if task_id is None else str(task_id),
        "gen_ai.response.id": response_id,
    }
    attributes = {
        "gen_ai.evaluation.name": kind,
        "gen_ai.evaluation.score.value": float(score),
        "gen_ai.evaluation.score.label": "fail" if score < FAILED_BELOW else "pass",
        PROMPT_NAME: agent,
        **{name: value for name, value in known.items() if value is not None},
    }
    _logger.emit(LogRecord(event_name=EVALUATION, severity_number=SeverityNumber.INFO, attributes=attributes))
