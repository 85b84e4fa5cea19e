"""Units of an experiment: how their first request went, when they were rated, and what arrived since the last look."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.errors import BinduError, NoActivePromptError
from bindu.dspy.models import Experiment, Task
from bindu.dspy.postgres.partitions import first_id
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import Storage
from bindu.dspy.units import Arrivals, Baseline, Closing, CountedUnit, FirstRequest
from conftest import execute, fetch, value
from plans import plan_of, rows_read
from samples import AGENT, a_rollout, a_task, a_vote, open_trial

START = datetime(2026, 6, 1, tzinfo=UTC)
LONG_AFTER = START + timedelta(days=60)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def during(experiment: Experiment, unit_id: str, minutes: float = 0, **fields: Any) -> Task:
    """A task of a unit, by the active prompt unless the fields say otherwise."""
    given = {"prompt_id": experiment.active_id, "experiment_id": experiment.id, "created_at": at(minutes)}
    return a_task(**{"agent_id": experiment.agent_id, **given, "unit_id": unit_id, **fields})


async def arrived(storage: Storage, experiment: Experiment, until: datetime = LONG_AFTER) -> Arrivals:
    return await storage.arrivals(experiment.agent_id, experiment.id, until=until)


async def rated(storage: Storage, experiment: Experiment) -> dict[str, datetime]:
    return {unit.unit_id: unit.rated_at for unit in (await arrived(storage, experiment)).rated}


def as_counted(arrivals: Arrivals, window: int, scores: dict[str, float | None] | None = None) -> list[CountedUnit]:
    """Every rated unit, counted with the score and the kind of its first vote unless told otherwise."""
    return [
        CountedUnit(
            unit_id=unit.unit_id,
            arm=unit.arm,
            epoch=unit.epoch,
            window=window,
            kind=unit.votes[0].kind,
            rater_id=unit.votes[0].rater_id,
            rated_at=unit.rated_at,
            score=(scores or {}).get(unit.unit_id, unit.votes[0].score),
        )
        for unit in arrivals.rated
    ]


async def close(
    storage: Storage, experiment: Experiment, window: int, scores: dict[str, float | None] | None = None
) -> None:
    """Take in and count all that is there."""
    arrivals = await arrived(storage, experiment)
    closing = Closing(
        window=window,
        evidence={"window": window},
        firsts=tuple((first.unit_id, window) for first in arrivals.firsts),
        judged={first.unit_id: first.judged for first in arrivals.firsts if first.judged is not None},
        counted=tuple(as_counted(arrivals, window, scores)),
    )
    await storage.apply(await a_rollout(storage, experiment.agent_id), closing=closing)


async def stored_units(url: str) -> dict[str, asyncpg.Record]:
    return {unit["unit_id"]: unit for unit in await fetch(url, "SELECT * FROM bindu_dspy.units ORDER BY unit_id")}


async def test_a_unit_keeps_how_its_first_request_went(storage: Storage) -> None:
    experiment = await open_trial(storage)
    bad = {"state": "failed", "latency_ms": 1200.0, "usage": {"cost": 0.25, "finish_reason": "content_filter"}}
    await storage.add_tasks([during(experiment, "ann", 1, prompt_id=2, **bad), during(experiment, "ann", 2)])
    await storage.add_tasks([during(experiment, "ann", 0, latency_ms=1.0), during(experiment, "bob", 3)])
    found = await arrived(storage, experiment)
    ann = FirstRequest(
        unit_id="ann",
        arm="candidate",
        epoch=0,
        first_at=at(1),
        failed=True,
        refused=True,
        latency_ms=1200.0,
        cost=0.25,
    )
    assert found.firsts == (ann, FirstRequest(unit_id="bob", arm="active", epoch=0, first_at=at(3)))
    assert (found.rated, found.last_counted) == ((), {})


async def test_a_refused_answer_without_content_is_recorded_and_known(storage: Storage) -> None:
    experiment = await open_trial(storage)
    history = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": None, "refusal": "I cannot."}]
    served = {"id": 2, "agent_id": AGENT, "experiment_id": experiment.id, "epoch": 0, "unit_id": "ann"}
    task_id = await record_task(history, prompt=served, usage={"total_tokens": 31})
    await record_feedback(task_id, {"thumbs_up": False}, rater_id="ann")
    found = await storage.arrivals(AGENT, experiment.id, until=await storage.now())
    [first], [unit] = found.firsts, found.rated
    assert (first.refused, first.failed, first.cost, first.arm) == (True, False, 31.0, "candidate")
    assert [(vote.task_id, vote.rater_id, vote.kind, vote.score) for vote in unit.votes] == [
        (task_id, "ann", "thumbs_up", 0.0)
    ]


async def test_a_unit_is_rated_when_its_earliest_vote_was_given_whatever_order_they_arrive_in(
    storage: Storage, postgres_url: str
) -> None:
    experiment = await open_trial(storage)
    first, second = await storage.add_tasks([during(experiment, "ann"), during(experiment, "ann", 1)])
    await storage.add_feedback([a_vote(second, 0.8, rater_id="bob", created_at=at(30))])
    late = [a_vote(first, 0.2, rater_id="cem", created_at=at(20)), a_vote(first, 0.4, rater_id="dan", created_at=at(9))]
    await storage.add_feedback(late)
    await storage.add_feedback([a_vote(first, 1.0, rater_id="eve", created_at=at(40))])
    [unit] = (await arrived(storage, experiment)).rated
    assert (unit.rated_at, unit.arm, unit.epoch, unit.first_at) == (at(9), "active", 0, at(0))
    assert [(vote.at, vote.rater_id, vote.score) for vote in unit.votes] == [
        (at(9), "dan", 0.4),
        (at(20), "cem", 0.2),
        (at(30), "bob", 0.8),
        (at(40), "eve", 1.0),
    ]
    stored = (await stored_units(postgres_url))["ann"]
    assert (stored["rated_at"], stored["rater_id"]) == (at(9), "dan")


async def test_superseded_votes_are_among_the_votes_of_a_unit(storage: Storage) -> None:
    experiment = await open_trial(storage)
    [task] = await storage.add_tasks([during(experiment, "ann")])
    for minutes, score in ((5, 1.0), (7, 0.0), (6, 0.5)):
        await storage.add_feedback([a_vote(task, score, rater_id="ann", created_at=at(minutes))])
    [unit] = (await arrived(storage, experiment)).rated
    assert [(vote.at, vote.score) for vote in unit.votes] == [(at(5), 1.0), (at(6), 0.5), (at(7), 0.0)]


async def test_a_vote_touches_only_the_unit_of_its_tasks_own_experiment(storage: Storage) -> None:
    first = await open_trial(storage)
    inside = during(first, "ann")
    await storage.add_tasks([inside, during(first, "bob"), a_task(unit_id="bob", created_at=at(0))])
    await storage.apply(await a_rollout(storage, verdict="roll_back", share_after=0.0, outcome="rolled_back"))
    second = await open_trial(storage, text="Be kindest.")
    outside = a_task(unit_id="ann", created_at=at(1))
    again = during(second, "ann", 2)
    await storage.add_tasks([outside, again])
    await storage.add_feedback([a_vote(outside.id, created_at=at(3))])
    assert (await rated(storage, first), await rated(storage, second)) == ({}, {})
    await storage.add_feedback([a_vote(again.id, created_at=at(4))])
    assert (await rated(storage, first), await rated(storage, second)) == ({}, {"ann": at(4)})
    await storage.add_feedback([a_vote(inside.id, created_at=at(5))])  # the experiment is over; its record goes on
    assert (await rated(storage, first), await rated(storage, second)) == ({"ann": at(5)}, {"ann": at(4)})


async def test_nothing_after_until_has_arrived_yet(storage: Storage) -> None:
    experiment = await open_trial(storage)
    early, late = during(experiment, "early", 1), during(experiment, "late", 50)
    await storage.add_tasks([late, early])
    votes = [a_vote(early.id, 0.2, created_at=at(30)), a_vote(early.id, 0.4, rater_id="b", created_at=at(70))]
    backdated = a_vote(late.id, created_at=at(10))  # by a clock that is behind: not before the unit was there
    await storage.add_feedback([*votes, backdated])
    none = await arrived(storage, experiment, at(0.5))
    assert (none.firsts, none.rated) == ((), ())
    one = await arrived(storage, experiment, at(29))
    assert ([first.unit_id for first in one.firsts], one.rated) == (["early"], ())
    two = await arrived(storage, experiment, at(30))
    assert [unit.unit_id for unit in two.rated] == ["early"]
    assert len(two.rated[0].votes) == 2  # those of later windows are the reader's to leave out
    all_of_it = await arrived(storage, experiment, at(50))
    assert [first.unit_id for first in all_of_it.firsts] == ["early", "late"]
    assert [unit.unit_id for unit in all_of_it.rated] == ["late", "early"]


async def test_a_vote_that_comes_in_late_for_an_uncounted_unit_is_in_the_next_arrivals(storage: Storage) -> None:
    experiment = await open_trial(storage)
    tasks = [during(experiment, "ann", 1), during(experiment, "bob", 2)]
    await storage.add_tasks(tasks)
    await storage.add_feedback([a_vote(tasks[0].id, created_at=at(3))])
    await close(storage, experiment, 1)
    assert await arrived(storage, experiment) == Arrivals()
    await storage.add_feedback([a_vote(tasks[1].id, 0.6, created_at=at(2.5))])  # before that window's end
    found = await arrived(storage, experiment)
    assert (found.firsts, [unit.unit_id for unit in found.rated]) == ((), ["bob"])


async def test_votes_after_a_unit_was_counted_change_nothing_of_it_and_are_among_its_votes(
    storage: Storage, postgres_url: str
) -> None:
    experiment = await open_trial(storage)
    ids = await storage.add_tasks([during(experiment, name) for name in ("ann", "bob", "cem", "dan")])
    await storage.add_feedback([a_vote(task, 0.8, rater_id="r", created_at=at(5)) for task in ids])
    uncounted = during(experiment, "eve")
    await close(storage, experiment, 1, {"dan": None})
    await storage.add_tasks([uncounted])
    await storage.add_feedback([a_vote(uncounted.id, rater_id="r", created_at=at(6))])
    first = {name: [(at(5), "r", 0.8)] for name in ("ann", "bob", "cem", "dan")}
    assert await votes_of(storage, experiment) == first
    before = await stored_units(postgres_url)
    await storage.add_feedback([a_vote(ids[0], 0.2, rater_id="r", created_at=at(9))])  # changes it
    await storage.add_feedback([a_vote(ids[1], 0.8, rater_id="late", created_at=at(1))])  # agrees with it
    await storage.add_feedback([a_vote(ids[3], 0.2, rater_id="r", created_at=at(9))])  # of a unit without a score
    changed = {
        "ann": [(at(5), "r", 0.8), (at(9), "r", 0.2)],
        "bob": [(at(1), "late", 0.8), (at(5), "r", 0.8)],
        "dan": [(at(5), "r", 0.8), (at(9), "r", 0.2)],
    }
    assert await votes_of(storage, experiment) == first | changed
    await execute(postgres_url, f"DELETE FROM bindu_dspy.task_feedback WHERE task_id = '{ids[2]}'")
    assert await votes_of(storage, experiment) == changed
    after = await stored_units(postgres_url)
    assert {name: after[name] for name in before} == before
    assert [unit.unit_id for unit in (await arrived(storage, experiment)).rated] == ["eve"]


async def votes_of(storage: Storage, experiment: Experiment) -> dict[str, list[tuple[datetime, str, float]]]:
    found = await storage.counted_votes(experiment.agent_id, experiment.id)
    return {unit_id: [(vote.at, vote.rater_id, vote.score) for vote in votes] for unit_id, votes in found.items()}


async def test_a_unit_that_both_prompts_served_in_an_experiment_has_crossed(storage: Storage) -> None:
    experiment = await open_trial(storage)
    third = await storage.add_prompt(AGENT, "Be brief.", "deprecated")
    served = {"ann": (1, 1, 2), "bob": (2, 1, 1), "cem": (1, 1), "dan": (2, 2), "eve": (1, third.id)}
    for name, prompt_ids in served.items():
        await storage.add_tasks([during(experiment, name, prompt_id=prompt_id) for prompt_id in prompt_ids])
    elsewhere = {"agent_id": "other", "text": "Be kinder."}
    other = await open_trial(storage, **elsewhere)
    assert (other.active_id, other.candidate_id, other.id) == (1, 2, 1)
    await storage.add_tasks([during(other, name, prompt_id=1) for name in ("dan", "cem")])
    await storage.add_tasks([a_task(unit_id="cem", prompt_id=2), a_task(unit_id="dan", prompt_id=1)])  # on no trial
    assert await storage.crossed_units(AGENT, experiment.id) == 2
    assert await storage.crossed_units("other", other.id) == 0
    await storage.apply(await a_rollout(storage, verdict="promote", share_after=1.0, outcome="promoted"))
    again = await open_trial(storage, text="Be kindest.")
    await storage.add_tasks([during(again, "ann", prompt_id=again.active_id)])  # the first trial's candidate
    assert [await storage.crossed_units(AGENT, number) for number in (experiment.id, again.id)] == [2, 0]


async def test_a_unit_whose_votes_were_deleted_is_rated_by_those_that_are_left(
    storage: Storage, postgres_url: str
) -> None:
    experiment = await open_trial(storage)
    ids = await storage.add_tasks([during(experiment, "ann"), during(experiment, "bob")])
    gone = [a_vote(ids[0], rater_id="x", created_at=at(5)), a_vote(ids[1], rater_id="x", created_at=at(6))]
    await storage.add_feedback([*gone, a_vote(ids[1], 0.2, rater_id="y", created_at=at(8))])
    await execute(postgres_url, "DELETE FROM bindu_dspy.task_feedback WHERE rater_id = 'x'")
    assert (await arrived(storage, experiment, at(7))).rated == ()
    [unit] = (await arrived(storage, experiment, at(8))).rated
    assert (unit.unit_id, unit.rated_at, [vote.rater_id for vote in unit.votes]) == ("bob", at(8), ["y"])
    await storage.add_feedback([a_vote(ids[0], 0.4, rater_id="z", created_at=at(9))])
    assert await rated(storage, experiment) == {"bob": at(8), "ann": at(9)}


async def test_the_latest_counted_unit_of_a_rater_is_named_only_to_those_who_rate_again(storage: Storage) -> None:
    experiment = await open_trial(storage)
    names = ["a1", "a2", "b1", "none", "unscored"]
    ids = dict(zip(names, await storage.add_tasks([during(experiment, name) for name in names]), strict=True))
    raters = {"a1": "ann", "a2": "ann", "b1": "bob", "none": "", "unscored": "cem"}
    await storage.add_feedback(
        [a_vote(ids[name], rater_id=raters[name], created_at=at(10 + place)) for place, name in enumerate(names)]
    )
    await close(storage, experiment, 1, {"unscored": None})
    assert (await arrived(storage, experiment)).last_counted == {}
    again = await storage.add_tasks([during(experiment, f"again {rater}", 30) for rater in raters.values()])
    voters = ["ann", "dan", "", "cem"]
    await storage.add_feedback(
        [a_vote(task, rater_id=rater, created_at=at(40)) for task, rater in zip(again, voters, strict=False)]
    )
    assert (await arrived(storage, experiment)).last_counted == {"ann": at(11)}


async def test_a_judges_score_is_stored_until_a_window_has_taken_the_unit_in(storage: Storage) -> None:
    experiment = await open_trial(storage)
    await storage.add_tasks([during(experiment, "ann"), during(experiment, "bob")])
    await storage.set_judged(AGENT, experiment.id, {"ann": 0.25, "unknown": 1.0})
    await storage.set_judged(AGENT, experiment.id, {})
    assert [first.judged for first in (await arrived(storage, experiment)).firsts] == [0.25, None]
    await close(storage, experiment, 1)
    await storage.set_judged(AGENT, experiment.id, {"ann": 0.5, "bob": 0.5})
    assert [first.judged for first in await storage.first_requests(AGENT, experiment.id)] == [0.25, None]
    for wrong in (-0.1, 1.1, float("nan")):
        await storage.add_tasks([during(experiment, "cem")])
        with pytest.raises(BinduError):
            await storage.set_judged(AGENT, experiment.id, {"cem": wrong})


async def test_an_experiment_that_never_was_has_nothing(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    for number in (7, 0, -1):
        assert await storage.arrivals(AGENT, number, until=LONG_AFTER) == Arrivals()
        assert await storage.evidence(AGENT, number) is None
        assert await storage.share_changes(AGENT, number) == []
        assert await storage.first_requests(AGENT, number) == []
        assert await storage.counted_units(AGENT, number) == []
        assert await storage.counted_votes(AGENT, number) == {}
        assert await storage.crossed_units(AGENT, number) == 0
        assert await storage.band(AGENT, number, limit=9) == []
        await storage.set_judged(AGENT, number, {"ann": 1.0})
    for number in (7, 0, -1, 2**40):
        assert await storage.decision(AGENT, number) is None
    assert await storage.barred_texts(AGENT) == []


async def test_writers_in_any_order_and_closing_windows_do_not_deadlock(storage: Storage, postgres_url: str) -> None:
    experiment = await open_trial(storage)
    names = [f"unit {number}" for number in range(40)]

    async def vote(number: int) -> None:
        order = names if number % 2 else names[::-1]
        tasks = [during(experiment, name, number) for name in order]
        await storage.add_tasks(tasks)
        await storage.add_feedback(
            [a_vote(task.id, rater_id=str(number), created_at=at(20 - number)) for task in tasks]
        )

    async def close_some() -> None:
        for window in range(1, 6):
            await close(storage, experiment, window)

    await asyncio.gather(*(vote(number) for number in range(12)), close_some())
    await close(storage, experiment, 6)
    counted = await storage.counted_units(AGENT, experiment.id)
    assert sorted(unit.unit_id for unit in counted) == sorted(names)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await value(postgres_url, deadlocks) == 0


async def test_a_closing_and_votes_that_name_the_same_units_in_other_orders_do_not_deadlock(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bindu.dspy.postgres.database._RETRIES", 0)  # the first deadlock is an error
    experiment = await open_trial(storage)
    tasks = [during(experiment, f"unit {number:03}") for number in range(400)]
    await storage.add_tasks(tasks)

    async def close_in_reverse() -> None:
        for window in range(1, 9):
            firsts = tuple((str(task.unit_id), window) for task in reversed(tasks))
            closing = Closing(window=window, evidence={}, firsts=firsts)
            await storage.apply(await a_rollout(storage), closing=closing)

    async def vote(rater: str) -> None:
        for minutes in range(8, 0, -1):
            await storage.add_feedback([a_vote(task.id, rater_id=rater, created_at=at(minutes)) for task in tasks])

    await asyncio.gather(close_in_reverse(), vote("ann"), vote("bob"))
    assert await rated(storage, experiment) == {str(task.unit_id): at(1) for task in tasks}


events = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 4), st.integers(0, 50)),
        st.tuples(st.just("vote"), st.integers(0, 9), st.integers(0, 50)),
        st.tuples(st.just("look"), st.integers(0, 60), st.booleans()),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=events)
async def test_whatever_comes_in_whatever_order_every_unit_arrives_once_and_is_counted_once(
    storage: Storage, sequence: Sequence[tuple[str, int, int]]
) -> None:
    experiment = await open_trial(storage, str(uuid7()))
    agent_id = experiment.agent_id
    first_at: dict[str, datetime] = {}
    votes: dict[str, list[tuple[datetime, UUID]]] = {}
    tasks: list[Task] = []
    taken: set[str] = set()
    counted: set[str] = set()
    window = 0
    for kind, what, minutes in [*sequence, ("look", 60, 1)]:
        if kind == "ask":
            tasks.append(during(experiment, f"unit {what}", minutes))
            await storage.add_tasks(tasks[-1:])
            first_at.setdefault(f"unit {what}", at(minutes))
        elif kind == "vote" and tasks:
            task = tasks[what % len(tasks)]
            vote = a_vote(task.id, agent_id=agent_id, rater_id=str(len(votes)), created_at=at(minutes))
            await storage.add_feedback([vote])
            votes.setdefault(str(task.unit_id), []).append((at(minutes), vote.id))
        elif kind == "look":
            until = at(what)
            found = await storage.arrivals(agent_id, experiment.id, until=until)
            expected = {name for name, when in first_at.items() if when <= until} - taken
            assert {first.unit_id: first.first_at for first in found.firsts} == {x: first_at[x] for x in expected}
            rated_at = {name: min(cast)[0] for name, cast in votes.items() if name not in counted}
            due = {name: when for name, when in rated_at.items() if when <= until and first_at[name] <= until}
            assert {unit.unit_id: unit.rated_at for unit in found.rated} == due
            for unit in found.rated:
                assert [vote.at for vote in unit.votes] == [when for when, _ in sorted(votes[unit.unit_id])]
            if minutes:
                window += 1
                firsts = tuple((first.unit_id, window) for first in found.firsts)
                closing = Closing(window=window, evidence={}, firsts=firsts, counted=tuple(as_counted(found, window)))
                await storage.apply(await a_rollout(storage, agent_id), closing=closing)
                taken |= expected
                counted |= set(due)
    assert {unit.unit_id for unit in await storage.first_requests(agent_id, experiment.id)} == taken
    assert {unit.unit_id for unit in await storage.counted_units(agent_id, experiment.id)} == counted


async def test_the_baseline_is_of_the_past_week_and_the_active_prompt(storage: Storage) -> None:
    now = START + timedelta(days=8)
    for ask in (storage.baseline, storage.feedback_per_hour):
        with pytest.raises(NoActivePromptError):
            await ask(AGENT, now=now)
    await storage.bootstrap(AGENT, "Be kind.")
    assert await storage.baseline(AGENT, now=now) == Baseline(feedback_per_hour=0.0)
    old = a_task(created_at=START, latency_ms=9e9, usage={"cost": 9e9})
    other = await storage.add_prompt(AGENT, "Be brief.", "deprecated")
    others = [a_task(created_at=at(2 * 24 * 60), prompt_id=other.id, latency_ms=8e9, usage={"cost": 8e9})]
    fresh = [
        a_task(created_at=at(2 * 24 * 60 + number), latency_ms=float(number), usage={"total_tokens": number * 10})
        for number in range(1, 21)
    ]
    late = a_task(created_at=now + timedelta(hours=1), latency_ms=7e9)
    await storage.add_tasks([old, *others, *fresh, late, a_task(created_at=now)])
    votes = [a_vote(task.id, created_at=now - timedelta(hours=10 - number)) for number, task in enumerate(fresh[:5])]
    twice = a_vote(fresh[0].id, rater_id="again", created_at=now - timedelta(hours=2))
    ignored = [a_vote(old.id, created_at=now - timedelta(hours=3)), a_vote(fresh[9].id, created_at=now.replace(hour=1))]
    await storage.add_feedback([*votes, twice, *ignored])
    assert await storage.baseline(AGENT, now=now) == Baseline(feedback_per_hour=0.5, slow_ms=19.0, cost_cap=380.0)
    assert await storage.feedback_per_hour(AGENT, now=now) == 0.5


async def test_a_baseline_of_a_few_minutes_is_not_blown_up_to_an_hour(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    ids = await storage.add_tasks([a_task() for _ in range(6)])
    await storage.add_feedback([a_vote(task) for task in ids])
    assert await storage.baseline(AGENT) == Baseline(feedback_per_hour=6.0)
    assert await storage.feedback_per_hour(AGENT) == 6.0


HISTORY = """
WITH given AS (
    SELECT n, (lpad(to_hex(1780272000000 + n), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8'
        || substr(md5(n::text), 1, 15))::uuid AS id
    FROM generate_series(1, {votes}) AS n
), talks AS (
    INSERT INTO bindu_dspy.tasks
        (agent_id, id, prompt_id, experiment_id, epoch, unit_id, state, history, created_at)
    SELECT 'default', id, 1, 1, 0, 'old ' || n, 'completed', '[]', '2026-06-01' FROM given
)
INSERT INTO bindu_dspy.task_feedback
    (agent_id, task_id, id, prompt_id, experiment_id, unit_id, rater_id, kind, score, feedback_data, created_at)
SELECT 'default', id, id, 1, 1, 'old ' || n, 'rater ' || n % 500, 'rating', 1, '{{}}', '2026-06-01' FROM given
"""
COUNTED = """
INSERT INTO bindu_dspy.units
    (agent_id, experiment_id, unit_id, arm, epoch, first_at, failed, refused, first_window, rated_at, rater_id,
    counted_window, kind, score)
SELECT 'default', 1, 'old ' || n, 'active', 0, '2026-06-01', false, false, 1, '2026-06-01', 'rater ' || n % 500,
    1, 'rating', 1
FROM generate_series(1, {units}) AS n
"""


async def test_a_look_reads_and_writes_what_arrived_however_long_the_history_is(
    storage: PostgresStorage, postgres_url: str
) -> None:
    experiment = await open_trial(storage)
    await storage.add_tasks([during(experiment, "first")])  # makes the month
    await execute(postgres_url, HISTORY.format(votes=20_000), COUNTED.format(units=200_000))
    await close(storage, experiment, 1)
    tasks = [during(experiment, f"new {number}", number) for number in range(100)]
    await storage.add_tasks(tasks)
    votes = [a_vote(task.id, rater_id=f"rater {place}", created_at=at(place)) for place, task in enumerate(tasks[:60])]
    await storage.add_feedback([*votes, *(a_vote(task.id, rater_id="x", created_at=at(90)) for task in tasks[:60])])
    ids = [f"new {number}" for number in range(100)]
    given: dict[str, Any] = {"agent_id": AGENT, "experiment_id": experiment.id}
    rater = {"rated_ats": [at(0)] * 100, "rater_ids": ["y"] * 100}
    judged = {**given, "unit_ids": ids, "judged": [0.5] * 100}
    counted = {**rater, "counted_windows": [2] * 100, "kinds": ["rating"] * 100, "scores": [0.5] * 100}
    questions: list[tuple[str, dict[str, Any], int]] = [
        ("new_units", {**given, "until": LONG_AFTER}, 100),
        ("rated_units", {**given, "until": LONG_AFTER}, 60 + 120),
        ("last_counted", {**given, "rater_ids": [f"rater {place}" for place in range(60)]}, 60),
        ("rate_units", {"agent_id": AGENT, "experiment_ids": [1] * 100, "unit_ids": ids, **rater}, 100),
        ("first_answers", {**given, "unit_ids": ids}, 100 + 100),
        ("set_judged", judged, 100),
        ("close_units", {**judged, **counted, "first_windows": [2] * 100}, 100),
    ]
    for analyzed in (False, True):
        if analyzed:
            await execute(postgres_url, "VACUUM ANALYZE")
        for name, values, at_most in questions:
            read = rows_read(await plan_of(postgres_url, name, values))
            assert 60 <= read <= at_most, (name, analyzed)  # each is asked about sixty units, raters or votes at least


async def test_crossings_are_looked_for_in_no_task_twice_and_in_none_from_before_the_experiment(
    storage: PostgresStorage, postgres_url: str
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    await storage.add_tasks([a_task(created_at=START)])  # makes the month
    before = HISTORY.format(votes=20_000).replace("'default', id, 1, 1, 0,", "'default', id, 1, NULL, NULL,")
    await execute(postgres_url, before.replace("id, id, 1, 1, 'old", "id, id, 1, NULL, 'old"))
    experiment = await open_trial(storage)
    begun = 20 * 24 * 60
    tasks = [during(experiment, f"unit {number % 200}", begun + number) for number in range(600)]
    await storage.add_tasks([*tasks, during(experiment, "unit 7", begun + 999, prompt_id=experiment.candidate_id)])
    values = {"agent_id": AGENT, "experiment_id": experiment.id, "first_id": first_id(at(begun) - timedelta(days=1))}
    assert await storage.crossed_units(AGENT, experiment.id) == 1
    unplanned = await plan_of(postgres_url, "crossed_units", values)
    assert rows_read(unplanned, "tasks") <= 20_001 + 601  # without statistics nobody knows which index is the shorter
    assert 200 <= rows_read(unplanned, "units") <= 201
    await execute(postgres_url, "VACUUM ANALYZE")
    assert await storage.crossed_units(AGENT, experiment.id) == 1
    assert 200 <= rows_read(await plan_of(postgres_url, "crossed_units", values), "tasks") <= 601
