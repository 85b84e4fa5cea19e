"""An agent in the middle of its life, for pages to show: a trial with decisions, votes, training, what people did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from random import Random
from uuid import UUID

from uuid_utils.compat import uuid7

from bindu.dspy.canary.controller import run_step
from bindu.dspy.canary.verbs import carry_out
from bindu.dspy.models import Experiment, TrainingRun
from bindu.dspy.storage import Storage
from samples import a_run, a_task, a_vote, id_at
from trials import open_evidence_trial

SHOP = "support-desk"
KEPT = "<!-- keep -->Never promise a refund.<!-- /keep -->"
FIRST = f"You answer customers of a shop.\n{KEPT}\nBe very brief and formal."
SECOND = f"You answer customers of a shop.\n{KEPT}\nBe kind, and say which document proves it."
QUESTION, ANSWER = "May I send the blue shoes back?", "Yes, within 30 days."
COMMENT = "It did not say how."
HOURS = 9  # of the trial so far
UNITS = 60  # an hour


@dataclass(frozen=True, slots=True)
class Show:
    """What was laid down: the running trial, and a conversation with votes."""

    experiment: Experiment
    task_id: UUID


async def lay_down(storage: Storage, agent_id: str = SHOP, *, hours: int = HOURS) -> Show:
    """All that an agent's pages can show; the trial began that many hours ago and a bit."""
    now = await storage.now()
    began = now - timedelta(hours=hours, minutes=20)
    await storage.bootstrap(agent_id, FIRST, now=began - timedelta(days=1))
    trial = await open_evidence_trial(storage, began, share=0.1, agent_id=agent_id, text=SECOND)
    draws, numbers = Random(6), count(1)
    task_id = uuid7()
    for hour in range(hours):
        at = began + timedelta(hours=hour)
        task_id = await an_hour(storage, trial, at, draws, numbers)
        await run_step(agent_id=agent_id, now=at + timedelta(hours=1, minutes=1))
    await carry_out("pause", reason="A sale begins.", actor="ann", agent_id=agent_id, now=now - timedelta(minutes=9))
    await carry_out("resume", reason="It is over.", actor="ann", agent_id=agent_id, now=now - timedelta(minutes=8))
    for run in some_runs(agent_id, began):
        await storage.save_run(run, now=now)
    return Show(trial, task_id)


async def an_hour(storage: Storage, trial: Experiment, at: datetime, draws: Random, numbers: count[int]) -> UUID:
    """Units by the shares of that hour; two of three say something. The last one's task."""
    present = await storage.serving(trial.agent_id)
    assert present is not None
    tasks, votes = [], []
    for place in range(UNITS):
        number = next(numbers)
        is_candidate = place < UNITS * present.share
        served_at = at + timedelta(minutes=1, seconds=50 * place)
        task = a_task(
            agent_id=trial.agent_id,
            prompt_id=trial.candidate_id if is_candidate else trial.active_id,
            experiment_id=trial.id,
            epoch=present.epoch,
            unit_id=f"customer {number}",
            created_at=served_at,
            history=[
                {"role": "user", "content": f"{QUESTION} My order is {number}."},
                {"role": "assistant", "content": ANSWER},
            ],
        )
        tasks.append(task)
        if draws.random() < 0.66:
            good = float(draws.random() < (0.9 if is_candidate else 0.3))
            said_at = served_at + timedelta(minutes=2)
            said = COMMENT if not good else None
            votes.append(
                a_vote(
                    task.id,
                    good,
                    kind="thumbs_up",
                    comment=said,
                    rater_id=f"rater {number}",
                    agent_id=trial.agent_id,
                    created_at=said_at,
                    id=id_at(said_at),
                )
            )
    await storage.add_tasks(tasks)
    await storage.add_feedback(votes)
    return votes[-1].task_id


async def lay_down_little(storage: Storage, agent_id: str) -> Experiment:
    """A trial of prompt 2 that opened two hours ago."""
    began = await storage.now() - timedelta(hours=2, minutes=2)
    await storage.bootstrap(agent_id, FIRST, now=began)
    trial = await open_evidence_trial(storage, began, share=0.1, agent_id=agent_id, text=SECOND)
    draws, numbers = Random(6), count(1)
    for hour in (0, 1):
        await an_hour(storage, trial, began + timedelta(hours=hour), draws, numbers)
        await run_step(agent_id=agent_id, now=began + timedelta(hours=hour + 1, minutes=1))
    return trial


def some_runs(agent_id: str, began: datetime) -> Iterator[TrainingRun]:
    """One that ended with a proof, and one that is under way."""
    yield a_run(
        agent_id=agent_id,
        id=id_at(began - timedelta(hours=3)),
        state="ended",
        outcome="improved",
        reason="The new prompt is better on unseen conversations.",
        calls=1_234,
        cost=0.42,
        details={
            "funnel": {"tasks": 240, "golden": 150, "failures": 60, "drops": {"without_feedback": 30}},
            "rubric": {"rules": [{"rule": "Name the document that proves it.", "task_ids": ["1", "2"]}]},
            "gate": {"outcome": "passed", "conversations": 40, "gain": 0.12, "lower": 0.03},
            "lineage": [{"line": "Be kind.", "rule": "Name the document.", "task_ids": ["1"]}],
        },
        started_at=began - timedelta(hours=3),
        ended_at=began - timedelta(hours=2),
    )
    yield a_run(
        agent_id=agent_id,
        id=id_at(began + timedelta(hours=1)),
        step="searching for a better prompt",
        calls=300,
        cost=0.1,
        details={"progress": {"calls_done": 300, "calls_expected": 1_200, "eta_seconds": 90}},
        started_at=began + timedelta(hours=1),
    )
