"""Tasks, votes, training runs and trials with everything filled in that a test does not care about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from bindu.dspy.models import Experiment, Feedback, Rollout, Task, TrainingRun, Trial
from bindu.dspy.storage import Storage

AGENT = "default"
TALK = [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "On its way."}]


def id_at(when: datetime) -> UUID:
    """A version 7 id of that time."""
    microseconds = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return uuid7(nanoseconds=microseconds * 1000)


def a_task(**fields: Any) -> Task:
    created_at = fields.get("created_at")
    given = {"agent_id": AGENT, "prompt_id": 1, "history": TALK, "id": id_at(created_at) if created_at else uuid7()}
    return Task(**{**given, **fields})


def a_vote(task_id: UUID, score: float = 1.0, **fields: Any) -> Feedback:
    return Feedback(
        **{"agent_id": AGENT, "task_id": task_id, "id": uuid7(), "kind": "rating", "score": score, **fields}
    )


def a_run(**fields: Any) -> TrainingRun:
    given = {"agent_id": AGENT, "id": uuid7(), "optimizer": "simba", "strategy": "last_turn", "seed": 7}
    return TrainingRun(**{**given, **fields})


async def open_trial(
    storage: Storage, agent_id: str = AGENT, share: float = 0.1, *, now: datetime | None = None, **fields: Any
) -> Experiment:
    """Bootstrap the agent if need be and put a new text on trial."""
    active = await storage.bootstrap(agent_id, "Be kind.", now=now)
    serving = await storage.serving(agent_id)
    assert serving is not None
    given = {"text": f"Be kinder than prompt {active.id}.", "origin": "simba", "parent_id": active.id, "share": share}
    return await storage.begin_trial(
        Trial(**{"agent_id": agent_id, "expected_version": serving.version, **given, **fields}), now=now
    )


async def a_rollout(storage: Storage, agent_id: str = AGENT, **fields: Any) -> Rollout:
    """A move decided on what is live right now; a hold unless the fields say otherwise."""
    serving = await storage.serving(agent_id)
    assert serving is not None
    assert serving.experiment_id is not None
    given = {
        "agent_id": agent_id,
        "experiment_id": serving.experiment_id,
        "expected_version": serving.version,
        "verdict": "hold",
        "share_before": serving.share,
        "share_after": serving.share,
        "reason": "The evidence is not in yet.",
    }
    return Rollout(**{**given, **fields})
