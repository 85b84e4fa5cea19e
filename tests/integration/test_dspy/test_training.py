"""The whole training run on a real database, with the simulated model: every outcome, and one effect at most."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import dspy
import pytest
from dspy import lm15

from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import (
    BudgetExceededError,
    ExperimentActiveError,
    ModelUnavailableError,
    NoActivePromptError,
    StaleRolloutError,
    StorageNotConfiguredError,
    TrainingRefusedError,
    UnknownStrategyError,
    UnsupportedOptimizerError,
)
from bindu.dspy.models import Feedback, PromptCandidate, Task, TrainingRun
from bindu.dspy.objective import Objective
from bindu.dspy.optimizer import Plan, SimbaOptimizer
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.measure import measure
from bindu.dspy.simulation.desk import BAD_PROMPT, IDEAL_PROMPT, START_PROMPT
from bindu.dspy.simulation.questions import questions
from bindu.dspy.simulation.users import SimulatedUsers
from bindu.dspy.strategies import LastTurnStrategy
from bindu.dspy.train import run_training, train, train_async
from bindu.settings import app_settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPACE = UUID(int=7)


class Proposes:
    """An optimizer that always has the same idea, by the shape of our protocol."""

    name = "fixed"
    min_rows = 32
    objective: Objective | None = None

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.shown: list[str] = []

    def plan(self, rows: int) -> Plan:
        return Plan(0, 0)

    def compile(
        self, prompt: str, examples: Sequence[dspy.Example], *, objective: Objective, engine: CountingEngine, seed: int
    ) -> list[PromptCandidate]:
        self.shown = [example.context_id for example in examples]
        return [PromptCandidate(text, 1.0) for text in self.texts]


class Broken:
    """A simulated model that fails after some calls: always, or every other time."""

    def __init__(self, *, healthy: int = 0, every: int = 1) -> None:
        self._inner = SimulatedEngine(0)
        self._healthy = healthy
        self._every = every
        self.calls = 0

    def complete(self, request: lm15.Request) -> lm15.Response:
        self.calls += 1
        if self.calls > self._healthy and self.calls % self._every == 0:
            raise lm15.InvalidRequestError("the model fell over")
        return self._inner.complete(request)


class Echo:
    """A model that repeats what it was told."""

    def complete(self, request: lm15.Request) -> lm15.Response:
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant(request.messages[-1].text or "?"),
            finish_reason="stop",
            usage=lm15.Usage(),
        )


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = app_settings.dspy.training.num_threads
    app_settings.dspy.training.num_threads = 1
    yield
    app_settings.dspy.training.num_threads = before


def asked(prompt: str, question: str) -> lm15.Request:
    return lm15.Request(model="simulated/desk", system=prompt, messages=(lm15.Message.user(question),))


async def talk(storage: PostgresStorage, n: int, *, seed: int = 0, prompt: str = START_PROMPT, rated: bool = True) -> None:
    """Let n simulated customers be answered under a prompt and vote, one conversation each, a minute apart."""
    await storage.bootstrap("default", prompt, now=NOON)
    engine, users = SimulatedEngine(seed), SimulatedUsers(seed)
    tasks, votes = [], []
    for number, question in enumerate(questions(n, seed=seed)):
        at = NOON + timedelta(minutes=number)
        answer = engine.complete(asked(prompt, question)).text or ""
        task_id = UUID(int=int(at.timestamp() * 1_000) << 80 | 7 << 76 | 2 << 62 | number)
        history = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        tasks.append(
            Task(agent_id="default", id=task_id, prompt_id=1, history=history, context_id=f"c{number}", created_at=at)
        )
        reaction = users.react(question, answer, occasion=number)
        if reaction is None or not rated:
            continue
        data = reaction.feedback
        score = data["rating"] / 5 if "rating" in data else float(data["thumbs_up"])
        kind = "rating" if "rating" in data else "thumbs_up"
        votes.append(
            Feedback(
                agent_id="default",
                task_id=task_id,
                id=uuid5(SPACE, str(number)),
                kind=kind,  # type: ignore[arg-type]
                score=score,
                rater_id=reaction.rater_id,
                comment=data.get("comment"),
                created_at=at,
            )
        )
    await storage.add_tasks(tasks)
    await storage.add_feedback(votes)


async def only_run(storage: PostgresStorage) -> TrainingRun:
    (run,) = await storage.runs("default")
    return run


async def is_stable(storage: PostgresStorage) -> bool:
    serving = await storage.serving("default")
    return serving is not None and serving.candidate is None and serving.active.traffic == 1.0


async def test_simba_learns_from_clicks_and_comments_and_puts_the_better_prompt_on_trial(
    storage: PostgresStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    await talk(storage, 400)
    optimizer = SimbaOptimizer(bsize=16, num_candidates=4, max_steps=4)

    run = await run_training(optimizer, engine=SimulatedEngine(0), seed=3)

    serving = await storage.serving("default")
    assert serving is not None
    assert serving.candidate is not None
    assert (run.outcome, run.candidate_id, serving.share) == ("improved", serving.candidate.id, 0.1)
    assert serving.active.traffic + serving.candidate.traffic == 1.0
    assert measure(serving.candidate.text) > measure(START_PROMPT) + 0.3
    stored = await only_run(storage)
    assert (stored.outcome, stored.reason, stored.calls) == ("improved", run.reason, run.calls)
    assert stored.details["gate"]["lower"] > 0.01
    assert all(rule["task_ids"] for rule in stored.details["rubric"]["rules"])
    assert "+" in stored.details["diff"]
    assert stored.calls <= stored.details["calls_planned"] + 1  # the preflight's question
    assert capsys.readouterr().out == ""


async def test_the_same_seed_proposes_the_same_prompt(storage: PostgresStorage) -> None:
    await talk(storage, 250)
    texts = []
    for _ in range(2):
        await run_training(
            SimbaOptimizer(bsize=8, num_candidates=3, max_steps=1), engine=SimulatedEngine(0), objective="judge", seed=1
        )
        serving = await storage.serving("default")
        assert serving is not None
        assert serving.candidate is not None
        texts.append(serving.candidate.text)
        break
    assert texts
