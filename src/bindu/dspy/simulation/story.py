"""The demo's first two acts: real logs with real votes, then the closed loop on the simulated support desk.

Every figure is read from the database or measured by the simulated users; none is written in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from textwrap import shorten
from typing import Any

from bindu.dspy.canary.controller import run_step
from bindu.dspy.dataset import build_dataset
from bindu.dspy.importer import import_jsonl
from bindu.dspy.models import Dataset, Decision, TrainingRun
from bindu.dspy.prompt_selector import refresh_prompts
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt
from bindu.dspy.simulation.desk import BAD_PROMPT, START_PROMPT, Desk
from bindu.dspy.storage import get_storage
from bindu.dspy.strategies import STRATEGIES, get_strategy
from bindu.dspy.train import run_training

__all__ = [
    "DESK_AGENT",
    "LOGS_AGENT",
    "Clock",
    "Say",
    "Stage",
    "Story",
    "open_stage",
    "read_real_logs",
    "run_closed_loop",
    "tell",
]

LOGS_AGENT = "open-assistant"
DESK_AGENT = "support-desk"
LOGGED_CONVERSATIONS = 600
CONVERSATIONS_A_STEP = 100
STEP = timedelta(hours=6)
MAX_STEPS = 60

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Story:
    """What the demo found, as its last line prints it."""

    seed: int
    quality_before: float
    quality_after: float
    promoted: bool
    bad_candidate: str | None
    training: str | None
    model_calls: int
    feedback: int
    decisions: int
    real_logs: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    dashboard: str | None = None  # its address, while it is served


class Clock:
    """The simulated time: every service is told it, so simulated days are real runs."""

    def __init__(self, start: datetime) -> None:
        self.now = start

    def tick(self, step: timedelta) -> datetime:
        """Let time pass and return the new time."""
        self.now += step
        return self.now


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the closed loop plays: its desk, and the time there."""

    desk: Desk
    clock: Clock


async def open_stage(seed: int) -> Stage:
    """A desk that nobody came to yet, a month ago by the clock of the storage in use."""
    start = await (await get_storage()).now() - timedelta(days=30)
    return Stage(Desk(seed=seed, agent_id=DESK_AGENT), Clock(start))


async def tell(stage: Stage, *, say: Say) -> Story:
    """Both acts on the storage in use; some 40 seconds on two cores."""
    started = time.perf_counter()
    real_logs = await read_real_logs(say)
    story = await run_closed_loop(stage, say=say)
    story.real_logs = real_logs
    story.seconds = round(time.perf_counter() - started, 1)
    return story


async def read_real_logs(say: Say) -> dict[str, Any]:
    """Import the Open Assistant conversations and build the golden dataset by every strategy."""
    say("Act one: 97 real conversations of Open Assistant, with the thumbs that people gave.")
    await bootstrap_prompt("You are Open Assistant, a helpful assistant.", agent_id=LOGS_AGENT)
    source = files("bindu.dspy.simulation").joinpath("data/oasst_en100_turns.jsonl")
    with source.open(encoding="utf-8") as lines:
        report = await import_jsonl(lines, agent_id=LOGS_AGENT)
    say(f"  {report.sentence}")
    datasets = {
        name: await build_dataset(strategy=get_strategy(name), require_feedback=True, agent_id=LOGS_AGENT)
        for name in STRATEGIES
    }
    for name, dataset in datasets.items():
        say(f"  {name:16} {_funnel_line(dataset)}")
    _show_lesson(datasets["last_turn"], say)
    return {
        "replies": report.rows,
        "conversations": report.conversations,
        "votes": report.votes_new + report.votes_known,
        "golden": {name: dataset.funnel.golden for name, dataset in datasets.items()},
        "drops": {name: dataset.funnel.drops for name, dataset in datasets.items()},
    }


def _funnel_line(dataset: Dataset) -> str:
    funnel = dataset.funnel
    drops = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in sorted(funnel.drops.items()))
    return f"{funnel.tasks} tasks -> {funnel.golden} golden, {funnel.failures} failures ({drops or 'none dropped'})"


