"""Training runs: they give signs of life, can be asked to stop, are given up when they fall silent, and stay ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from bindu.dspy.errors import BinduError, InvalidArgumentError, RunCancelledError
from bindu.dspy.models import PredictedEffect, TrainingRun
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import Storage
from conftest import everything, execute
from plans import plan_of, rows_read
from samples import AGENT, a_rollout, a_run, open_trial

TUESDAY = datetime(2026, 3, 3, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def stored(storage: Storage, run: TrainingRun) -> TrainingRun:
    found = await storage.run(run.agent_id, run.id)
    assert found is not None
    return found


async def test_an_ended_run_is_never_changed(storage: Storage) -> None:
    run = await storage.save_run(a_run())
    assert run.started_at is not None
    later = await storage.save_run(replace(run, calls=10, details={"a": 1}))
    assert (later.calls, later.details, later.started_at) == (10, {"a": 1}, run.started_at)
    ended = await storage.save_run(replace(later, state="ended", outcome="worse", reason="It lost."), now=TUESDAY)
    assert (ended.outcome, ended.reason, ended.ended_at) == ("worse", "It lost.", TUESDAY)
    assert await storage.save_run(replace(ended, calls=99, state="running", outcome=None)) == ended
    assert await storage.cancel_run(AGENT, run.id, "Too late.") == ended
    assert await storage.end_lost_runs(AGENT, silent_for=-MINUTE, reason="Too late.") == 0
    assert await storage.runs(AGENT) == [ended]


async def test_runs_come_newest_first(storage: Storage) -> None:
    for day in (3, 1, 2):
        await storage.save_run(a_run(seed=day), now=datetime(2026, 3, day, tzinfo=UTC))
    assert [run.seed for run in await storage.runs(AGENT)] == [3, 2, 1]
    assert [run.seed for run in await storage.runs(AGENT, limit=1)] == [3]


async def test_a_run_is_saved_with_its_step_its_cost_what_it_resumes_and_when_it_was_seen(storage: Storage) -> None:
    earlier = uuid7()
    given = a_run(step="judging \x00 answers", cost=0.1 + 0.2, resumes=earlier, cancel_reason="ignored", calls=3)
    saved = await storage.save_run(given, now=TUESDAY)
    expected = replace(given, step="judging \ufffd answers", cancel_reason=None, seen_at=TUESDAY, started_at=TUESDAY)
    assert saved == expected
    assert await storage.run(AGENT, given.id) == saved
    later = await storage.save_run(replace(saved, step=None, cost=1.5, seen_at=None), now=TUESDAY + MINUTE)
    assert later == replace(saved, step=None, cost=1.5, seen_at=TUESDAY + MINUTE)
    assert await storage.run(AGENT, uuid7()) is None
    assert await storage.run("another", given.id) is None


@pytest.mark.parametrize("cost", [-0.01, float("nan"), float("inf")])
async def test_a_cost_that_cannot_be_is_refused(storage: Storage, cost: float) -> None:
    with pytest.raises(BinduError):
        await storage.save_run(a_run(cost=cost))
    assert await storage.runs(AGENT) == []


async def test_a_run_learns_that_it_was_asked_to_stop_and_the_first_reason_stays(storage: Storage) -> None:
    run = await storage.save_run(a_run())
    asked = await storage.cancel_run(AGENT, run.id, "It costs \x00 too much.")
    assert asked == replace(run, cancel_reason="It costs \ufffd too much.")
    assert await storage.cancel_run(AGENT, run.id, "Another reason.") == asked
    told = await storage.save_run(replace(run, calls=5))
    assert (told.cancel_reason, told.calls) == (asked.cancel_reason, 5)
    ended = await storage.save_run(replace(run, state="ended", outcome="aborted", cancel_reason="Overwritten?"))
    assert (ended.state, ended.cancel_reason) == ("ended", asked.cancel_reason)
    assert await storage.cancel_run(AGENT, uuid7(), "Nobody.") is None
    assert await storage.cancel_run("another", run.id, "Not mine.") is None


async def test_of_eight_who_ask_at_once_all_are_told_the_same_reason(storage: Storage) -> None:
    run = await storage.save_run(a_run())
    asked = await asyncio.gather(*(storage.cancel_run(AGENT, run.id, f"{number}") for number in range(8)))
    assert len({one.cancel_reason for one in asked if one is not None}) == 1


async def test_a_run_that_was_asked_to_stop_deploys_nothing(storage: Storage, postgres_url: str) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    run = await storage.save_run(a_run())
    await storage.cancel_run(AGENT, run.id, "Wrong data.")
    before = await everything(postgres_url)
    with pytest.raises(RunCancelledError, match="Wrong data"):
        await open_trial(storage, run_id=run.id)
    assert await everything(postgres_url) == before


async def test_a_run_is_either_cancelled_or_opens_its_trial_never_both(storage: Storage) -> None:
    for number in range(20):
        agent = f"agent {number}"
        await storage.bootstrap(agent, "Be kind.")
        run = await storage.save_run(a_run(agent_id=agent))
        trial = open_trial(storage, agent, run_id=run.id)
        opened, _ = await asyncio.gather(
            trial, storage.cancel_run(agent, run.id, "Wrong data."), return_exceptions=True
        )
        now = await stored(storage, run)
        if isinstance(opened, RunCancelledError):
            assert (now.state, now.cancel_reason) == ("running", "Wrong data.")
            assert await storage.experiments(agent) == []
        else:
            assert not isinstance(opened, BaseException)
            assert (now.outcome, now.cancel_reason, now.experiment_id) == ("improved", None, opened.id)


async def test_runs_that_fell_silent_end_aborted_and_the_others_go_on(storage: Storage, postgres_url: str) -> None:
    silent = await storage.save_run(a_run(), now=TUESDAY)
    edge = await storage.save_run(a_run(), now=TUESDAY + MINUTE)
    live = await storage.save_run(a_run(), now=TUESDAY)
    await storage.save_run(live, now=TUESDAY + 2 * MINUTE)
    other = await storage.save_run(a_run(agent_id="another"), now=TUESDAY)
    of_older_code = await storage.save_run(a_run(), now=TUESDAY)
    await execute(postgres_url, f"UPDATE bindu_dspy.training_runs SET seen_at = NULL WHERE id = '{of_older_code.id}'")
    now, gone = TUESDAY + 2 * MINUTE, "Its process \x00 is gone."
    assert await storage.end_lost_runs(AGENT, silent_for=MINUTE, reason=gone, now=now) == 2
    for lost in (silent, of_older_code):
        ended = await stored(storage, lost)
        assert (ended.state, ended.outcome, ended.reason) == ("ended", "aborted", "Its process \ufffd is gone.")
        assert ended.ended_at == now
    assert [(await stored(storage, run)).state for run in (edge, live, other)] == ["running"] * 3
    assert await storage.end_lost_runs(AGENT, silent_for=MINUTE, reason=gone, now=now) == 0
    assert await storage.end_lost_runs(AGENT, silent_for=MINUTE, reason=gone) == 2  # by the database's time


async def test_one_lost_run_can_be_ended_alone(storage: Storage) -> None:
    first, second = [await storage.save_run(a_run(), now=TUESDAY) for _ in range(2)]
    assert await storage.end_lost_runs(AGENT, silent_for=MINUTE, reason="Gone.", run_id=first.id) == 1
    assert [(await stored(storage, run)).state for run in (first, second)] == ["ended", "running"]


async def test_a_run_given_up_and_its_late_sign_of_life_agree_on_who_was_first(storage: Storage) -> None:
    for _ in range(20):
        run = await storage.save_run(a_run(), now=TUESDAY)
        told, ended = await asyncio.gather(
            storage.save_run(run), storage.end_lost_runs(AGENT, silent_for=MINUTE, reason="Gone.", run_id=run.id)
        )
        now = await stored(storage, run)
        assert (now.state, ended) == (("ended", 1) if told.state == "ended" else (now.state, ended))
        assert now.state == ("ended" if ended else "running")
        assert now.seen_at is not None
        assert (now.seen_at == TUESDAY) == bool(ended)


@pytest.mark.parametrize(
    "beginning", ["0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f", "0197F3C2-7B1E", "0197f3c27b1e7", "0197f3c2-7b1e-7cc3-"]
)
async def test_a_run_is_found_by_the_beginning_of_its_id(storage: Storage, beginning: str) -> None:
    run = await storage.save_run(a_run(id=UUID("0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f")))
    await storage.save_run(a_run(id=UUID("0197f3c2-7b1f-7cc3-98c4-dc0c0c07398f")))
    await storage.save_run(a_run(id=UUID("0197f3c2-7b1d-7fff-bfff-ffffffffffff")))
    assert await storage.find_runs(AGENT, beginning, limit=5) == [run]
    assert await storage.find_runs("another", beginning, limit=5) == []


async def test_all_runs_that_fit_are_found_the_last_first(storage: Storage) -> None:
    runs = [await storage.save_run(a_run()) for _ in range(4)]
    assert [run.id for run in await storage.find_runs(AGENT, "0", limit=3)] == [run.id for run in runs[:0:-1]]


@pytest.mark.parametrize("beginning", ["", "-", "xyz", "0197 f3c2", "0" * 33, "%", "\x00", "\ud800", "٣"])
async def test_what_begins_no_id_finds_nothing(storage: Storage, beginning: str) -> None:
    await storage.save_run(a_run())
    assert await storage.find_runs(AGENT, beginning, limit=5) == []


moves = st.one_of(
    st.tuples(st.just("save"), st.integers(0, 90)),
    st.tuples(st.just("end"), st.sampled_from(["unchanged", "worse", "refused", "aborted"])),
    st.tuples(st.just("cancel"), st.sampled_from(["one reason", "another"])),
    st.tuples(st.just("lost"), st.integers(0, 90)),
    st.tuples(st.just("improve"), st.none()),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(moves, max_size=10))
async def test_whatever_happens_a_run_ends_once_and_keeps_the_first_reason(
    storage: Storage, sequence: list[tuple[str, Any]]
) -> None:
    agent = str(uuid7())
    await storage.bootstrap(agent, "Be kind.")
    run = known = await storage.save_run(a_run(agent_id=agent), now=TUESDAY)
    now = TUESDAY
    for kind, value in sequence:
        running = known.state == "running"
        match kind:
            case "save":
                now += timedelta(seconds=value)
                told = await storage.save_run(replace(run, calls=value), now=now)
                known = replace(known, calls=value, seen_at=now) if running else known
                assert told == known
            case "end":
                told = await storage.save_run(replace(run, state="ended", outcome=value), now=now)
                changed = {"state": "ended", "outcome": value, "calls": 0, "seen_at": now, "ended_at": now}
                known = replace(known, **changed) if running else known
                assert told == known
            case "cancel":
                known = replace(known, cancel_reason=known.cancel_reason or value) if running else known
                assert await storage.cancel_run(agent, run.id, value) == known
            case "lost":
                now += timedelta(seconds=value)
                gone = running and known.seen_at is not None and now - known.seen_at > MINUTE
                assert await storage.end_lost_runs(agent, silent_for=MINUTE, reason="Gone.", now=now) == gone
                ended = {"state": "ended", "outcome": "aborted", "reason": "Gone.", "ended_at": now}
                known = replace(known, **ended) if gone else known
            case "improve" if running and known.cancel_reason is None:
                trial = await open_trial(storage, agent, run_id=run.id, now=now)
                candidate = {"candidate_id": trial.candidate_id, "experiment_id": trial.id}
                known = replace(known, state="ended", outcome="improved", ended_at=now, **candidate)
        assert await storage.run(agent, run.id) == known


async def tried(storage: Storage, gain: object, *, agent_id: str = AGENT, by_hand: bool = False, **policy: Any) -> int:
    """An experiment that a training run opened, unless somebody did it by hand."""
    gate = {} if gain is None else {"gate": {"gain": gain}}
    run = await storage.save_run(a_run(agent_id=agent_id, details=gate))
    experiment = await open_trial(storage, agent_id, policy=policy, run_id=None if by_hand else run.id)
    return experiment.id


async def over(storage: Storage, *, agent_id: str = AGENT, rule: str = "evidence", **evidence: object) -> None:
    end = {"verdict": "roll_back", "share_after": 0.0, "outcome": "inconclusive"}
    await storage.apply(await a_rollout(storage, agent_id, rule=rule, evidence=evidence, **end))


async def test_the_gates_word_is_put_beside_what_the_experiments_ended_with(storage: Storage) -> None:
    await tried(storage, 0.25)
    await storage.apply(await a_rollout(storage, rule="evidence", evidence={"estimate": 0.9}))
    await over(storage, estimate=0.125, low=0.1)
    await tried(storage, 1)
    await over(storage, rule="means", active_mean=0.5, candidate_mean=0.25, difference=-0.25)
    await tried(storage, 0.0)
    await over(storage, estimate=None)
    await tried(storage, -0.5, by_hand=True)
    await over(storage, estimate=0.5)
    await tried(storage, None)
    await over(storage, estimate=0.5)
    await tried(storage, "much")
    await over(storage, estimate=0.5)
    await tried(storage, 0.75)  # runs still
    found = [PredictedEffect(experiment_id=3, predicted=0.0, observed=None)]
    found += [PredictedEffect(experiment_id=2, predicted=1.0, observed=-0.25)]
    found += [PredictedEffect(experiment_id=1, predicted=0.25, observed=0.125)]
    assert await storage.gate_record(AGENT, limit=9) == found
    assert await storage.gate_record(AGENT, limit=2) == found[:2]
    assert await storage.gate_record(AGENT, limit=0) == []
    assert await storage.gate_record("another", limit=9) == []
    with pytest.raises(InvalidArgumentError):
        await storage.gate_record(AGENT, limit=-1)


async def test_a_person_who_ends_an_experiment_leaves_what_was_observed(storage: Storage) -> None:
    await tried(storage, 0.25, rule="evidence")
    await storage.apply(await a_rollout(storage, rule="evidence", evidence={"estimate": 0.125}))
    await storage.apply(await a_rollout(storage, rule="manual", verdict="pause", paused=True))
    await over(storage, rule="manual")
    await tried(storage, 0.5, rule="evidence")
    await over(storage, rule="manual")  # before any window was closed
    assert [one.observed for one in await storage.gate_record(AGENT, limit=9)] == [None, 0.125]


effects = st.tuples(
    st.one_of(st.none(), st.floats(-1, 1)),  # what the gate promised
    st.lists(st.one_of(st.none(), st.floats(-1, 1)), max_size=3),  # what windows showed
    st.sampled_from(["evidence", "means", "manual"]),  # who ended it
    st.booleans(),  # by hand
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(effects, max_size=5), limit=st.integers(0, 6))
async def test_the_gates_record_is_what_the_log_says(
    storage: Storage, history: list[tuple[float | None, list[float | None], str, bool]], limit: int
) -> None:
    agent = str(uuid7())
    expected = []
    for gain, seen, ends, by_hand in history:
        number = await tried(storage, gain, agent_id=agent, by_hand=by_hand)
        rule, key = ("evidence", "estimate") if ends == "evidence" else ("means", "difference")
        for estimate in seen:
            await storage.apply(await a_rollout(storage, agent, rule=rule, evidence={key: estimate}))
        await over(storage, agent_id=agent, rule=ends, **({} if ends == "manual" else {key: 0.5}))
        last = (seen[-1] if seen else None) if ends == "manual" else 0.5
        if gain is not None and not by_hand:
            expected.insert(0, PredictedEffect(experiment_id=number, predicted=gain, observed=last))
    assert await storage.gate_record(agent, limit=limit) == expected[:limit]


HISTORY = """
WITH n AS (SELECT generate_series(1, 1000) AS n), texts AS (
    INSERT INTO bindu_dspy.prompts (agent_id, id, prompt_text, content_hash, status, origin, created_at)
    SELECT 'default', n + 1, n || '.', sha256(convert_to(n || '.', 'UTF8')), 'rolled_back', 'simba', now() FROM n
), experiments AS (
    INSERT INTO bindu_dspy.experiments
        (agent_id, id, active_id, candidate_id, policy, state, outcome, epoch, started_at, ended_at)
    SELECT 'default', n, 1, n + 1, '{}', 'ended', 'inconclusive', 0, now(), now() FROM n
), runs AS (
    INSERT INTO bindu_dspy.training_runs (agent_id, id, optimizer, strategy, seed, state, outcome, calls, experiment_id,
        details, started_at, ended_at)
    SELECT 'default', gen_random_uuid(), 'simba', 'last_turn', 0, 'ended',
        CASE WHEN n % 10 = 0 THEN 'improved' ELSE 'unchanged' END, 0, CASE WHEN n % 10 = 0 THEN n END,
        '{"gate": {"gain": 0.5}}', now(), now()
    FROM n
)
INSERT INTO bindu_dspy.decisions (agent_id, id, experiment_id, "window", verdict, share_before, share_after, reason,
    inputs, evidence, rule, rule_version, code_version, actor, at)
SELECT 'default', 100 * n + w, n, w, 'hold', 0.1, 0.1, '', '{}', '{"estimate": 0.25}', 'evidence', 1, '', '', now()
FROM n CROSS JOIN generate_series(0, 99) AS w
"""


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
async def test_the_gates_record_reads_one_run_and_one_decision_per_experiment_however_long_the_history_is(
    storage: PostgresStorage, postgres_url: str, analyzed: bool
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    await execute(postgres_url, HISTORY, *(["ANALYZE"] if analyzed else []))
    assert len(await storage.gate_record(AGENT, limit=5)) == 5
    plan = await plan_of(postgres_url, "gate_record", {"agent_id": AGENT, "limit": 5}, sorting=False)
    assert rows_read(plan, "decisions") == 5
    assert rows_read(plan) <= 60
