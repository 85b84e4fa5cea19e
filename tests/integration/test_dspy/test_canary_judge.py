"""The judge beside the canary: a sample of both arms, scored blind by a real server's model, and never waited for."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

import pytest
from dspy import lm15
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from bindu.dspy.canary import asking
from bindu.dspy.canary.checking import check_experiment
from bindu.dspy.canary.controller import next_step, run_step
from bindu.dspy.canary.judging import exchange_of, sampled
from bindu.dspy.canary.looking import look
from bindu.dspy.errors import StaleRolloutError
from bindu.dspy.models import Decision, Experiment, FeedbackKind, Task, TrainingRun
from bindu.dspy.opening import trial_policy
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.routing import arm_of, salt_of
from bindu.dspy.simulation.desk import BAD_PROMPT, IDEAL_PROMPT
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.questions import question
from bindu.dspy.simulation.server import Faults, SimulatedServer
from bindu.dspy.storage import use_storage
from bindu.settings import app_settings
from conftest import execute
from faults import FaultyStorage, Killed
from samples import AGENT, TALK, a_task, a_vote
from trials import open_evidence_trial

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TWIN = f"{IDEAL_PROMPT}\nWrite in British English."  # asks for nothing that the judge looks at
WARNINGS = "bindu.dspy.canary.judging"


@pytest.fixture(autouse=True)
def _every_answer_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.dspy.canary, "judge_share", 1.0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedServer]:
    """The model that the settings name: a real server on loopback."""
    with SimulatedServer(0) as running:
        monkeypatch.setattr(app_settings.dspy, "default_model", "openai/simulated-desk")
        monkeypatch.setattr(app_settings.dspy, "api_base", running.base_url)
        monkeypatch.setattr(app_settings.dspy, "api_key", SecretStr("none"))
        yield running


class Listening:
    """The simulated model; it remembers what it was asked, and breaks where ``broken`` is in the question."""

    def __init__(self, broken: str = "\0") -> None:
        self.inner = SimulatedEngine(0)
        self.broken = broken
        self.asked: list[str] = []

    def complete(self, request: lm15.Request) -> lm15.Response:
        text = "\n".join(message.text or "" for message in request.messages)
        self.asked.append(text)
        if self.broken in text:
            raise ValueError("This model does not like the question.\nAt all.")
        return self.inner.complete(request)


async def on_trial(
    storage: PostgresStorage, candidate: str = BAD_PROMPT, *, judged: bool = True, agent_id: str = AGENT
) -> Experiment:
    """Half of the traffic for a candidate against the ideal prompt; the windows are of an hour."""
    await storage.bootstrap(agent_id, IDEAL_PROMPT, now=NOON)
    return await open_evidence_trial(storage, NOON, agent_id=agent_id, text=candidate, judged=judged)


async def serve(
    storage: PostgresStorage, experiment: Experiment, each: int, *, hour: int = 0, votes: bool = False
) -> None:
    """In the middle of an hour the model answers that many customers of each arm; with votes, whose answers differ."""
    model = SimulatedModel(0)
    at = NOON + hour * HOUR + HOUR / 2
    tasks: list[Task] = []
    for prompt_id in (experiment.active_id, experiment.candidate_id):
        prompt = await storage.prompt(experiment.agent_id, prompt_id)
        assert prompt is not None
        for place in range(each):
            asked = question(2 * (hour * each + place) + (prompt_id == experiment.candidate_id), seed=0)
            answer = model.reply(prompt.text, [("user", asked)])
            tasks.append(
                a_task(
                    agent_id=experiment.agent_id,
                    prompt_id=prompt_id,
                    experiment_id=experiment.id,
                    unit_id=f"visit {hour} {prompt_id} {place}",
                    history=[{"role": "user", "content": asked}, {"role": "assistant", "content": answer}],
                    created_at=at,
                )
            )
    await storage.add_tasks(tasks)
    if votes:
        kind: FeedbackKind = "thumbs_up"
        happy = [float(task.prompt_id == experiment.active_id) for task in tasks]
        await storage.add_feedback(
            [
                a_vote(task.id, score, kind=kind, created_at=at + HOUR / 6)
                for task, score in zip(tasks, happy, strict=True)
            ]
        )


async def judged_by_arm(storage: PostgresStorage, experiment: Experiment) -> dict[str, list[float | None]]:
    firsts = await storage.first_requests(experiment.agent_id, experiment.id)
    return {arm: [one.judged for one in firsts if one.arm == arm] for arm in ("active", "candidate")}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


async def test_answers_of_both_arms_are_judged_before_their_window_closes(
    storage: PostgresStorage, server: SimulatedServer, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 12)
    assert await run_step(now=NOON + HOUR * 0.9) is None
    assert server.requests == 0  # nothing is decided, so nothing has to be known yet
    decision = await run_step(now=NOON + HOUR)
    assert decision is not None
    scores = await judged_by_arm(storage, experiment)
    assert {arm: len(given) for arm, given in scores.items()} == {"active": 12, "candidate": 12}
    active, candidate = (fmean(score for score in scores[arm] if score is not None) for arm in ("active", "candidate"))
    assert active > 0.8
    assert candidate < 0.3
    assert server.model.calls == {"judge": 24}
    assert decision.evidence["guards"]["judge"] > 0
    assert (await check_experiment()).differences == ()
    assert warnings(caplog) == []


async def test_a_candidate_that_is_judged_much_worse_is_rolled_back_though_nobody_votes(
    storage: PostgresStorage, server: SimulatedServer
) -> None:
    experiment = await on_trial(storage)
    unjudged = await on_trial(storage, judged=False, agent_id="unjudged")
    for hour in range(4):
        for one in (experiment, unjudged):
            await serve(storage, one, 15, hour=hour)
            await run_step(agent_id=one.agent_id, now=NOON + (hour + 1) * HOUR)
    [ended] = await storage.experiments(AGENT)
    assert (ended.state, ended.outcome) == ("ended", "rolled_back")
    assert ended.reason == "Candidate 2 is judged worse than the active prompt."
    [other] = await storage.experiments("unjudged")
    assert other.state == "running"
    assert (await check_experiment()).differences == ()


async def test_an_equal_candidate_is_judged_and_stays(storage: PostgresStorage, server: SimulatedServer) -> None:
    experiment = await on_trial(storage, TWIN)
    for hour in range(4):
        await serve(storage, experiment, 15, hour=hour)
        await run_step(now=NOON + (hour + 1) * HOUR)
    assert server.model.calls == {"judge": 4 * 30}
    assert [one.state for one in await storage.experiments(AGENT)] == ["running"]


async def undisturbed(storage: PostgresStorage, each: int) -> Decision:
    """The step that a world without any judge takes."""
    experiment = await on_trial(storage, judged=False, agent_id="unjudged")
    await serve(storage, experiment, each)
    decision = await run_step(agent_id="unjudged", now=NOON + HOUR)
    assert decision is not None
    return decision


def moved(decision: Decision | None) -> tuple[object, ...]:
    assert decision is not None
    return decision.verdict, decision.share_before, decision.share_after, decision.reason, decision.closed_window


async def test_a_dead_model_changes_nothing_but_a_warning(
    storage: PostgresStorage, server: SimulatedServer, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 10)
    server.faults = Faults(dead=1.0)
    decision = await run_step(now=NOON + HOUR)
    assert moved(decision) == moved(await undisturbed(storage, 10))
    assert await judged_by_arm(storage, experiment) == {"active": [None] * 10, "candidate": [None] * 10}
    [said] = warnings(caplog)
    assert said.startswith("The judge scored 0 of 20 sampled answers. Model 'openai/simulated-desk': LMServerError: ")
    assert said.endswith(
        ". Check DSPY__JUDGE_MODEL, DSPY__API_BASE and DSPY__API_KEY. The canary goes on without the others."
    )
    assert server.requests < 45  # it is not asked for ever


async def test_a_model_that_thinks_for_a_minute_is_left_behind(
    storage: PostgresStorage,
    server: SimulatedServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 10)
    server.faults = Faults(latency_ms=60_000)
    monkeypatch.setattr(asking, "PATIENCE", 0.5)
    start = time.monotonic()
    decision = await run_step(now=NOON + HOUR)
    assert time.monotonic() - start < 5  # a fraction of a second over on an idle machine
    assert moved(decision) == moved(await undisturbed(storage, 10))
    [said] = warnings(caplog)
    assert "0 of 20 sampled answers. Model 'openai/simulated-desk': 0.5 seconds were not enough. Check" in said


async def test_a_run_that_is_told_to_end_does_not_wait_and_asks_no_more(
    storage: PostgresStorage, server: SimulatedServer
) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 10)
    server.faults = Faults(latency_ms=500)
    run = asyncio.create_task(run_step(now=NOON + HOUR))
    while server.requests < 8:
        assert not run.done()
        await asyncio.sleep(0.02)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(run, 5)
    asked = server.requests
    await asyncio.sleep(1)
    assert server.requests == asked
    assert len(await storage.decisions(AGENT)) == 1  # that of the opening


async def test_a_model_that_cannot_be_is_a_warning(
    storage: PostgresStorage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_settings.dspy, "judge_model", "openai/")
    experiment = await on_trial(storage)
    await serve(storage, experiment, 3)
    assert await run_step(now=NOON + HOUR) is not None
    [said] = warnings(caplog)
    assert said.startswith("The judge scored 0 of 6 sampled answers. Model 'openai/': ValueError: model ")


async def test_what_was_judged_is_kept_when_the_model_fails_on_the_rest(
    storage: PostgresStorage, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 20)
    engine = Listening(broken="refund")
    await run_step(engine=engine, now=NOON + HOUR)
    scores = await judged_by_arm(storage, experiment)
    given = [score for arm in scores.values() for score in arm if score is not None]
    assert 0 < len(given) == sum("refund" not in text for text in engine.asked) < 40
    assert [said.partition(" Check ")[0] for said in warnings(caplog)] == [
        f"The judge scored {len(given)} of 40 sampled answers. Model '{app_settings.dspy.default_model}': "
        "ValueError: This model does not like the question."
    ]


async def test_a_stop_waits_for_no_model(storage: PostgresStorage, server: SimulatedServer) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 60, votes=True)
    decision = await run_step(now=NOON + HOUR)
    assert decision is not None
    assert (decision.verdict, "is worse" in decision.reason) == ("roll_back", True)
    assert server.requests == 0


async def test_a_dry_run_asks_nothing_and_stores_nothing(storage: PostgresStorage, server: SimulatedServer) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 3)
    assert await next_step(now=NOON + HOUR) is not None
    assert server.requests == 0
    found = await storage.arrivals(AGENT, experiment.id, until=NOON + HOUR)
    assert {first.judged for first in found.firsts} == {None}


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_what_an_experiment_opened_with_decides_whether_it_is_judged(
    storage: PostgresStorage, server: SimulatedServer, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(app_settings.dspy.canary, "judge_share", share)
    experiment = await on_trial(storage, judged=not share)  # and where no share is left, nothing is sampled
    await serve(storage, experiment, 3)
    assert await run_step(now=NOON + HOUR) is not None
    assert server.requests == 0


async def test_what_a_killed_run_has_judged_is_not_judged_again(
    storage: PostgresStorage, server: SimulatedServer
) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 8)
    await serve(storage, await on_trial(storage, agent_id="rehearsal"), 1)
    rehearsal = FaultyStorage(storage)
    with use_storage(rehearsal):
        await run_step(agent_id="rehearsal", engine=SimulatedEngine(0), now=NOON + HOUR)
    place = rehearsal.calls.index("set_judged") + 1
    with use_storage(FaultyStorage(storage, fail_at=place, after=True)), pytest.raises(Killed):
        await run_step(now=NOON + HOUR)
    found = await storage.arrivals(AGENT, experiment.id, until=NOON + HOUR)
    kept = {first.unit_id: first.judged for first in found.firsts}
    assert len(kept) == 16
    assert None not in kept.values()
    assert server.requests == 16
    server.faults = Faults(dead=1.0)
    assert await run_step(now=NOON + HOUR) is not None
    assert server.requests == 16
    firsts = await storage.first_requests(AGENT, experiment.id)
    assert {first.unit_id: first.judged for first in firsts} == kept


async def test_of_two_controllers_at_once_one_decides_and_every_answer_has_one_score(
    storage: PostgresStorage, server: SimulatedServer
) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 10)
    results = await asyncio.gather(*(run_step(now=NOON + HOUR) for _ in range(2)), return_exceptions=True)
    [decision] = [result for result in results if isinstance(result, Decision)]
    [other] = [result for result in results if result is not decision]
    assert other is None or isinstance(other, StaleRolloutError)
    assert decision.closed_window == 1
    scores = await judged_by_arm(storage, experiment)
    assert None not in (*scores["active"], *scores["candidate"])
    assert 20 <= server.requests <= 40
    assert (await check_experiment()).differences == ()


async def test_a_score_that_comes_after_the_look_is_no_part_of_the_evidence(storage: PostgresStorage) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 3)
    serving = await storage.serving(AGENT)
    assert serving is not None
    await storage.set_judged(AGENT, experiment.id, {"visit 0 1 0": 0.25})
    seen = await look(storage, serving, experiment, NOON + HOUR)
    assert seen is not None
    await storage.set_judged(AGENT, experiment.id, {"visit 0 1 0": 0.75, "visit 0 1 1": 0.5})
    found = await storage.arrivals(AGENT, experiment.id, until=NOON + HOUR)
    assert [first.judged for first in found.firsts if first.arm == "active"] == [0.25, 0.5, None]  # the first one stays
    await storage.apply(seen.rollout, closing=seen.closing, now=NOON + HOUR)
    assert (await judged_by_arm(storage, experiment))["active"] == [0.25, None, None]
    assert (await check_experiment()).differences == ()


RULE = "Greet the customer by name when it is known."


async def test_the_judge_reads_the_rubric_that_the_candidate_was_trained_for_and_not_who_answered(
    storage: PostgresStorage,
) -> None:
    experiment = await on_trial(storage)
    rubric = {"instructions": "Be an excellent desk.", "rules": [{"rule": RULE, "task_ids": ["1"]}]}
    run = TrainingRun(agent_id=AGENT, id=uuid7(), optimizer="simba", strategy="last_turn", seed=0)
    ended = replace(run, state="ended", outcome="improved", candidate_id=2, experiment_id=experiment.id)
    await storage.save_run(replace(ended, details={"rubric": rubric}))
    await storage.save_run(replace(run, id=uuid7(), details={"rubric": rubric | {"instructions": "Another run's."}}))
    await serve(storage, experiment, 4)
    engine = Listening()
    await run_step(engine=engine, now=NOON + HOUR)
    assert len(engine.asked) == 8
    for text in engine.asked:
        assert "Be an excellent desk." in text
        assert RULE in text
        for hidden in ("candidate", "active", "visit 0", "Another run's", BAD_PROMPT[:40], IDEAL_PROMPT[-40:]):
            assert hidden not in text


async def test_without_a_training_run_the_rubric_is_what_the_active_prompt_asks_for(storage: PostgresStorage) -> None:
    experiment = await on_trial(storage)
    await serve(storage, experiment, 2)
    engine = Listening()
    await run_step(engine=engine, now=NOON + HOUR)
    assert len(engine.asked) == 4
    assert all(IDEAL_PROMPT in text and BAD_PROMPT not in text for text in engine.asked)


async def test_an_answer_that_is_missing_scores_nothing_and_without_a_question_there_is_no_score(
    storage: PostgresStorage,
) -> None:
    experiment = await on_trial(storage)
    histories = {
        "silent": TALK[:1],
        "refused": [TALK[0], {"role": "assistant", "content": None, "refusal": "I cannot."}],
        "unasked": TALK[1:],
    }
    given = {"experiment_id": experiment.id, "created_at": NOON + HOUR / 2}
    await storage.add_tasks([a_task(unit_id=name, history=talk, **given) for name, talk in histories.items()])
    engine = Listening()
    await run_step(engine=engine, now=NOON + HOUR)
    firsts = await storage.first_requests(AGENT, experiment.id)
    assert {first.unit_id: first.judged for first in firsts} == {"silent": 0.0, "refused": 0.0, "unasked": None}
    assert engine.asked == []


async def test_no_champion_comes_back_under_a_judge_who_was_taught_by_its_rival(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_settings.dspy.canary, "rule", "evidence")
    await bootstrap_prompt("You help.")
    assert (await trial_policy(AGENT, 0.1))["judged"] is True
    assert (await trial_policy(AGENT, 0.1, champion=True))["judged"] is False


# the sample


def an_experiment(number: int = 1) -> Experiment:
    return Experiment(agent_id=AGENT, id=number, active_id=1, candidate_id=2, policy={}, state="running", epoch=0)


def test_the_sample_is_as_large_as_the_share_in_both_arms() -> None:
    units = [f"unit {number}" for number in range(40_000)]
    salt = salt_of(AGENT, 1)
    chosen = set(sampled(units, an_experiment(), 0.05))
    for arm in ("active", "candidate"):
        mine = [unit for unit in units if arm_of(unit, salt, 0.5) == arm]
        expected = 0.05 * len(mine)
        assert abs(len(chosen & set(mine)) - expected) < 4 * (0.95 * expected) ** 0.5
    others = set(sampled(units, an_experiment(2), 0.05))
    assert len(chosen & others) < 200  # 100 by chance


@given(
    units=st.lists(st.text(), max_size=50, unique=True),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    data=st.data(),
)
def test_a_smaller_share_is_the_beginning_of_a_larger_one_whoever_looks(
    units: list[str], shares: Sequence[float], data: st.DataObject
) -> None:
    small, large = (sampled(units, an_experiment(), share) for share in shares)
    assert large[: len(small)] == small
    assert sampled(data.draw(st.permutations(units)), an_experiment(), shares[1]) == large
    assert sorted(sampled(units, an_experiment(), 1.0)) == sorted(units)
    assert sampled(units, an_experiment(), 0.0) == []


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ("ua", ("1", "2")),
        ("suaua", ("4", "5")),
        ("uata", ("1", "4")),  # with a tool in between
        ("u", ("1", "")),
        ("uau", ("3", "")),  # the answer before is to another question
        ("a", None),
        ("", None),
    ],
)
def test_what_is_judged_is_the_answer_to_the_last_question(history: str, expected: tuple[str, str] | None) -> None:
    roles = {"s": "system", "u": "user", "a": "agent", "t": "tool"}
    told = [{"role": roles[who], "content": str(place)} for place, who in enumerate(history, 1)]
    assert exchange_of(told) == expected


# what storage knows of a first answer


async def test_the_first_answer_is_that_of_the_first_task_in_this_experiment(
    storage: PostgresStorage, postgres_url: str
) -> None:
    experiment = await on_trial(storage)
    said = [[{"role": "user", "content": text}] for text in ("one", "two", "three")]
    given: dict[str, Any] = {"experiment_id": experiment.id, "created_at": NOON}
    tasks = [a_task(unit_id="ann", history=talk, **given) for talk in said[:2]]
    await storage.add_tasks([a_task(unit_id="ann", history=said[2])])  # before and beside the experiment
    await storage.add_tasks(tasks)
    await storage.add_tasks([a_task(unit_id="ann", history=said[2], **given), a_task(unit_id="bob", **given)])
    assert await storage.first_answers(AGENT, experiment.id, ["ann", "bob", "nobody"]) == {"ann": said[0], "bob": TALK}
    assert await storage.first_answers(AGENT, experiment.id, []) == {}
    for agent_id, number in (("another", experiment.id), (AGENT, 7), (AGENT, 0)):
        assert await storage.first_answers(agent_id, number, ["ann"]) == {}
    await execute(postgres_url, f"DELETE FROM bindu_dspy.tasks WHERE id = '{tasks[0].id}'")
    assert await storage.first_answers(AGENT, experiment.id, ["ann", "bob"]) == {"bob": TALK}


# the light install


STEP = f"""
import asyncio, sys
{{before}}
from datetime import datetime
from bindu.dspy.canary.controller import run_step
from bindu.dspy.storage import close_storage

async def step():
    decision = await run_step(now=datetime.fromisoformat("{(NOON + HOUR).isoformat()}"))
    print(decision.verdict, decision.closed_window)
    await close_storage()

asyncio.run(step())
print([name for name in ("dspy", "numpy", "scipy") if sys.modules.get(name)])
"""


@pytest.mark.parametrize(
    ("judged", "before", "said"),
    [
        (False, "", ""),
        (
            True,
            "sys.modules['dspy'] = None",  # as good as not installed
            "No answer was judged: dspy is not installed. Run pip install 'bindu-dspy[train]', or set "
            "DSPY__CANARY__JUDGE_SHARE to 0. The canary goes on without a judge.\n",
        ),
    ],
)
async def test_a_canary_without_dspy_goes_on(
    storage: PostgresStorage, postgres_url: str, judged: bool, before: str, said: str
) -> None:
    experiment = await on_trial(storage, judged=judged)
    await serve(storage, experiment, 2)
    environment = os.environ | {"STORAGE__POSTGRES_URL": postgres_url, "DSPY__CANARY__JUDGE_SHARE": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", STEP.format(before=before)),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert out.decode().splitlines() == ["hold 1", "[]"]
    assert err.decode() == said
