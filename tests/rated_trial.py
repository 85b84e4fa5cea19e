"""An experiment under the evidence rule with units that were served and rated, ending whenever a test looks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from bindu.dspy.models import Experiment, Trial
from bindu.dspy.policy import Policy
from bindu.dspy.storage import Storage
from samples import AGENT, a_task, a_vote, id_at


async def open_evidence_trial(storage: Storage, at: datetime, *, share: float = 0.5, **numbers: Any) -> Experiment:
    """Bootstrap the agent if need be and open an experiment at that time."""
    await storage.bootstrap(AGENT, "Be kind.", now=at)
    serving = await storage.serving(AGENT)
    assert serving is not None
    trial = Trial(
        agent_id=AGENT,
        text="Be kinder.",
        expected_version=serving.version,
        origin="manual",
        parent_id=serving.active.id,
        share=share,
        policy=msgspec.to_builtins(Policy(**{"rule": "evidence", **numbers})),
    )
    return await storage.begin_trial(trial, now=at)


async def rate_units(
    storage: Storage,
    experiment: Experiment,
    since: datetime,
    *,
    hours: int,
    scores: tuple[tuple[float, ...], tuple[float, ...]],
) -> None:
    """Every hour one unit per score and arm (active, candidate), served at half past and rated ten minutes later."""
    prompts = experiment.active_id, experiment.candidate_id
    served = [(prompt_id, score) for prompt_id, those in zip(prompts, scores, strict=True) for score in those]
    for hour in range(hours):
        at = since + timedelta(hours=hour, minutes=30)
        rated = at + timedelta(minutes=10)
        ids = await storage.add_tasks(
            [a_task(prompt_id=prompt_id, experiment_id=experiment.id, created_at=at) for prompt_id, _ in served]
        )
        votes = zip(ids, served, strict=True)
        await storage.add_feedback(
            [a_vote(task, score, id=id_at(rated), created_at=rated) for task, (_, score) in votes]
        )
