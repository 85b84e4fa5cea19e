"""Training runs of the simulated world, each on its own logs in a real database."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from dspy import lm15

from bindu.dspy.errors import BinduError
from bindu.dspy.models import PromptCandidate, TrainingRun
from bindu.dspy.optimizers import Plan
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.simulation.desk import Desk
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.measure import showing
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.world import World
from bindu.dspy.storage import use_storage
from bindu.dspy.train import run_training
from bindu.settings import StorageSettings, app_settings

__all__ = ["Case", "Fixed", "Result", "minded", "run_all", "world_of"]

AGENT = "bench"
BEHIND = Path(__file__).parent.parent / "tests"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run to do."""

    row: str
    seed: int  # of the world's users and models
    trained: int | None = None  # seed of the training; None is the same
    optimizer: Any = "simba"
    objective: Any = "judge"
    conversations: int = 400
    prompt: str | None = None  # None is the world's start prompt
    second: bool = False
    latency: float = 0.0  # seconds of every model call
    threads: int = 1
    hostile: float = 0.0
    craving: str | None = None
    sly: bool = False  # the hostile ones complain like honest people
    corrections: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)  # of training


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of it."""

    case: Case
    outcome: str
    reason: str
    start: float  # true held-out quality
    quality: float  # of the candidate, or of the active prompt when there is none
    ceiling: float
    calls: Counter[str]
    wall: float  # seconds
    cpu: float  # milliseconds per model call, simulator included
    shown: dict[str, float] = field(default_factory=dict)  # how often answers show each thing that users mind
    prompt: str = ""


class Slow:
    """A simulated model that thinks for a while."""

    def __init__(self, inner: SimulatedEngine, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds

    def complete(self, request: lm15.Request) -> lm15.Response:
        time.sleep(self._seconds)
        return self._inner.complete(request)


class Fixed:
    """An optimizer that has the same ideas whatever it sees."""

    name = "fixed"
    min_rows = 8
    selects = False
    objective = None

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def plan(self, rows: int, select: int) -> Plan:
        return Plan(0, 0)

    def compile(self, prompt: str, examples: Any, **seam: Any) -> list[PromptCandidate]:
        return [PromptCandidate(text, 1.0) for text in self.texts]


def world_of(case: Case) -> World:
    """The shop, or the world whose words only the tests know."""
    if not case.second:
        return SHOP
    import sys

    sys.path.insert(0, str(BEHIND))
    from second_world import SECOND

    return SECOND


def minded(world: World) -> list[str]:
    """What its users would rather not see."""
    return [name for name, wish in world.taste.wishes.items() if wish.weight < 0]


def run_all(
    cases: Iterable[Case], *, processes: int = 2, done: Callable[[Result], None] = lambda _: None
) -> list[Result]:
    """Do them on so many cores; timed ones one at a time."""
    cases = list(cases)
    if processes == 1:
        return [_told(one, done) for one in map(run_case, cases)]
    with ProcessPoolExecutor(processes) as pool:
        return [_told(one, done) for one in pool.map(run_case, cases)]


def _told(result: Result, done: Callable[[Result], None]) -> Result:
    done(result)
    return result


def run_case(case: Case) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(case, Path(folder)))


async def _run(case: Case, folder: Path) -> Result:
    world = world_of(case)
    training = app_settings.dspy.training
    given = {"num_threads": case.threads, "runs_folder": str(folder / "runs"), "max_calls": 50_000, **case.settings}
    before = {name: getattr(training, name) for name in given}
    for name, value in given.items():
        setattr(training, name, value)
    storage = await PostgresStorage.connect(f"embedded:{folder / 'postgres'}", StorageSettings())
    try:
        with use_storage(storage):
            return await _train(case, world, storage)
    finally:
        await stop_prompt_refresh()
        await storage.close()
        for name, value in before.items():
            setattr(training, name, value)


async def _train(case: Case, world: World, storage: PostgresStorage) -> Result:
    desk = Desk(
        seed=case.seed, agent_id=AGENT, world=world, hostile=case.hostile, craving=case.craving,
        corrections=case.corrections, sly=case.sly,
    )  # fmt: skip
    start = case.prompt or world.start_prompt
    await bootstrap_prompt(start, agent_id=AGENT)
    await desk.converse(case.conversations, now=await storage.now() - timedelta(days=2))
    engine = Slow(desk.engine, case.latency) if case.latency else desk.engine
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        run = await run_training(
            case.optimizer,
            agent_id=AGENT,
            engine=engine,
            objective=case.objective,
            seed=case.seed if case.trained is None else case.trained,
        )
    except BinduError as error:
        found = getattr(error, "run", None)
        run = found if found is not None else TrainingRun(
            agent_id=AGENT, id=error, optimizer="", strategy="", seed=0, outcome="aborted", reason=str(error)
        )  # fmt: skip
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    serving = await storage.serving(AGENT)
    assert serving is not None
    text = (serving.candidate or serving.active).text
    return Result(
        case=case,
        outcome=run.outcome or "",
        reason=run.reason or "",
        start=desk.measure(start),
        quality=desk.measure(text),
        ceiling=desk.measure(world.ideal_prompt),
        calls=Counter({name: count for name, count in run.details.get("calls", {}).items() if name != "from_memory"}),
        wall=wall,
        cpu=1_000 * cpu / max(run.calls, 1),
        shown={name: showing(text, name, seed=case.seed, world=world) for name in minded(world)},
        prompt=text,
    )


def without(result: Result, **changes: Any) -> Result:
    """The result of a case with something changed in its label."""
    return dataclasses.replace(result, case=dataclasses.replace(result.case, **changes))
