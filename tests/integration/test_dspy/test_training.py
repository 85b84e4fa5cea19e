"""The whole training run on a real database, with the simulated model: every outcome, and one effect at most."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15
from pydantic import SecretStr

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
from bindu.dspy.models import PromptCandidate, PromptStatus, Rollout, TaskQuery, TrainingRun
from bindu.dspy.optimizers import SimbaOptimizer
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import insert_prompt, update_prompt_status
from bindu.dspy.simulation.desk import BAD_PROMPT, IDEAL_PROMPT, START_PROMPT
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.measure import measure
from bindu.dspy.simulation.server import Faults, SimulatedServer
from bindu.dspy.storage import use_storage
from bindu.dspy.strategies import LastTurnStrategy
from bindu.dspy.train import run_training, train, train_async
from bindu.dspy.training.search import MAX_TRAIN_ROWS
from bindu.settings import app_settings
from faults import FaultyStorage, Killed
from talks import NOON, Proposes, apologises, talk


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
    assert stored.calls <= stored.details["estimate"]["total"]
    assert capsys.readouterr().out == ""


async def test_a_clearly_better_prompt_goes_on_trial_in_one_step(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    assert await train_async(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0), now=NOON + timedelta(days=1)) is None
    run = await only_run(storage)
    serving = await storage.serving("default")
    assert serving is not None
    assert serving.candidate is not None
    assert (run.outcome, run.state) == ("improved", "ended")
    assert serving.candidate.text == IDEAL_PROMPT
    assert serving.candidate.origin == "fixed"
    assert serving.candidate.parent_id == serving.active.id
    assert run.started_at == run.ended_at == NOON + timedelta(days=1)


async def test_a_worse_prompt_is_told_apart_and_never_deployed(storage: PostgresStorage) -> None:
    await talk(storage, 300, prompt=IDEAL_PROMPT + "\nBe quick to promise things.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_settings.dspy.training, "min_failures", 0)
        run = await run_training(Proposes(BAD_PROMPT), engine=SimulatedEngine(0), objective=apologises)
    assert run.outcome == "worse"
    assert run.details["gate"]["upper"] < 0
    assert await is_stable(storage)


async def test_proposing_the_active_prompt_again_is_unchanged_and_costs_no_proof(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    run = await run_training(Proposes(f"  {START_PROMPT.upper()}\n"), engine=SimulatedEngine(0))
    assert run.outcome == "unchanged"
    assert run.reason is not None
    assert "no new prompt" in run.reason
    assert run.calls == run.details["calls"]["judge"] + 6  # the preflight and five rubrics; calibration, no answer
    assert "gate" not in run.details
    assert await is_stable(storage)


async def test_a_prompt_that_copies_customers_is_refused_with_the_words(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    (task,) = [task async for task in _first_task(storage)]
    stolen = f"{START_PROMPT}\nAn example: {task}"
    with pytest.raises(TrainingRefusedError, match="words in a row stand in a conversation") as refused:
        await train_async(Proposes(stolen), engine=SimulatedEngine(0))
    run = await only_run(storage)
    assert refused.value.run == run
    assert (run.outcome, run.details["prompt_refusals"][0]["rule"]) == ("refused", "copied")
    assert await is_stable(storage)


async def _first_task(storage: PostgresStorage) -> AsyncIterator[str]:
    """An answer among the oldest conversations, which teach."""
    oldest = [raw async for raw in storage.read_tasks(TaskQuery(agent_id="default", limit=1_000))][-5]
    yield oldest.history[1]["content"]


async def test_a_prompt_that_was_rolled_back_is_not_tried_again(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    await storage.add_prompt("default", IDEAL_PROMPT, "rolled_back")
    with pytest.raises(TrainingRefusedError, match="tried before and rolled back"):
        await train_async(Proposes(IDEAL_PROMPT.lower()), engine=SimulatedEngine(0))
    assert await is_stable(storage)


async def test_a_prompt_much_like_one_that_lost_its_trial_is_not_tried_again(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    number = await insert_prompt(f"{IDEAL_PROMPT}\n- Be quick.", "candidate", 0.1)
    await update_prompt_status(number, "rolled_back")
    with pytest.raises(TrainingRefusedError, match=f"much like prompt {number}, which was tried before and was rolled"):
        await train_async(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0))
    run = await only_run(storage)
    assert (run.outcome, run.details["prompt_refusals"][0]["rule"]) == ("refused", "tried")
    assert "accept" not in run.details  # no conversation was spent on its proof
    assert await is_stable(storage)


async def test_a_prompt_that_lost_its_trial_is_refused_for_one_reason(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    number = await insert_prompt(IDEAL_PROMPT, "candidate", 0.1)
    await update_prompt_status(number, "rolled_back")
    await insert_prompt(IDEAL_PROMPT, "rolled_back", 0)
    await insert_prompt(BAD_PROMPT, "rolled_back", 0)
    with pytest.raises(TrainingRefusedError, match=f"much like prompt {number}, which was tried before"):
        await train_async(Proposes(IDEAL_PROMPT, BAD_PROMPT), engine=SimulatedEngine(0))
    refusals = (await only_run(storage)).details["prompt_refusals"]
    assert [(one["candidate"], one["rule"]) for one in refusals if one["rule"] in ("tried", "rolled_back")] == [
        (0, "tried"),
        (1, "rolled_back"),
    ]


async def test_when_the_best_idea_breaks_a_rule_the_next_one_is_taken(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    with_address = f"{IDEAL_PROMPT}\n- Tell them to write to boss@shop.example."
    run = await run_training(Proposes(with_address, IDEAL_PROMPT), engine=SimulatedEngine(0))
    serving = await storage.serving("default")
    assert serving is not None
    assert serving.candidate is not None
    assert serving.candidate.text == IDEAL_PROMPT
    assert run.outcome == "improved"


async def test_the_optimizer_never_sees_the_conversations_that_prove(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    optimizer = Proposes(IDEAL_PROMPT)
    run = await run_training(optimizer, engine=SimulatedEngine(0))
    assert len(run.details["accept"]) >= 30
    assert not set(run.details["accept"]) & set(optimizer.shown)


async def test_conversations_prove_only_once(storage: PostgresStorage) -> None:
    await talk(storage, 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_settings.dspy.training, "accept_margin", 1.0)
        patch.setattr(app_settings.dspy.training, "min_accept_conversations", 100)
        first = await run_training(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0))
        with pytest.raises(TrainingRefusedError, match=r"need 100, about \d+ days"):
            await run_training(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0))
    assert first.outcome == "unchanged"


async def test_too_little_feedback_is_refused_with_every_count_before_anything_is_spent(
    storage: PostgresStorage,
) -> None:
    await talk(storage, 20)
    engine = SimulatedEngine(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_settings.dspy.training, "min_raters", 50)
        with pytest.raises(TrainingRefusedError) as refused:
            await train_async("simba", engine=engine)
    said = str(refused.value)
    assert re.search(r"have \d+ conversations with feedback, need 100;", said)
    assert re.search(r"have \d+ conversations that users disliked, need 10\b", said)
    assert re.search(r"have \d+ people who voted, need 50\b", said)
    run = await only_run(storage)
    assert (run.outcome, run.calls) == ("refused", 0)
    assert run.details["funnel"]["tasks"] == 20


async def test_without_required_feedback_unrated_conversations_teach_too(storage: PostgresStorage) -> None:
    await talk(storage, 300)
    unrated = 300 - len([raw async for raw in storage.read_tasks(TaskQuery(agent_id="default", limit=1_000))])
    optimizer = Proposes(IDEAL_PROMPT)
    run = await run_training(optimizer, None, False, engine=SimulatedEngine(0))
    assert unrated > 50
    assert run.details["counts"]["conversations"] - run.details["counts"]["scored_conversations"] >= unrated - 5
    assert run.outcome == "improved"


async def test_a_dead_model_is_found_by_one_question(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    dead = Broken()
    with pytest.raises(ModelUnavailableError, match="the model fell over") as gone:
        await train_async("simba", engine=dead)
    assert dead.calls == 1
    assert isinstance(gone.value, ConnectionError)
    run = await only_run(storage)
    assert (run.outcome, gone.value.run) == ("aborted", run)
    assert await is_stable(storage)


async def test_a_model_that_fails_every_other_time_stops_the_run(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    half_dead = Broken(healthy=2, every=2)
    with pytest.raises(ModelUnavailableError) as gone:
        await train_async(SimbaOptimizer(bsize=16, max_steps=2), engine=half_dead)
    assert half_dead.calls < 150
    run = await only_run(storage)
    assert (run.outcome, run.details["cause"]) == ("aborted", gone.value.cause)
    assert await is_stable(storage)


async def test_an_echoing_model_is_not_taken_for_a_judge(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    with pytest.raises(ModelUnavailableError, match="without the rules it was asked for"):
        await train_async("simba", engine=Echo())
    assert (await only_run(storage)).outcome == "aborted"
    assert await is_stable(storage)


async def test_a_run_that_cannot_fit_its_budget_spends_nothing(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_settings.dspy.training, "max_calls", 500)
        with pytest.raises(BudgetExceededError, match="limit is 500") as over:
            await train_async("simba", engine=SimulatedEngine(0))
    run = await only_run(storage)
    assert (run.outcome, run.calls, over.value.run) == ("aborted", 0, run)


class Greedy(Proposes):
    """An optimizer that calls more than it planned."""

    def compile(self, prompt: str, examples: Sequence[dspy.Example], **seam: Any) -> list[PromptCandidate]:
        for number in range(1_000):
            with suppress(dspy.utils.exceptions.DSPyError):
                dspy.settings.lm(f"One more question, number {number}?")
        return super().compile(prompt, examples, **seam)


async def test_the_budget_holds_even_when_an_optimizer_swallows_its_errors(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_settings.dspy.training, "max_calls", 900)
        with pytest.raises(BudgetExceededError):
            await train_async(Greedy(IDEAL_PROMPT), engine=SimulatedEngine(0), objective=apologises)
    assert (await only_run(storage)).calls == 900
    assert await is_stable(storage)


async def test_of_two_trainers_at_once_one_begins_a_trial(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    results = await asyncio.gather(
        *(train_async(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0)) for _ in range(2)), return_exceptions=True
    )
    assert sorted(result is None for result in results) == [False, True]
    (lost,) = [result for result in results if result is not None]
    assert isinstance(lost, ExperimentActiveError | StaleRolloutError)
    assert len(await storage.experiments("default")) == 1
    assert sorted(run.outcome or "" for run in await storage.runs("default")) == ["aborted", "improved"]


async def test_during_an_experiment_nothing_is_recorded_or_spent(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    await train_async(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0))
    with pytest.raises(RuntimeError, match="still on trial with 10%"):
        await train_async(Proposes(IDEAL_PROMPT), engine=Broken())
    assert len(await storage.runs("default")) == 1


async def test_a_run_that_breaks_says_so_and_the_next_one_goes_on(storage: PostgresStorage) -> None:
    await talk(storage, 210)

    class Buggy(Proposes):
        def compile(self, *args: Any, **seam: Any) -> list[PromptCandidate]:
            raise KeyError("oops")

    with pytest.raises(KeyError):
        await train_async(Buggy(), engine=SimulatedEngine(0))
    assert (await only_run(storage)).outcome == "aborted"
    assert await is_stable(storage)
    assert (await run_training(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0))).outcome == "improved"


async def test_killed_at_any_place_the_traffic_is_whole_and_the_next_run_goes_on(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    await storage.bootstrap("default", START_PROMPT)

    place, survived = 0, False
    while not survived:
        place += 1
        serving = await storage.serving("default")
        assert serving is not None
        if serving.candidate is not None:  # killed after the trial began: it is whole, end it to go on
            assert serving.share == 0.1
            assert serving.active.traffic + serving.candidate.traffic == 1.0
            break
        with pytest.MonkeyPatch.context() as patch, use_storage(FaultyStorage(storage, fail_at=place, after=True)):
            patch.setattr(app_settings.dspy.training, "min_accept_conversations", 8)
            patch.setattr("bindu.dspy.splits._ACCEPT_SHARE", 0.07)
            try:
                await train_async(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0), objective=apologises)
            except Killed:
                continue
            survived = True
    assert place >= 8
    assert len(await storage.experiments("default")) == 1


async def test_a_dry_run_plans_and_leaves_no_trace(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    dead = Broken()
    run = await run_training("simba", engine=dead, dry_run=True)
    assert dead.calls == 0
    assert 4_000 < run.details["estimate"]["total"] <= app_settings.dspy.training.max_calls
    assert await storage.runs("default") == []


async def test_a_python_callable_is_an_objective_and_needs_no_judge(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    engine = SimulatedEngine(0)

    run = await run_training(Proposes(IDEAL_PROMPT), engine=engine, objective=apologises)
    assert run.outcome == "improved"
    assert set(run.details["calls"]) == {"agent", "from_memory"}


async def test_a_provider_over_real_http_trains_as_well_and_its_stumbles_are_forgiven(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    faults = Faults(rate_limited=0.05, retry_after=0)
    with SimulatedServer(0, faults=faults) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_settings.dspy, "default_model", "openai/simulated-desk")
        patch.setattr(app_settings.dspy, "api_base", server.base_url)
        patch.setattr(app_settings.dspy, "api_key", SecretStr("none"))
        patch.setattr(app_settings.dspy.training, "num_threads", 8)
        run = await run_training(Proposes(IDEAL_PROMPT))
    assert run.outcome == "improved"
    assert run.calls > run.details["errors"]["rate_limited"] > 0
    assert run.details["tokens"]["output"] > 0


async def test_without_a_prompt_there_is_nothing_to_train(storage: PostgresStorage) -> None:
    with pytest.raises(NoActivePromptError):
        await train_async("simba", engine=SimulatedEngine(0))


async def test_arguments_are_checked_before_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.storage, "postgres_url", None)
    with pytest.raises(UnsupportedOptimizerError, match="bootstrap"):
        await train_async("bootstrap")
    with pytest.raises(UnknownStrategyError):
        await train_async("simba", object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Objective 'clicks' is unknown"):
        await train_async("simba", objective="clicks")  # type: ignore[arg-type]
    with pytest.raises(StorageNotConfiguredError):
        await train_async("simba", LastTurnStrategy())


async def test_the_sync_wrapper_says_what_to_use_inside_a_loop() -> None:
    with pytest.raises(RuntimeError, match="await train_async"):
        train("simba")


def test_the_sync_wrapper_closes_the_storage_it_opened(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.storage, "postgres_url", postgres_url)
    for _ in range(2):  # a pool left over from the first loop would break the second
        with pytest.raises(NoActivePromptError):
            train("simba")


async def test_the_optimizer_learns_from_the_newest_rows_beside_those_that_prove(storage: PostgresStorage) -> None:
    await talk(storage, 300, rater="one and the same")  # so that the split goes by time alone
    optimizer = Proposes(IDEAL_PROMPT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_settings.dspy.training, "min_raters", 1)
        run = await run_training(optimizer, engine=SimulatedEngine(0))
    split = run.details["split"]
    rated = [str(raw.context_id) async for raw in storage.read_tasks(TaskQuery(agent_id="default", limit=999))]
    in_time = sorted(rated, key=lambda name: int(name[1:]))
    assert sorted(run.details["accept"]) == sorted(in_time[-split["accept"] :])
    assert len(optimizer.shown) == MAX_TRAIN_ROWS < split["train"]
    assert optimizer.shown == in_time[: split["train"]][-MAX_TRAIN_ROWS:]


async def test_conversations_are_spent_before_the_first_answer_is_asked_of_them(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    faulty = FaultyStorage(storage)
    with use_storage(faulty):
        await train_async(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0), objective=apologises)
    assert faulty.calls.count("save_run") == 3  # begun, before the proof, before the trial
    place = [number for number, verb in enumerate(faulty.calls, 1) if verb == "save_run"][1]
    await end_trial(storage)
    before = await storage.spent_conversations("default")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_settings.dspy.training, "min_accept_conversations", 10)
        patch.setattr("bindu.dspy.splits._ACCEPT_SHARE", 0.07)
        with use_storage(FaultyStorage(storage, fail_at=place, after=True)), pytest.raises(Killed):
            await train_async(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0), objective=apologises)
        (died, _) = await storage.runs("default")
        assert died.state == "running"
        assert len(died.details["accept"]) >= 10
        assert not before & set(died.details["accept"])
        after = await storage.spent_conversations("default")
        assert after == before | set(died.details["accept"])
        again = await run_training(
            Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0), objective=apologises, resume=False
        )
    assert not after & set(again.details["accept"])
    assert await storage.spent_conversations("somebody else") == set()


async def end_trial(storage: PostgresStorage) -> None:
    serving = await storage.serving("default")
    assert serving is not None
    assert serving.candidate is not None
    assert serving.experiment_id is not None
    await storage.apply(
        Rollout(
            agent_id="default",
            experiment_id=serving.experiment_id,
            expected_version=serving.version,
            verdict="roll_back",
            share_before=serving.share,
            share_after=0.0,
            reason="The test wants to go on.",
            outcome="rolled_back",
        )
    )
    await storage.set_retired_status("default", serving.candidate.id, "deprecated")


@pytest.mark.parametrize(("status", "origin"), [("deprecated", "manual"), ("rolled_back", "champion")])
async def test_a_prompt_that_was_active_once_may_be_tried_again(
    storage: PostgresStorage, status: PromptStatus, origin: str
) -> None:
    await talk(storage, 210)
    await storage.add_prompt("default", IDEAL_PROMPT, status, origin=origin)
    assert (await run_training(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0))).outcome == "improved"


async def test_scores_on_train_and_on_select_are_kept_apart(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    run = await run_training(Proposes(BAD_PROMPT, IDEAL_PROMPT), engine=SimulatedEngine(0))
    serving = await storage.serving("default")
    assert serving is not None
    assert serving.candidate is not None
    assert serving.candidate.text == IDEAL_PROMPT
    chosen = run.details["candidates"][1]
    kept = serving.candidate.metadata
    assert (kept["train_score"], kept["select_score"]) == (1.0, chosen["select_score"])
    assert 0 < chosen["select_score"] < 1.0 == chosen["train_score"]


async def test_a_metric_with_a_bug_is_named_before_anything_is_spent(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    engine = Broken()

    def buggy(example: dspy.Example, prediction: dspy.Prediction) -> float:
        raise KeyError("tone")

    with pytest.raises(TrainingRefusedError, match="The metric 'buggy' failed with KeyError: 'tone'"):
        await train_async("simba", engine=engine, objective=buggy)
    assert engine.calls == 0
    assert (await only_run(storage)).outcome == "refused"


async def test_a_metric_that_breaks_on_the_way_ends_the_run_at_once(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    scored = 0

    def tired(example: dspy.Example, prediction: dspy.Prediction) -> float:
        nonlocal scored
        scored += 1
        return 0.5 if scored <= 40 else float("nan")

    with pytest.raises(TrainingRefusedError, match="The metric 'tired' gave the score nan"):
        await train_async("simba", engine=SimulatedEngine(0), objective=tired)
    run = await only_run(storage)
    assert (run.outcome, run.details["cause"]) == ("refused", "metric")
    assert 40 <= run.calls <= 50


async def test_a_cancelled_run_is_recorded_and_spends_no_more(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    engine = Broken(healthy=10**9)
    running = asyncio.create_task(train_async("simba", engine=engine))
    while engine.calls < 100:
        assert not running.done()
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    spent = engine.calls
    run = await only_run(storage)
    assert (run.state, run.outcome, run.reason) == (
        "ended",
        "aborted",
        "The run was interrupted. Nothing was deployed. Run the same command to go on.",
    )
    await asyncio.sleep(0.3)
    assert engine.calls <= spent + 1  # the one in flight
    assert await is_stable(storage)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
async def test_ctrl_c_ends_the_command_and_the_record_though_the_model_is_slow(
    storage: PostgresStorage, postgres_url: str, tmp_path: Path
) -> None:
    await talk(storage, 210)
    with SimulatedServer(0) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bindu.dspy.cli.train", "--require-feedback", "--json"),
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "STORAGE__POSTGRES_URL": postgres_url,
                "DSPY__DEFAULT_MODEL": "openai/simulated",
                "DSPY__API_BASE": server.base_url,
                "DSPY__API_KEY": "none",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            while server.requests < 60:
                assert process.returncode is None
                await asyncio.sleep(0.02)
            server.faults = Faults(latency_ms=60_000)
            await asyncio.sleep(1)  # every thread waits for its answer
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            out, err = await asyncio.wait_for(process.communicate(), 30)
            took = time.monotonic() - start
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
    assert process.returncode == 130, err.decode()
    assert took < 5  # about one second on an idle machine
    assert (out, b"interrupted" in err, b"Traceback" in err) == (b"", True, False)
    run = await only_run(storage)
    assert (run.state, run.outcome) == ("ended", "aborted")
    assert run.reason == "The run was interrupted. Nothing was deployed. Run the same command to go on."
    assert run.calls >= 60
    assert await is_stable(storage)
