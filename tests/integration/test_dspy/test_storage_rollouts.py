"""Traffic: trials begin, shares move, experiments end; every time all of it or nothing."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from bindu.dspy.errors import (
    BinduError,
    ExperimentActiveError,
    InvalidPromptError,
    NoActivePromptError,
    StaleRolloutError,
    StorageUnavailableError,
    TrainingRefusedError,
    UnknownPromptError,
)
from bindu.dspy.models import Rollout, Serving, Trial
from bindu.dspy.storage import Storage
from conftest import everything
from faults import Event, Manner, Moment, break_writes, mend_writes
from samples import AGENT, a_rollout, a_run, a_task, a_vote, open_trial

TUESDAY = datetime(2026, 3, 3, 9, tzinfo=UTC)


async def now_serving(storage: Storage, agent_id: str = AGENT) -> Serving:
    serving = await storage.serving(agent_id)
    assert serving is not None
    return serving


async def test_a_trial_makes_a_candidate_an_experiment_and_a_decision(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    policy, metadata = {"rule": "means", "rule_version": 3, "steps": [0.1]}, {"score": 0.8}
    experiment = await open_trial(
        storage, text="Be kinder.", share=0.25, policy=policy, metadata=metadata, reason="It won.", actor="ann"
    )
    serving = await now_serving(storage)
    assert serving.candidate is not None
    assert (serving.version, serving.share, serving.experiment_id, serving.epoch) == (2, 0.25, experiment.id, 0)
    assert (serving.active.traffic, serving.candidate.traffic) == (0.75, 0.25)
    assert (serving.candidate.text, serving.candidate.status) == ("Be kinder.", "candidate")
    assert (serving.candidate.parent_id, serving.candidate.metadata) == (1, metadata)
    assert experiment == await storage.experiment(AGENT, experiment.id)
    assert (experiment.state, experiment.outcome, experiment.policy) == ("running", None, policy)
    (decision,) = await storage.decisions(AGENT)
    assert (decision.window, decision.verdict, decision.share_before, decision.share_after) == (0, "open", 0.0, 0.25)
    assert (decision.rule, decision.rule_version, decision.actor, decision.reason) == ("means", 3, "ann", "It won.")
    assert decision.code_version


async def test_a_trial_ends_its_training_run_improved(storage: Storage) -> None:
    run = await storage.save_run(a_run(calls=40, details={"funnel": [1, 2]}))
    experiment = await open_trial(storage, run_id=run.id)
    (ended,) = await storage.runs(AGENT)
    assert (ended.state, ended.outcome) == ("ended", "improved")
    assert (ended.candidate_id, ended.experiment_id) == (experiment.candidate_id, experiment.id)
    assert (ended.calls, ended.details) == (40, {"funnel": [1, 2]})
    assert ended.ended_at is not None


async def test_a_run_that_ended_meanwhile_deploys_nothing(storage: Storage, postgres_url: str) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    run = await storage.save_run(a_run(state="ended", outcome="aborted"))
    before = await everything(postgres_url)
    with pytest.raises(TrainingRefusedError, match="not running any more"):
        await open_trial(storage, run_id=run.id)
    assert await everything(postgres_url) == before


async def test_an_agent_without_prompt_has_nothing_to_try_against(storage: Storage) -> None:
    with pytest.raises(NoActivePromptError):
        await storage.begin_trial(
            Trial(agent_id=AGENT, text="Be kind.", expected_version=1, origin="simba", parent_id=1)
        )


async def test_a_second_trial_is_refused_while_one_runs(storage: Storage) -> None:
    await open_trial(storage, share=0.3)
    with pytest.raises(ExperimentActiveError) as refused:
        await open_trial(storage)
    assert (refused.value.candidate_id, refused.value.traffic) == (2, 0.3)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"text": "Be kind."}, InvalidPromptError),
        ({"text": " "}, InvalidPromptError),
        ({"share": 0.0}, InvalidPromptError),
        ({"share": 1.5}, InvalidPromptError),
        ({"share": float("nan")}, InvalidPromptError),
        ({"parent_id": 9}, UnknownPromptError),
        ({"expected_version": 5}, StaleRolloutError),
    ],
)
async def test_a_trial_that_cannot_be_changes_nothing(
    storage: Storage, postgres_url: str, fields: dict[str, object], error: type[Exception]
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    before = await everything(postgres_url)
    with pytest.raises(error):
        await open_trial(storage, **fields)  # type: ignore[arg-type]
    assert await everything(postgres_url) == before


async def test_of_eight_trainers_at_once_one_opens_an_experiment(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    results = await asyncio.gather(
        *(open_trial(storage, text=f"Be kinder, says {number}.") for number in range(8)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, (ExperimentActiveError, StaleRolloutError))]
    assert len(refused) == 7
    assert len(await storage.prompts(AGENT)) == 2
    assert len(await storage.experiments(AGENT)) == 1


async def test_a_step_moves_the_share_and_the_epoch(storage: Storage) -> None:
    experiment = await open_trial(storage)
    decision = await storage.apply(
        await a_rollout(storage, verdict="step_up", share_after=0.2, inputs={"n": 20}, evidence={"e": 4.5}),
        now=TUESDAY,
    )
    serving = await now_serving(storage)
    assert (serving.version, serving.share, serving.epoch) == (3, 0.2, 1)
    assert (decision.window, decision.share_before, decision.share_after, decision.at) == (1, 0.1, 0.2, TUESDAY)
    assert (decision.inputs, decision.evidence) == ({"n": 20}, {"e": 4.5})
    assert decision == (await storage.decisions(AGENT, experiment_id=experiment.id))[0]


async def test_a_hold_is_logged_and_raises_the_version_but_not_the_epoch(storage: Storage) -> None:
    await open_trial(storage)
    await storage.apply(await a_rollout(storage))
    serving = await now_serving(storage)
    assert (serving.version, serving.share, serving.epoch) == (3, 0.1, 0)
    assert [decision.verdict for decision in await storage.decisions(AGENT)] == ["hold", "open"]


async def test_promotion_makes_the_candidate_active_and_the_old_one_deprecated(storage: Storage) -> None:
    experiment = await open_trial(storage)
    await storage.apply(
        await a_rollout(storage, verdict="promote", share_after=1.0, outcome="promoted", reason="It is better."),
        now=TUESDAY,
    )
    serving = await now_serving(storage)
    assert (serving.active.id, serving.candidate, serving.share) == (experiment.candidate_id, None, 0.0)
    assert serving.active.traffic == 1.0
    assert [(prompt.status, prompt.traffic) for prompt in await storage.prompts(AGENT)] == [
        ("deprecated", 0.0),
        ("active", 1.0),
    ]
    ended = await storage.experiment(AGENT, experiment.id)
    assert ended is not None
    assert (ended.state, ended.outcome, ended.reason, ended.ended_at) == ("ended", "promoted", "It is better.", TUESDAY)
    assert ended.epoch == 1


@pytest.mark.parametrize("outcome", ["rolled_back", "inconclusive"])
async def test_any_other_outcome_rolls_the_candidate_back(
    storage: Storage, outcome: Literal["rolled_back", "inconclusive"]
) -> None:
    experiment = await open_trial(storage)
    await storage.apply(await a_rollout(storage, verdict="roll_back", share_after=0.0, outcome=outcome))
    serving = await now_serving(storage)
    assert (serving.active.id, serving.candidate, serving.active.traffic) == (1, None, 1.0)
    assert [prompt.status for prompt in await storage.prompts(AGENT)] == ["active", "rolled_back"]
    ended = await storage.experiment(AGENT, experiment.id)
    assert ended is not None
    assert ended.outcome == outcome


async def test_a_new_trial_may_follow_and_counts_its_windows_from_zero(storage: Storage) -> None:
    await open_trial(storage)
    await storage.apply(await a_rollout(storage, verdict="promote", share_after=1.0, outcome="promoted"))
    second = await open_trial(storage)
    assert (second.id, second.active_id, second.candidate_id, second.epoch) == (2, 2, 3, 0)
    windows = [(decision.experiment_id, decision.window) for decision in await storage.decisions(AGENT)]
    assert windows == [(2, 0), (1, 1), (1, 0)]
    assert [experiment.id for experiment in await storage.experiments(AGENT)] == [2, 1]
    assert [experiment.id for experiment in await storage.experiments(AGENT, limit=1)] == [2]


async def test_a_stale_decision_changes_nothing(storage: Storage, postgres_url: str) -> None:
    await open_trial(storage)
    rollout = await a_rollout(storage)
    await storage.apply(rollout)
    before = await everything(postgres_url)
    for stale in (rollout, replace(rollout, expected_version=3, experiment_id=7), replace(rollout, agent_id="nobody")):
        with pytest.raises(StaleRolloutError):
            await storage.apply(stale)
    assert await everything(postgres_url) == before


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
async def test_a_share_that_cannot_be_changes_nothing(storage: Storage, postgres_url: str, share: float) -> None:
    await open_trial(storage)
    before = await everything(postgres_url)
    with pytest.raises(InvalidPromptError):
        await storage.apply(await a_rollout(storage, share_after=share))
    assert await everything(postgres_url) == before


async def test_of_eight_controllers_one_moves_traffic(storage: Storage) -> None:
    await open_trial(storage)
    rollout = await a_rollout(storage, verdict="step_up", share_after=0.2)
    results = await asyncio.gather(*(storage.apply(rollout) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(result, StaleRolloutError) for result in results) == 7
    assert (await now_serving(storage)).share == 0.2
    assert len(await storage.decisions(AGENT)) == 2


WRITES_OF_A_TRIAL: list[tuple[str, Event]] = [
    ("prompts", "INSERT"),
    ("experiments", "INSERT"),
    ("serving", "UPDATE"),
    ("decisions", "INSERT"),
    ("training_runs", "UPDATE"),
]
WRITES_OF_A_PROMOTION: list[tuple[str, Event]] = [
    ("experiments", "UPDATE"),
    ("prompts", "UPDATE"),
    ("serving", "UPDATE"),
    ("decisions", "INSERT"),
]
MOMENTS: list[Moment] = ["before", "after", "commit"]
MANNERS: list[Manner] = ["terminate", "refuse"]


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("write", WRITES_OF_A_TRIAL)
async def test_a_trial_killed_at_any_statement_leaves_nothing_half_written(
    storage: Storage, postgres_url: str, write: tuple[str, Event], moment: Moment, manner: Manner
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    run = await storage.save_run(a_run())
    before = await everything(postgres_url)
    await break_writes(postgres_url, write, moment=moment, manner=manner)
    with pytest.raises(StorageUnavailableError if manner == "terminate" else BinduError):
        await open_trial(storage, run_id=run.id)
    assert await everything(postgres_url) == before
    await mend_writes(postgres_url)
    assert (await open_trial(storage, run_id=run.id)).candidate_id == 2


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("write", WRITES_OF_A_PROMOTION)
async def test_a_promotion_killed_at_any_statement_leaves_nothing_half_written(
    storage: Storage, postgres_url: str, write: tuple[str, Event], moment: Moment, manner: Manner
) -> None:
    await open_trial(storage)
    rollout = await a_rollout(storage, verdict="promote", share_after=1.0, outcome="promoted")
    before = await everything(postgres_url)
    await break_writes(postgres_url, write, moment=moment, manner=manner)
    with pytest.raises(StorageUnavailableError if manner == "terminate" else BinduError):
        await storage.apply(rollout)
    assert await everything(postgres_url) == before
    await mend_writes(postgres_url)
    await storage.apply(rollout)
    assert (await now_serving(storage)).active.id == 2


moves = st.one_of(
    st.tuples(st.just("try"), st.sampled_from([0.05, 0.1, 0.5, 1.0])),
    st.tuples(st.just("step"), st.sampled_from([0.01, 0.1, 0.5, 0.9, 1.0])),
    st.tuples(st.just("end"), st.sampled_from(["promoted", "rolled_back", "inconclusive"])),
    st.tuples(st.just("stale"), st.just(None)),
    st.tuples(st.just("talk"), st.floats(0, 1)),
    st.tuples(st.just("retire"), st.sampled_from(["deprecated", "rolled_back"])),
)


async def make_move(storage: Storage, agent_id: str, kind: str, value: object) -> None:
    serving = await now_serving(storage, agent_id)
    match kind:
        case "try":
            await open_trial(storage, agent_id, share=value)  # type: ignore[arg-type]
        case "retire":
            await storage.add_prompt(agent_id, "An old text.", value)  # type: ignore[arg-type]
        case "talk":
            task = a_task(agent_id=agent_id, prompt_id=serving.active.id)
            await storage.add_feedback([a_vote(*await storage.add_tasks([task]), value, agent_id=agent_id)])  # type: ignore[arg-type]
        case _ if serving.candidate is None:
            return
        case "step":
            await storage.apply(await a_rollout(storage, agent_id, share_after=value))
        case "end":
            await storage.apply(await a_rollout(storage, agent_id, verdict="roll_back", share_after=0.0, outcome=value))
        case "stale":
            rollout: Rollout = await a_rollout(storage, agent_id, share_after=0.77)
            with pytest.raises(StaleRolloutError):
                await storage.apply(replace(rollout, expected_version=rollout.expected_version - 1))


async def check_invariants(storage: Storage, agent_id: str) -> None:
    serving = await now_serving(storage, agent_id)
    prompts = await storage.prompts(agent_id)
    assert sum(prompt.traffic for prompt in prompts) == pytest.approx(1.0)
    live = {prompt.id: prompt for prompt in prompts if prompt.status in ("active", "candidate") or prompt.traffic > 0}
    assert live == {prompt.id: prompt for prompt in (serving.active, serving.candidate) if prompt is not None}
    assert [prompt.status for prompt in prompts].count("active") == 1
    assert [prompt.id for prompt in prompts] == list(range(1, len(prompts) + 1))
    assert serving.version == 1 + len(await storage.decisions(agent_id))
    experiments = await storage.experiments(agent_id)
    assert [one.state for one in experiments].count("running") == (serving.candidate is not None)
    for experiment in experiments:
        log = await storage.decisions(agent_id, experiment_id=experiment.id)
        assert [decision.window for decision in log] == list(range(len(log)))[::-1]
        assert experiment.epoch == sum(decision.share_before != decision.share_after for decision in log[:-1])
        assert all(later.share_before == earlier.share_after for later, earlier in itertools.pairwise(log))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(moves, max_size=12))
async def test_whatever_happens_the_shares_sum_to_one_and_versions_rise(
    storage: Storage, sequence: list[tuple[str, object]]
) -> None:
    agent_id = str(uuid7())
    await storage.bootstrap(agent_id, "Be kind.")
    for kind, value in sequence:
        busy = (await now_serving(storage, agent_id)).candidate is not None
        try:
            await make_move(storage, agent_id, kind, value)
        except ExperimentActiveError:
            assert kind == "try"
            assert busy
        await check_invariants(storage, agent_id)
