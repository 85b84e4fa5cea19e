"""The gauges of real agents: read from the database in the background, answered from memory."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from bindu.dspy import prompt_selector
from bindu.dspy.canary.controller import run_step
from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.insights import agent_status, agent_vitals
from bindu.dspy.models import RunOutcome
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import select_prompt_with_canary, snapshot_ages, stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.storage import use_storage
from bindu.dspy.telemetry import metrics_text, refresh_gauges
from samples import AGENT, a_run, a_task
from trials import START, open_evidence_trial, rate_units

OUTCOMES: tuple[RunOutcome, ...] = ("worse", "aborted", "refused")
SCORES = ((0.4, 0.6, 0.4), (0.6, 1.0, 0.6))  # of an hour's units, active and candidate


class Away:
    """A storage that can be switched off, and counts what it is asked."""

    def __init__(self, storage: PostgresStorage) -> None:
        self.storage = storage
        self.away = False
        self.asked: list[str] = []

    def __getattr__(self, verb: str) -> Any:
        self.asked.append(verb)
        if self.away:
            raise StorageUnavailableError("the database", OSError("away"))
        return getattr(self.storage, verb)


@pytest.fixture
async def outage(storage: PostgresStorage) -> AsyncIterator[Away]:
    switch = Away(storage)
    with use_storage(switch):  # type: ignore[arg-type] # it has every verb
        yield switch
        await stop_prompt_refresh()
    await refresh_gauges([])


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_an_agent_without_a_prompt_has_no_gauges(outage: Away) -> None:
    await select_prompt_with_canary(default="You help.", agent_id="made-up")
    await refresh_gauges(["made-up"])
    assert b"made-up" not in metrics_text()[0]
    assert snapshot_ages() == {}


async def test_before_an_experiment_all_traffic_is_the_active_prompts(outage: Away) -> None:
    await bootstrap_prompt("You help.", agent_id=AGENT)
    await refresh_gauges([AGENT])
    assert sample("bindu_traffic_ratio", agent=AGENT, arm="active") == 1
    assert sample("bindu_traffic_ratio", agent=AGENT, arm="candidate") == 0
    assert sample("bindu_experiment_running", agent=AGENT) == 0
    assert sample("bindu_score_difference", agent=AGENT, bound="estimate") is None
    assert sample("bindu_feedback_ratio", agent=AGENT, arm="active") is None


async def test_an_experiments_share_difference_and_feedback_are_shown_and_a_scrape_asks_nothing(
    outage: Away, storage: PostgresStorage
) -> None:
    trial = await open_evidence_trial(storage, share=0.5)
    await rate_units(storage, trial, START, hours=30, scores=SCORES)
    await storage.add_tasks(  # of whom nobody heard
        [a_task(prompt_id=trial.active_id, experiment_id=trial.id, created_at=START + timedelta(minutes=10))]
    )
    await run_step(agent_id=AGENT, now=START + timedelta(hours=31))
    await refresh_gauges([AGENT])
    trial_report = (await agent_status(AGENT)).trial
    assert trial_report is not None
    outage.asked.clear()
    shown = {bound: sample("bindu_score_difference", agent=AGENT, bound=bound) for bound in ("estimate", "low", "high")}
    said = trial_report.standing
    assert shown == {"estimate": said.estimate, "low": said.low, "high": said.high}
    assert said.estimate is not None
    assert 0 < said.low < said.estimate < said.high
    assert sample("bindu_experiment_running", agent=AGENT) == 1
    assert sample("bindu_sample_ratio_mismatch", agent=AGENT) == 0
    assert sample("bindu_windows_due", agent=AGENT) > 1_000  # the experiment is of long ago
    assert sample("bindu_feedback_ratio", agent=AGENT, arm="active") == pytest.approx(90 / 91)
    assert sample("bindu_feedback_ratio", agent=AGENT, arm="candidate") == 1
    assert outage.asked == []


async def test_windows_that_nobody_looked_at_are_due_until_somebody_does(storage: PostgresStorage) -> None:
    trial = await open_evidence_trial(storage, share=0.5)
    await rate_units(storage, trial, START, hours=3, scores=SCORES)
    now = START + timedelta(hours=7, minutes=30)
    before = await agent_vitals(AGENT, now=now)
    await run_step(agent_id=AGENT, now=now)
    after = await agent_vitals(AGENT, now=now)
    assert before is not None
    assert after is not None
    assert (before.windows_due, after.windows_due) == (7, 0)


async def test_a_lopsided_assignment_is_an_alarm_for_a_day_after_it_ended_the_experiment(
    storage: PostgresStorage,
) -> None:
    trial = await open_evidence_trial(storage, share=0.5)
    await rate_units(storage, trial, START, hours=30, scores=((0.6,) * 6, (0.6,)))
    ended = START + timedelta(hours=31)
    step = await run_step(agent_id=AGENT, now=ended)
    assert step is not None
    assert "not assigned by the shares" in step.reason
    now, later = ended + timedelta(hours=1), ended + timedelta(hours=25)
    first, second = await agent_vitals(AGENT, now=now), await agent_vitals(AGENT, now=later)
    assert first is not None
    assert second is not None
    assert (first.mismatch, first.running, first.standing) == (True, False, None)
    assert not second.mismatch


async def test_only_a_run_with_a_result_is_a_success_of_training(outage: Away, storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.", agent_id=AGENT)
    for day, outcome in enumerate(OUTCOMES, start=1):
        at = datetime(2026, 1, day, tzinfo=UTC)
        run = await storage.save_run(a_run(), now=at)
        await storage.save_run(replace(run, state="ended", outcome=outcome, reason="So it was."), now=at)
    await refresh_gauges([AGENT])
    seen = sample("bindu_training_last_success_timestamp_seconds", agent=AGENT)
    assert seen == datetime(2026, 1, 1, tzinfo=UTC).timestamp()


async def test_what_cannot_be_read_keeps_its_last_values_is_counted_and_said_once(
    outage: Away, caplog: pytest.LogCaptureFixture
) -> None:
    await bootstrap_prompt("You help.", agent_id=AGENT)
    await refresh_gauges([AGENT])
    before = sample("bindu_refresh_failures_total") or 0.0
    outage.away = True
    for _ in range(3):
        await refresh_gauges([AGENT])
    assert sample("bindu_refresh_failures_total") == before + 3
    assert sample("bindu_traffic_ratio", agent=AGENT, arm="active") == 1
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


async def test_agents_that_are_no_longer_asked_for_are_forgotten(outage: Away) -> None:
    await bootstrap_prompt("You help.", agent_id="shop")
    await refresh_gauges(["shop"])
    await refresh_gauges()  # those that are served: none yet
    assert sample("bindu_traffic_ratio", agent="shop", arm="active") is None
    await select_prompt_with_canary(agent_id="shop")
    await refresh_gauges()
    assert sample("bindu_traffic_ratio", agent="shop", arm="active") == 1


async def test_a_snapshot_ages_while_the_database_is_away_and_is_fresh_after_each_poll(
    outage: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [prompt_selector.monotonic()]
    monkeypatch.setattr(prompt_selector, "monotonic", lambda: clock[0])
    await bootstrap_prompt("You help.", agent_id=AGENT)
    await select_prompt_with_canary(agent_id=AGENT)
    clock[0] += 5
    assert snapshot_ages() == {AGENT: 5}
    refresher = prompt_selector._refresher()
    await refresher._catch_up()
    assert snapshot_ages() == {AGENT: 0}
    outage.away = True
    clock[0] += 70
    with pytest.raises(StorageUnavailableError):
        await refresher._catch_up()
    assert sample("bindu_snapshot_age_seconds", agent=AGENT) == 70
