"""Windows are closed with the decision taken on them: in order, once, all of it or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bindu.dspy.errors import BinduError, StaleRolloutError, StorageUnavailableError
from bindu.dspy.models import Experiment
from bindu.dspy.storage import Storage
from bindu.dspy.units import BarredText, Closing, CountedUnit, ShareChange
from conftest import everything
from faults import Event, Manner, Moment, break_writes, mend_writes
from samples import AGENT, a_rollout, a_task, a_vote, open_trial

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ONE = datetime(2026, 6, 1, 13, tzinfo=UTC)


def counted(unit_id: str, window: int = 1, **fields: Any) -> CountedUnit:
    given = {"arm": "active", "epoch": 0, "kind": "rating", "rater_id": "ann", "rated_at": NOON, "score": 0.75}
    return CountedUnit(**{"unit_id": unit_id, "window": window, **given, **fields})


async def on_trial(storage: Storage, *unit_ids: str) -> Experiment:
    """A trial whose units asked at noon and were rated by ann an hour later."""
    experiment = await open_trial(storage)
    tasks = [
        a_task(experiment_id=experiment.id, unit_id=unit_id, created_at=NOON, latency_ms=5.0) for unit_id in unit_ids
    ]
    await storage.add_tasks(tasks)
    await storage.add_feedback([a_vote(task.id, rater_id="ann", created_at=ONE) for task in tasks])
    return experiment


async def test_a_closed_window_leaves_its_evidence_its_units_and_its_decision(storage: Storage) -> None:
    experiment = await on_trial(storage, "ann", "bob", "cem")
    assert await storage.evidence(AGENT, experiment.id) is None
    closing = Closing(
        window=3,
        evidence={"window": 3, "harm": [0.1, -2.5e-17]},
        firsts=(("cem", 2), ("bob", 1), ("ann", 2)),
        counted=(
            counted("bob", 3, rater_id="dan", rated_at=NOON, kind="thumbs_up", score=1.0),
            counted("ann", 2, score=None),
            counted("never seen", 2),
        ),
    )
    decision = await storage.apply(await a_rollout(storage), closing=closing)
    assert decision.closed_window == 3
    assert decision == await storage.decision(AGENT, decision.id)
    assert await storage.evidence(AGENT, experiment.id) == {"window": 3, "harm": [0.1, -2.5e-17]}
    firsts = await storage.first_requests(AGENT, experiment.id)
    assert [(unit.window, unit.unit_id, unit.latency_ms) for unit in firsts] == [
        (1, "bob", 5.0),
        (2, "ann", 5.0),
        (2, "cem", 5.0),
    ]
    assert await storage.counted_units(AGENT, experiment.id) == [
        counted("ann", 2, score=None),
        counted("bob", 3, rater_id="dan", rated_at=NOON, kind="thumbs_up", score=1.0),
    ]
    left = await storage.arrivals(AGENT, experiment.id, until=ONE)
    assert (left.firsts, [unit.unit_id for unit in left.rated]) == ((), ["cem"])


async def test_a_decision_without_closing_leaves_the_evidence_as_it_is(storage: Storage) -> None:
    experiment = await on_trial(storage)
    await storage.apply(await a_rollout(storage), closing=Closing(window=1, evidence={"window": 1}))
    decision = await storage.apply(await a_rollout(storage, verdict="step_up", share_after=0.2))
    assert decision.closed_window is None
    assert await storage.evidence(AGENT, experiment.id) == {"window": 1}
    closed = [decision.closed_window for decision in await storage.decisions(AGENT)]
    assert closed == [None, 1, None]


async def test_windows_are_closed_in_order_and_gaps_are_allowed(storage: Storage, postgres_url: str) -> None:
    await on_trial(storage, "ann")
    for window in (2, 7):
        await storage.apply(await a_rollout(storage), closing=Closing(window=window, evidence={}))
    before = await everything(postgres_url)
    for window in (1, 2, 7):
        closing = Closing(window=window, evidence={"late": True}, firsts=(("ann", window),))
        with pytest.raises(StaleRolloutError):
            await storage.apply(await a_rollout(storage), closing=closing)
    assert await everything(postgres_url) == before


async def test_what_one_window_has_counted_no_later_one_changes(storage: Storage, postgres_url: str) -> None:
    await on_trial(storage, "ann")
    first = Closing(window=1, evidence={}, firsts=(("ann", 1),), counted=(counted("ann"),))
    await storage.apply(await a_rollout(storage), closing=first)
    before = (await everything(postgres_url))["units"]
    again = Closing(window=2, evidence={}, firsts=(("ann", 2),), counted=(counted("ann", 2, score=0.0),))
    await storage.apply(await a_rollout(storage), closing=again)
    assert (await everything(postgres_url))["units"] == before


async def test_a_window_of_another_experiment_and_agent_touches_nothing_of_this_one(
    storage: Storage, postgres_url: str
) -> None:
    other = await open_trial(storage, "another")
    task = a_task(agent_id="another", experiment_id=other.id, unit_id="ann", created_at=NOON)
    await storage.add_tasks([task])
    await storage.add_feedback([a_vote(task.id, agent_id="another", created_at=ONE)])
    theirs = [unit for unit in (await everything(postgres_url))["units"] if unit["agent_id"] == "another"]
    await on_trial(storage, "ann")
    closing = Closing(window=1, evidence={"window": 1}, firsts=(("ann", 1),), counted=(counted("ann"),))
    await storage.apply(await a_rollout(storage), closing=closing)
    units = (await everything(postgres_url))["units"]
    assert [unit for unit in units if unit["agent_id"] == "another"] == theirs
    assert await storage.evidence("another", other.id) is None


async def test_of_eight_controllers_that_close_a_window_one_does(storage: Storage) -> None:
    experiment = await on_trial(storage, *(f"unit {number}" for number in range(20)))
    rollout = await a_rollout(storage, verdict="step_up", share_after=0.2)

    async def close(number: int) -> int:
        units = tuple(counted(f"unit {place}", score=number / 8) for place in range(20))
        firsts = tuple((unit.unit_id, 1) for unit in units)
        mine = Closing(window=1, evidence={"by": number}, firsts=firsts, counted=units)
        await storage.apply(replace(rollout, actor=str(number)), closing=mine)
        return number

    results = await asyncio.gather(*(close(number) for number in range(8)), return_exceptions=True)
    [winner] = [result for result in results if isinstance(result, int)]
    assert sum(isinstance(result, StaleRolloutError) for result in results) == 7
    assert await storage.evidence(AGENT, experiment.id) == {"by": winner}
    assert {unit.score for unit in await storage.counted_units(AGENT, experiment.id)} == {winner / 8}
    [decision, _] = await storage.decisions(AGENT)
    assert (decision.actor, decision.closed_window) == (str(winner), 1)


WRITES_OF_A_CLOSING: list[tuple[str, Event]] = [
    ("experiments", "UPDATE"),
    ("units", "UPDATE"),
    ("serving", "UPDATE"),
    ("decisions", "INSERT"),
]
MOMENTS: list[Moment] = ["before", "after", "commit"]
MANNERS: list[Manner] = ["terminate", "refuse"]


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("write", WRITES_OF_A_CLOSING)
async def test_a_closing_killed_at_any_statement_leaves_nothing_half_written(
    storage: Storage, postgres_url: str, write: tuple[str, Event], moment: Moment, manner: Manner
) -> None:
    experiment = await on_trial(storage, "ann", "bob")
    rollout = await a_rollout(storage, verdict="promote", share_after=1.0, outcome="promoted")
    closing = Closing(window=1, evidence={"n": 1}, firsts=(("bob", 1),), counted=(counted("ann"),))
    before = await everything(postgres_url)
    await break_writes(postgres_url, write, moment=moment, manner=manner)
    with pytest.raises(StorageUnavailableError if manner == "terminate" else BinduError):
        await storage.apply(rollout, closing=closing)
    assert await everything(postgres_url) == before
    await mend_writes(postgres_url)
    await storage.apply(rollout, closing=closing)
    assert await storage.evidence(AGENT, experiment.id) == {"n": 1}
    assert [unit.unit_id for unit in await storage.counted_units(AGENT, experiment.id)] == ["ann"]


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_vote_killed_while_it_rates_its_unit_is_not_stored(
    storage: Storage, postgres_url: str, moment: Moment, manner: Manner
) -> None:
    experiment = await open_trial(storage)
    [task] = await storage.add_tasks([a_task(experiment_id=experiment.id, unit_id="ann", created_at=NOON)])
    vote = a_vote(task, created_at=ONE)
    await break_writes(postgres_url, ("units", "UPDATE"), moment=moment, manner=manner)
    with pytest.raises(StorageUnavailableError if manner == "terminate" else BinduError):
        await storage.add_feedback([vote])
    await mend_writes(postgres_url)
    assert (await storage.prompt_metrics(AGENT, [1]))[1].num_rated == 0
    assert (await storage.arrivals(AGENT, experiment.id, until=ONE)).rated == ()
    await storage.add_feedback([vote])
    assert len((await storage.arrivals(AGENT, experiment.id, until=ONE)).rated) == 1


async def test_a_pause_holds_until_it_is_taken_back(storage: Storage) -> None:
    experiment = await on_trial(storage)

    async def paused() -> bool:
        found = await storage.experiment(AGENT, experiment.id)
        assert found is not None
        assert found == (await storage.experiments(AGENT))[0]
        return found.paused

    assert not await paused()
    await storage.apply(await a_rollout(storage, verdict="pause", paused=True))
    assert await paused()
    await storage.apply(await a_rollout(storage, verdict="hold"))
    assert await paused()
    await storage.apply(await a_rollout(storage, verdict="resume", paused=False))
    assert not await paused()
    verdicts = [decision.verdict for decision in await storage.decisions(AGENT)]
    assert verdicts == ["resume", "hold", "pause", "open"]


async def test_a_decision_of_another_share_than_the_present_one_is_stale(storage: Storage, postgres_url: str) -> None:
    await on_trial(storage)
    before = await everything(postgres_url)
    with pytest.raises(StaleRolloutError):
        await storage.apply(await a_rollout(storage, share_before=0.3, share_after=0.4))
    assert await everything(postgres_url) == before


shares = st.lists(st.sampled_from([0.1, 0.2, 0.3, 1.0]), max_size=8)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=shares, outcome=st.sampled_from(["promoted", "inconclusive", None]))
async def test_share_changes_count_the_epochs_as_serving_does(
    storage: Storage, moves: list[float], outcome: str | None
) -> None:
    agent_id = f"agent {await storage.now()}"
    experiment = await open_trial(storage, agent_id)
    serving = await storage.serving(agent_id)
    assert serving is not None
    expected = {serving.epoch: serving.share}
    for share in moves:
        await storage.apply(await a_rollout(storage, agent_id, share_after=share))
        serving = await storage.serving(agent_id)
        assert serving is not None
        expected[serving.epoch] = serving.share
    if outcome is not None:
        last = 1.0 if outcome == "promoted" else 0.0
        await storage.apply(await a_rollout(storage, agent_id, share_after=last, outcome=outcome))
        ended = await storage.experiment(agent_id, experiment.id)
        assert ended is not None
        expected[ended.epoch] = last
    log = {decision.id: decision for decision in await storage.decisions(agent_id)}
    changes = await storage.share_changes(agent_id, experiment.id)
    assert {change.epoch: change.share for change in changes} == expected
    moved = [one for _, one in sorted(log.items()) if one.share_before != one.share_after]
    assert changes == [ShareChange(epoch=epoch, share=one.share_after, at=one.at) for epoch, one in enumerate(moved)]


async def test_texts_that_ended_unpromoted_are_barred_newest_first(storage: Storage) -> None:
    endings: list[tuple[str, Callable[[float], float]]] = [
        ("rolled_back", lambda _: 0.0),
        ("promoted", lambda _: 1.0),
        ("inconclusive", lambda _: 0.0),
    ]
    for number, (outcome, share) in enumerate(endings):
        await open_trial(storage, text=f"Be kind, says {number}.")
        await storage.apply(await a_rollout(storage, share_after=share(0.1), outcome=outcome))
    await open_trial(storage, text="Be kind, on trial.")
    await open_trial(storage, "another", text="Be kind, elsewhere.")
    newest = BarredText(prompt_id=4, text="Be kind, says 2.", experiment_id=3, outcome="inconclusive")
    oldest = BarredText(prompt_id=2, text="Be kind, says 0.", experiment_id=1, outcome="rolled_back")
    assert await storage.barred_texts(AGENT) == [newest, oldest]
    await storage.set_retired_status(AGENT, newest.prompt_id, "deprecated")
    assert await storage.barred_texts(AGENT) == [oldest]
    await storage.set_retired_status(AGENT, newest.prompt_id, "rolled_back")
    assert await storage.barred_texts(AGENT) == [newest, oldest]


async def test_what_bars_nothing_takes_no_place_among_the_barred_texts(
    storage: Storage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bindu.dspy.postgres.units._MOST_TEXTS", 2)
    for number, origin in enumerate(["manual", "simba", "simba", "champion", "simba"]):
        experiment = await open_trial(storage, text=f"Be kind, says {number}.", origin=origin)
        await storage.apply(await a_rollout(storage, share_after=0.0, outcome="rolled_back"))
    await storage.set_retired_status(AGENT, experiment.candidate_id, "deprecated")
    assert [barred.text for barred in await storage.barred_texts(AGENT)] == ["Be kind, says 2.", "Be kind, says 1."]


numbers = st.floats(-1e12, 1e12, allow_nan=False)
states = st.recursive(
    st.one_of(numbers, st.integers(-(2**53), 2**53), st.none(), st.booleans(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=st.dictionaries(st.sampled_from(["harm", "band", "spreads"]), states, max_size=3))
async def test_evidence_comes_back_bit_for_bit(storage: Storage, state: dict[str, Any]) -> None:
    agent_id = f"agent {await storage.now()}"
    experiment = await open_trial(storage, agent_id)
    clean = replaced(state)
    decision = await storage.apply(
        await a_rollout(storage, agent_id, inputs=state), closing=Closing(window=1, evidence=state)
    )
    assert await storage.evidence(agent_id, experiment.id) == clean
    assert decision.inputs == clean


def replaced(value: Any) -> Any:
    """What no database stores, replaced as everywhere."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case list():
            return [replaced(item) for item in value]
        case dict():
            return {replaced(key): replaced(item) for key, item in value.items()}
        case _:
            return value
