"""What an agent is served, prepared: from who is live to the dictionary that answers a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bindu.dspy.models import Arm, Prompt, PromptMetrics, Serving
from bindu.dspy.prompts import prompt_view
from bindu.dspy.routing import select

__all__ = ["Snapshot", "default_answer", "live_prompts", "snapshot_of"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Who is live for an agent, with the answers prepared per arm."""

    serving: Serving | None
    answers: dict[Arm, dict[str, Any]]
    pins: dict[str, Arm] = field(default_factory=dict, compare=False)  # arms of units that asked before

    def choose(self, unit_id: str | None, draw: float) -> dict[str, Any] | None:
        """The prompt for one request, None before bootstrap; ``draw`` in [0, 1) decides without a unit."""
        if self.serving is None:
            return None
        return {**self.answers[select(self.serving, unit_id, draw, self.pins)], "unit_id": unit_id}


def live_prompts(serving: Serving | None) -> list[Prompt]:
    """The active prompt, then the candidate."""
    return [] if serving is None else [prompt for prompt in (serving.active, serving.candidate) if prompt is not None]


def snapshot_of(serving: Serving | None, metrics: Mapping[int, PromptMetrics]) -> Snapshot:
    """The answers of both arms; a prompt that ``metrics`` does not hold was not counted yet."""
    if serving is None:
        return Snapshot(None, {})
    arms: tuple[Arm, ...] = ("active", "candidate")
    return Snapshot(
        serving,
        {
            arm: prompt_view(prompt, metrics.get(prompt.id) or _uncounted(prompt.id)) | _provenance(serving, arm)
            for arm, prompt in zip(arms, live_prompts(serving), strict=False)
        },
    )


def _uncounted(prompt_id: int) -> PromptMetrics:
    return PromptMetrics(prompt_id=prompt_id, num_interactions=0, num_rated=0, average_score=None)


def _provenance(serving: Serving, arm: Arm) -> dict[str, Any]:
    return {
        "agent_id": serving.agent_id,
        "arm": arm,
        "epoch": serving.epoch,
        "experiment_id": serving.experiment_id,
    }


def default_answer(agent_id: str, text: str, unit_id: str | None) -> dict[str, Any]:
    """What is served of an agent without a stored prompt; its ``id`` is None."""
    return {
        "id": None,
        "prompt_text": text,
        "status": "active",
        "traffic": 1.0,
        "num_interactions": 0,
        "average_feedback_score": None,
        "agent_id": agent_id,
        "arm": "active",
        "epoch": 0,
        "experiment_id": None,
        "unit_id": unit_id,
    }
