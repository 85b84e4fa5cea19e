"""Whatever happens in whatever order, the rollout keeps its promises: shares, prompts, log, windows, and no
promotion that the evidence does not show."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from math import log
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bindu.dspy.canary.checking import check_experiment
from bindu.dspy.canary.controller import run_canary_controller, run_step
from bindu.dspy.canary.verbs import Verb, carry_out
from bindu.dspy.errors import NoExperimentError, StaleRolloutError
from bindu.dspy.models import Arm, Decision, Experiment
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import use_storage
from faults import FaultyStorage, Killed
from trials import RunningTrial, at, running_trial

JUMP = 40 * 24
QUICK = {"min_age_hours": 3.0, "settle_hours": 2.0, "step": 0.2, "ramp_hours": 1.0, "ramp_units": 5}

numbers = count()
Deed = Literal["serve", "late", "edit", "future", "run", "eight", "crash", "verb", "jump", "back"]


@dataclass
class Story:
    """One experiment in which anything may happen, and what was seen of it so far."""

    desk: RunningTrial
    quality: float  # of the candidate; the active prompt's is .5
    chance: random.Random
    hours: float = 0.0
    log: list[Decision] = field(default_factory=list)

    @property
    def agent(self) -> str:
        return self.desk.experiment.agent_id

    async def happen(self, deed: Deed) -> None:
        match deed:
            case "serve":
                await self.serve()
            case "late" | "edit" | "future":
                await self.vote(deed)
            case "run":
                await run_canary_controller(agent_id=self.agent, now=at(self.hours))
            case "eight":
                await self.eight_at_once()
            case "crash":
                await self.crash()
            case "verb":
                await self.somebody_says()
            case "jump":
                self.hours += JUMP
            case "back":
                self.hours -= self.chance.choice((2.0, JUMP))

    async def serve(self) -> None:
        """A busy hour: units by the present share, and a vote of most of them."""
        serving = await self.desk.storage.serving(self.agent)
        assert serving is not None
        arms: list[Arm] = ["candidate" if self.chance.random() < serving.share else "active" for _ in range(40)]
        scores: dict[Arm, list[float | None]] = {"active": [], "candidate": []}
        for arm in arms:
            good = self.chance.random() < (self.quality if arm == "candidate" else 0.5)
            scores[arm].append(None if self.chance.random() < 0.2 else float(good))
        await self.desk.serve(self.hours + 0.2, active=scores["active"], candidate=scores["candidate"])
        self.hours += 1

    async def vote(self, deed: Deed) -> None:
        """A vote on any unit, dated back, now or ahead; often its second."""
        if not self.desk.tasks:
            return
        unit = self.chance.choice(list(self.desk.tasks))
        hours = {"late": self.hours - self.chance.random() * 30, "edit": self.hours}.get(deed, self.hours + 5)
        rater = self.chance.choice(("", "ann", "bob"))
        kind: Literal["rating", "thumbs_up"] = self.chance.choice(("rating", "thumbs_up"))
        await self.desk.rate(unit, float(self.chance.random() < 0.5), max(-999.0, hours), rater=rater, kind=kind)

    async def eight_at_once(self) -> None:
        before = len(await self.rows())
        runs = [run_step(agent_id=self.agent, now=at(self.hours)) for _ in range(8)]
        found = await asyncio.gather(*runs, return_exceptions=True)
        assert all(one is None or isinstance(one, Decision | StaleRolloutError) for one in found)
        assert len(await self.rows()) - before == sum(isinstance(one, Decision) for one in found) <= 1

    async def crash(self) -> None:
        faulty = FaultyStorage(self.desk.storage, fail_at=self.chance.randint(1, 7), after=self.chance.random() < 0.5)
        with use_storage(faulty):
            try:
                await run_step(agent_id=self.agent, now=at(self.hours))
            except Killed:
                return

    async def somebody_says(self) -> None:
        verb: Verb = self.chance.choice(("pause", "resume", "pause", "resume", "abort", "promote", "rollback"))
        if self.chance.random() < 0.7 and verb not in ("pause", "resume"):
            return
        try:
            await carry_out(verb, reason="So it is.", agent_id=self.agent, now=at(self.hours))
        except NoExperimentError:
            assert (await self.desk.storage.serving(self.agent)).candidate is None  # type: ignore[union-attr]

    async def rows(self) -> list[Decision]:
        return list(reversed(await self.desk.storage.decisions(self.agent, limit=10_000)))

    async def holds(self) -> None:
        """Every promise, after every deed."""
        rows = await self.rows()
        assert rows[: len(self.log)] == self.log  # none lost, none changed
        self.log = rows
        assert [row.id for row in rows] == list(range(1, len(rows) + 1))
        await self.serving_holds()
        for experiment in await self.desk.storage.experiments(self.agent):  # the second one brings the champion back
            await self.experiment_holds(experiment, [row for row in rows if row.experiment_id == experiment.id])

    async def experiment_holds(self, experiment: Experiment, rows: Sequence[Decision]) -> None:
        log_holds(rows)
        changes = await self.desk.storage.share_changes(self.agent, experiment.id)
        moved = [row.share_after for row in rows if row.verdict == "open" or row.share_after != row.share_before]
        assert [change.share for change in changes] == moved
        assert [change.epoch for change in changes] == list(range(experiment.epoch + 1))
        assert (experiment.state == "ended") is (rows[-1].share_after in (0.0, 1.0))
        check = await check_experiment(agent_id=self.agent, experiment_id=experiment.id)
        assert check.differences == (), check.sentence

    async def serving_holds(self) -> None:
        serving = await self.desk.storage.serving(self.agent)
        prompts = await self.desk.storage.prompts(self.agent)
        assert serving is not None
        traffic = {prompt.id: prompt.traffic for prompt in prompts}
        assert sum(traffic.values()) == 1.0
        assert all(0 <= share <= 1 for share in traffic.values())
        assert [prompt.id for prompt in prompts if prompt.status == "active"] == [serving.active.id]
        live = [prompt.id for prompt in prompts if prompt.status in ("active", "candidate")]
        assert len(live) == 1 + (serving.candidate is not None) <= 2
        assert sum(share > 0 for share in traffic.values()) <= 2
        last = self.log[-1]
        assert serving.share == (last.share_after if serving.candidate is not None else 0.0)


def log_holds(rows: Sequence[Decision]) -> None:
    """What must be true of the decisions of one experiment, oldest first."""
    assert [row.window for row in rows] == list(range(len(rows)))
    assert rows[0].verdict == "open"
    for before, after in pairwise(rows):
        assert after.share_before == before.share_after
        assert 0 < before.share_after < 1
    closed = [row.closed_window for row in rows if row.closed_window is not None]
    assert closed == sorted(set(closed))
    assert all((row.closed_window is not None) is (row.rule == "evidence") for row in rows[1:])
    won = [row for row in rows if row.verdict == "won"]
    assert len(won) <= 1
    assert all(row.evidence["superiority"] >= log(1 / 0.05) for row in won)
    for row in rows:
        if row.verdict == "promote" and row.actor == "controller":
            assert won
            assert won[0].id < row.id
        if row.share_after > row.share_before and row.actor == "controller":
            assert not paused_at(rows, row)


def paused_at(rows: Sequence[Decision], at_row: Decision) -> bool:
    said = [row.verdict for row in rows if row.id < at_row.id and row.verdict in ("pause", "resume")]
    return said[-1:] == ["pause"]


deeds = st.lists(
    st.sampled_from(
        (
            "serve",
            "serve",
            "serve",
            "run",
            "run",
            "run",
            "eight",
            "crash",
            "late",
            "edit",
            "future",
            "verb",
            "jump",
            "back",
        )
    ),
    min_size=8,
    max_size=24,
)
QUIETLY = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@settings(max_examples=25, **QUIETLY)
@given(deeds, st.sampled_from((0.3, 0.5, 0.7, 0.95)), st.integers(0, 2**32))
async def test_after_whatever_happened_every_promise_holds(
    storage: PostgresStorage, happened: list[Deed], quality: float, seed: int
) -> None:
    desk = await running_trial(storage, agent_id=f"agent {next(numbers)}", share=0.3, **QUICK)
    story = Story(desk, quality, random.Random(seed))
    for deed in happened:
        await story.happen(deed)
        await story.holds()  # all the promises, each an assertion
    assert story.log == await story.rows()
    assert story.log[0].verdict == "open"


@settings(max_examples=4, **QUIETLY)
@given(st.sampled_from((0.1, 0.5, 0.9)), st.integers(0, 2**32), st.integers(3, 12))
async def test_to_the_end_of_an_experiment_every_promise_holds(
    storage: PostgresStorage, quality: float, seed: int, crashes_every: int
) -> None:
    """Hour after hour, with crashes, late votes and eight controllers now and then, until it is decided."""
    desk = await running_trial(storage, agent_id=f"agent {next(numbers)}", share=0.3, max_age_days=1.5, **QUICK)
    story = Story(desk, quality, random.Random(seed))
    for hour in range(1, 40):
        await story.happen("serve")
        await story.happen("late")
        await story.happen("crash" if hour % crashes_every == 0 else "run")
        await story.happen("eight" if hour % 5 == 0 else "run")
        await story.holds()
        if (await storage.serving(story.agent)).candidate is None:  # type: ignore[union-attr]
            break
    [experiment] = await storage.experiments(story.agent)
    assert experiment.state == "ended"
    assert quality == 0.5 or (experiment.outcome == "promoted") is (quality > 0.5)


@pytest.mark.parametrize("after", [False, True])
async def test_killed_between_any_two_verbs_of_a_look_the_next_one_closes_each_window_once(
    storage: PostgresStorage, after: bool
) -> None:
    rehearsal = await running_trial(storage, agent_id="rehearsal")
    alive = FaultyStorage(storage)
    with use_storage(alive):
        await rehearsal.look(1)
    desk = await running_trial(storage)
    story = Story(desk, 0.5, random.Random(3))
    for place in range(1, len(alive.calls) + 1):
        await story.serve()
        with use_storage(FaultyStorage(storage, fail_at=place, after=after)), pytest.raises(Killed):
            await desk.look(story.hours)
        await story.holds()
        await desk.look(story.hours)
        await story.holds()
    windows = [row.closed_window for row in story.log if row.closed_window is not None]
    assert windows == list(range(1, len(alive.calls) + 1))


CONTROLLER = """
import asyncio, sys
from bindu.dspy.canary.controller import run_step
from bindu.dspy.errors import StaleRolloutError
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import use_storage
from bindu.settings import StorageSettings
from trials import at

async def main(url):
    storage = await PostgresStorage.connect(url, StorageSettings(pool_size=2))
    steps = late = 0
    print("ready", flush=True)
    sys.stdin.readline()
    with use_storage(storage):
        for hour in range(1, 25):
            try:
                steps += await run_step(now=at(hour)) is not None
            except StaleRolloutError:
                late += 1
    await storage.close()
    print(steps, late)

asyncio.run(main(sys.argv[1]))
"""


async def test_two_processes_that_look_at_once_close_every_window_once(
    storage: PostgresStorage, postgres_url: str
) -> None:
    desk = await running_trial(storage, share=0.3, ramp_hours=0.0, ramp_units=1)
    story = Story(desk, 0.5, random.Random(11))
    for _ in range(24):
        await story.serve()
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CONTROLLER,
            postgres_url,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    said = [await asyncio.wait_for(process.communicate(b"go\n"), 60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    await story.holds()
    closed = [row.closed_window for row in story.log if row.closed_window is not None]
    assert closed == list(range(1, 25))
    assert sum(int(out.split()[0]) for out, _ in said) == 24
