"""Experiments under the evidence rule whose time is the test's: who comes, who votes, when the controller looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import msgspec

from bindu.dspy.canary.controller import run_step
from bindu.dspy.models import Arm, Decision, Experiment, FeedbackKind
from bindu.dspy.policy import Policy
from bindu.dspy.storage import Storage
from samples import AGENT, a_task, a_vote, id_at, open_trial

START = datetime(2026, 6, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


@dataclass
class RunningTrial:
    """One experiment, and the tasks of its units so that they can be voted on."""

    storage: Storage
    experiment: Experiment
    tasks: dict[str, list[UUID]] = field(default_factory=dict)
    numbers: count[int] = field(default_factory=count)

    async def ask(self, unit: str, arm: Arm, hours: float, *, epoch: int | None = None, **fields: Any) -> UUID:
        """A request of a unit, in the present share epoch unless another is given."""
        [task_id] = await self.ask_all({unit: arm}, hours, epoch=epoch, **fields)
        return task_id

    async def ask_all(
        self, units: dict[str, Arm], hours: float, *, epoch: int | None = None, **fields: Any
    ) -> list[UUID]:
        now = await self.storage.experiment(self.experiment.agent_id, self.experiment.id)
        assert now is not None
        given = {"agent_id": now.agent_id, "experiment_id": now.id, "created_at": at(hours), **fields}
        given["epoch"] = now.epoch if epoch is None else epoch
        prompts = {"active": now.active_id, "candidate": now.candidate_id}
        tasks = [a_task(unit_id=unit, prompt_id=prompts[arm], **given) for unit, arm in units.items()]
        await self.storage.add_tasks(tasks)
        for task in tasks:
            self.tasks.setdefault(str(task.unit_id), []).append(task.id)
        return [task.id for task in tasks]

    async def rate(
        self,
        unit: str,
        score: float,
        hours: float,
        *,
        rater: str = "",
        kind: FeedbackKind = "thumbs_up",
        task: UUID | None = None,
        **fields: Any,
    ) -> None:
        """A vote on the unit's first task unless another is given."""
        given = {"agent_id": self.experiment.agent_id, "rater_id": rater, "kind": kind, "created_at": at(hours)}
        await self.storage.add_feedback([a_vote(task or self.tasks[unit][0], score, **given, **fields)])

    async def serve(
        self, hours: float, *, active: Sequence[float | None] = (), candidate: Sequence[float | None] = ()
    ) -> None:
        """New units, each with a thumb (None: without) six minutes later."""
        arms: list[tuple[Arm, float | None]] = [("active", score) for score in active]
        arms += [("candidate", score) for score in candidate]
        units = {f"unit {next(self.numbers)}": (arm, score) for arm, score in arms}
        await self.ask_all({unit: arm for unit, (arm, _) in units.items()}, hours)
        votes = [
            a_vote(
                self.tasks[unit][0],
                score,
                agent_id=self.experiment.agent_id,
                kind="thumbs_up",
                created_at=at(hours + 0.1),
            )
            for unit, (_, score) in units.items()
            if score is not None
        ]
        await self.storage.add_feedback(votes)

    async def look(self, hours: float) -> Decision | None:
        """A run of the controller at that time."""
        return await run_step(agent_id=self.experiment.agent_id, now=at(hours))

    async def verdict(self, hours: float) -> tuple[str, float] | None:
        decision = await self.look(hours)
        return None if decision is None else (decision.verdict, decision.share_after)


async def open_evidence_trial(
    storage: Storage,
    now: datetime = START,
    *,
    share: float = 0.5,
    agent_id: str = AGENT,
    text: str = "Be kinder.",
    **numbers: Any,
) -> Experiment:
    """An experiment that opens at that time, with the policy's usual numbers unless others are given."""
    policy = msgspec.to_builtins(Policy(**numbers))
    return await open_trial(storage, agent_id, share, now=now, text=text, policy=policy)


async def running_trial(storage: Storage, **given: Any) -> RunningTrial:
    """An experiment that opens at START, with hourly windows unless the policy says otherwise."""
    return RunningTrial(storage, await open_evidence_trial(storage, **given))


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
        served_at = since + timedelta(hours=hour, minutes=30)
        rated = served_at + timedelta(minutes=10)
        ids = await storage.add_tasks(
            [a_task(prompt_id=prompt_id, experiment_id=experiment.id, created_at=served_at) for prompt_id, _ in served]
        )
        votes = zip(ids, served, strict=True)
        await storage.add_feedback(
            [a_vote(task, score, id=id_at(rated), created_at=rated) for task, (_, score) in votes]
        )
