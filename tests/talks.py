"""Simulated customers who talked to an agent before a test begins, and an optimizer that always has the same idea."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import dspy
from dspy import lm15

from bindu.dspy.models import Feedback, PromptCandidate, Task
from bindu.dspy.objective import Objective
from bindu.dspy.optimizers import Plan
from bindu.dspy.simulation.desk import START_PROMPT
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.questions import questions
from bindu.dspy.simulation.users import SimulatedUsers
from bindu.dspy.storage import Storage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPACE = UUID(int=7)


class Proposes:
    """An optimizer that always has the same idea, by the shape of our protocol."""

    name = "fixed"
    min_rows = 32
    selects = False
    objective: Objective | None = None

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.shown: list[str] = []

    def plan(self, rows: int, select: int) -> Plan:
        return Plan(0, 0)

    def compile(self, prompt: str, examples: Sequence[dspy.Example], **seam: Any) -> list[PromptCandidate]:
        self.shown = [example.context_id for example in examples]
        return [PromptCandidate(text, 1.0) for text in self.texts]


def asked(prompt: str, question: str) -> lm15.Request:
    return lm15.Request(model="simulated/desk", system=prompt, messages=(lm15.Message.user(question),))


async def talk(
    storage: Storage,
    n: int,
    *,
    seed: int = 0,
    prompt: str = START_PROMPT,
    rater: str | None = None,
    agent_id: str = "default",
    hostile: float = 0.0,
    craving: str | None = None,
) -> None:
    """Let n simulated customers be answered under a prompt and vote, one conversation each, a minute apart.

    ``hostile`` and ``craving`` are those of ``SimulatedUsers``.
    """
    await storage.bootstrap(agent_id, prompt, now=NOON)
    engine, users = SimulatedEngine(seed), SimulatedUsers(seed, hostile=hostile, craving=craving)
    tasks, votes = [], []
    for number, question in enumerate(questions(n, seed=seed)):
        at = NOON + timedelta(minutes=number)
        answer = engine.complete(asked(prompt, question)).text or ""
        task_id = UUID(int=int(at.timestamp() * 1_000) << 80 | 7 << 76 | 2 << 62 | number)
        history = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        tasks.append(
            Task(agent_id=agent_id, id=task_id, prompt_id=1, history=history, context_id=f"c{number}", created_at=at)
        )
        reaction = users.react(question, answer, occasion=number)
        if reaction is None:
            continue
        data = reaction.feedback
        score = data["rating"] / 5 if "rating" in data else float(data["thumbs_up"])
        kind = "rating" if "rating" in data else "thumbs_up"
        votes.append(
            Feedback(
                agent_id=agent_id,
                task_id=task_id,
                id=uuid5(SPACE, str(number)),
                kind=kind,  # type: ignore[arg-type]
                score=score,
                rater_id=rater or reaction.rater_id,
                comment=data.get("comment"),
                created_at=at,
            )
        )
    await storage.add_tasks(tasks)
    await storage.add_feedback(votes)


def apologises(example: dspy.Example, prediction: dspy.Prediction) -> float:
    return float("sorry" in prediction.output.lower() or "apolog" in prediction.output.lower())