def _show_lesson(dataset: Dataset, say: Say) -> None:
    praised = max(dataset.golden, key=lambda example: (example.feedback_score or 0.0, len(example.raters)))
    say(f"  imitated:  {_first_words(praised.user_input)} -> {_first_words(praised.agent_output)}")
    if dataset.failures:
        rejected = max(dataset.failures, key=lambda example: len(example.raters))
        say(f"  avoided:   {_first_words(rejected.user_input)} -> {_first_words(rejected.agent_output)}")


def _first_words(text: str) -> str:
    return f"“{shorten(text, width=70, placeholder='...')}”"


async def run_closed_loop(stage: Stage, *, say: Say) -> Story:
    """Bootstrap, talk, train, promote; then try a worse prompt and see it roll back."""
    say("Act two: the closed loop on a simulated support desk (simulated model, simulated users).")
    storage, desk, clock, seed = await get_storage(), stage.desk, stage.clock, stage.desk.seed
    first = await bootstrap_prompt(START_PROMPT, agent_id=DESK_AGENT, now=clock.now)
    before = desk.measure(first["prompt_text"])
    say(f"  prompt 1 is served to everybody; true quality {before:.2f} on questions never used for training")
    await desk.converse(LOGGED_CONVERSATIONS, now=clock.tick(timedelta(days=2)))
    run = await run_training("simba", agent_id=DESK_AGENT, seed=seed, engine=desk.engine, now=clock.tick(STEP))
    say(f"  training: {run.outcome} after {run.calls:,} model calls. {run.reason}")
    decision = await _canary(desk, clock, say)
    serving = await storage.serving(DESK_AGENT)
    after = desk.measure(serving.active.text) if serving else before
    say(f"  true quality of what is served now: {after:.2f}")
    bad_outcome = await _try_worse_prompt(desk, clock, say)
    return await _figures(run, decision, bad_outcome, seed=seed, before=before, after=after)


async def _canary(desk: Desk, clock: Clock, say: Say) -> Decision | None:
    decision = None
    for _ in range(MAX_STEPS):
        await refresh_prompts(agent_id=DESK_AGENT)
        await desk.converse(CONVERSATIONS_A_STEP, now=clock.tick(STEP))
        latest = await run_step(agent_id=DESK_AGENT, now=clock.now)
        if latest is None:
            break
        decision = latest
        say(f"  canary {latest.share_before:4.0%} -> {latest.share_after:4.0%}  {latest.reason}")
    await refresh_prompts(agent_id=DESK_AGENT)
    return decision


async def _try_worse_prompt(desk: Desk, clock: Clock, say: Say) -> str | None:
    say("  a deliberately worse prompt goes on trial")
    number = await insert_prompt(BAD_PROMPT, status="candidate", traffic=0.1, agent_id=DESK_AGENT, now=clock.now)
    await _canary(desk, clock, say)
    prompt = await (await get_storage()).prompt(DESK_AGENT, number)
    return prompt.status if prompt else None


async def _figures(
    run: TrainingRun, decision: Decision | None, bad_outcome: str | None, *, seed: int, before: float, after: float
) -> Story:
    storage = await get_storage()
    prompts = await storage.prompts(DESK_AGENT)
    metrics = (await storage.prompt_metrics(DESK_AGENT, [prompt.id for prompt in prompts])).values()
    decisions = await storage.decisions(DESK_AGENT, limit=10_000)
    promoted = decision is not None and decision.verdict == "promote"
    return Story(
        seed=seed,
        quality_before=round(before, 3),
        quality_after=round(after, 3),
        promoted=promoted,
        bad_candidate=bad_outcome,
        training=run.outcome,
        model_calls=run.calls + sum(item.num_interactions for item in metrics),
        feedback=sum(item.num_rated for item in metrics),
        decisions=len(decisions),
    )
