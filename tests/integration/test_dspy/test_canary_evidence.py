"""The evidence rule on a real database: what late, edited and deleted votes, odd clocks and odd users do to it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from math import log
from typing import Any, cast

import msgspec
import pytest

from bindu.dspy.canary.checking import check_experiment, explain_decision
from bindu.dspy.canary.controller import next_step, run_canary_controller, run_step, why_no_step
from bindu.dspy.canary.verbs import carry_out, ordered
from bindu.dspy.errors import InvalidArgumentError, NoExperimentError, StaleRolloutError, UnknownDecisionError
from bindu.dspy.evidence import Evidence
from bindu.dspy.models import Rollout
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import Storage, use_storage
from bindu.dspy.units import Arrivals, CountedUnit
from conftest import execute
from trials import START, RunningTrial, at, running_trial

SIX = {"window_hours": 6}


async def evidence_of(desk: RunningTrial) -> Evidence:
    stored = await desk.storage.evidence(desk.experiment.agent_id, desk.experiment.id)
    return msgspec.convert(stored or {}, Evidence)


async def counted(desk: RunningTrial) -> dict[str, CountedUnit]:
    units = await desk.storage.counted_units(desk.experiment.agent_id, desk.experiment.id)
    return {unit.unit_id: unit for unit in units}


async def log_of(desk: RunningTrial) -> list[tuple[str, float]]:
    rows = await desk.storage.decisions(desk.experiment.agent_id, experiment_id=desk.experiment.id, limit=1000)
    return [(row.verdict, row.share_after) for row in reversed(rows)]


async def is_whole(desk: RunningTrial, *, edited: int = 0, crossed: int = 0) -> None:
    """The log gives the same evidence and the same verdicts again."""
    found = await check_experiment(agent_id=desk.experiment.agent_id, experiment_id=desk.experiment.id)
    assert (found.differences, found.edited, found.crossed) == ((), edited, crossed), found.sentence


# the way of an experiment


async def test_a_better_candidate_wins_rests_a_day_and_climbs_until_it_is_the_active_prompt(
    storage: PostgresStorage,
) -> None:
    desk = await running_trial(storage, **SIX)
    seen: list[tuple[str, float] | None] = []
    share, hours = 0.5, 0
    while share < 1:
        better = round(20 * share)
        await desk.serve(hours + 3, active=([0, 0, 1] * 7)[: 20 - better], candidate=([1, 1, 0] * 7)[:better])
        hours += 6
        seen.append(await desk.verdict(hours))
        share = seen[-1][1] if seen[-1] else share
    hold = ("hold", 0.5)
    steps = [("step_up", share) for share in (0.6, 0.7, 0.8, 0.9)]
    assert seen == [hold, hold, hold, ("won", 0.5), hold, hold, hold, *steps, ("promote", 1.0)]
    serving = await storage.serving("default")
    assert serving is not None
    assert (serving.active.id, serving.share, serving.experiment_id) == (desk.experiment.candidate_id, 0.0, None)
    [experiment] = await storage.experiments("default")
    assert (experiment.state, experiment.outcome) == ("ended", "promoted")
    [won] = [row for row in await storage.decisions("default") if row.verdict == "won"]
    assert won.evidence["superiority"] >= log(20)
    await is_whole(desk)
    assert await run_step(now=at(hours + 6)) is None


async def test_a_worse_candidate_is_rolled_back_by_harm_within_its_first_hours(storage: PostgresStorage) -> None:
    desk = await running_trial(storage)
    await desk.serve(0.5, active=[1] * 12, candidate=[0] * 12)
    assert await desk.verdict(1) == ("roll_back", 0.0)
    [experiment] = await storage.experiments("default")
    assert experiment.outcome == "rolled_back"
    await is_whole(desk)


async def test_a_prompt_that_turns_bad_after_its_win_is_rolled_back_by_what_came_since(
    storage: PostgresStorage,
) -> None:
    desk = await running_trial(storage, **SIX)
    for window in range(1, 5):
        await desk.serve(6 * window - 3, active=[0] * 20, candidate=[1] * 20)
        last = await desk.verdict(6 * window)
    assert last == ("won", 0.5)
    deep_in_credit = (await evidence_of(desk)).harm
    await desk.serve(27, active=[1] * 30, candidate=[0] * 30)
    assert await desk.verdict(30) == ("roll_back", 0.0)
    assert max(deep_in_credit) < -3
    assert "won and is worse since" in (await storage.decisions("default"))[0].reason
    await is_whole(desk)


async def test_lost_requests_of_one_arm_end_the_experiment_without_a_judgement(storage: PostgresStorage) -> None:
    desk = await running_trial(storage, share=0.5)
    await desk.serve(0.5, active=[None] * 120, candidate=[None] * 40)
    assert await desk.verdict(1) == ("roll_back", 0.0)
    [experiment] = await storage.experiments("default")
    assert experiment.outcome == "inconclusive"


async def test_a_candidate_that_fails_more_often_is_rolled_back_without_any_vote(storage: PostgresStorage) -> None:
    desk = await running_trial(storage)
    for number in range(40):
        await desk.ask(f"a{number}", "active", 0.5)
        await desk.ask(f"c{number}", "candidate", 0.5, state="failed" if number % 2 else "completed")
    assert await desk.verdict(1) == ("roll_back", 0.0)
    assert "fails more often" in (await storage.decisions("default"))[0].reason
    await is_whole(desk)


async def test_the_ramp_rises_after_two_hours_and_twenty_rated_units_of_the_step(storage: PostgresStorage) -> None:
    desk = await running_trial(storage, share=0.1)
    seen = []
    for hour in range(1, 6):
        await desk.serve(hour - 0.5, active=[1, 0] * 35, candidate=[1, 0] * 4)
        seen.append(await desk.verdict(hour))
    assert seen == [("hold", 0.1), ("hold", 0.1), ("step_up", 0.2), ("hold", 0.2), ("hold", 0.2)]
    await is_whole(desk)


# late, edited, deleted


async def test_a_vote_that_comes_late_counts_in_the_first_open_window_and_closed_ones_stay(
    storage: PostgresStorage,
) -> None:
    desk = await running_trial(storage)
    await desk.ask("slow", "candidate", 0.5)
    await desk.ask("quick", "candidate", 0.5)
    await desk.rate("quick", 1, 0.6)
    await desk.look(3)
    before = await evidence_of(desk), await counted(desk)
    await desk.rate("slow", 0, 0.7)  # given in the first window, arrived in the fourth
    assert (await evidence_of(desk), await counted(desk)) == before
    await desk.look(4)
    after = await counted(desk)
    assert after["quick"] == before[1]["quick"]
    assert (after["slow"].window, after["slow"].rated_at, after["slow"].score) == (4, at(0.7), 0.0)
    await is_whole(desk)


async def test_a_vote_changed_before_its_window_closes_counts_as_it_is_and_afterwards_only_shows(
    storage: PostgresStorage,
) -> None:
    desk = await running_trial(storage)
    for unit in ("early", "late"):
        await desk.ask(unit, "candidate", 0.2)
        await desk.rate(unit, 0, 0.3, rater=unit)
    await desk.rate("early", 1, 0.4, rater="early")
    await desk.look(1)
    await desk.rate("late", 1, 1.4, rater="late")
    before = await evidence_of(desk)
    await desk.look(2)
    assert {unit.unit_id: unit.score for unit in (await counted(desk)).values()} == {"early": 1.0, "late": 0.0}
    after = await evidence_of(desk)
    assert (after.superiority, after.shares) == (before.superiority, before.shares)
    await is_whole(desk, edited=1)


async def delete_votes(url: str, unit: str, score: float | None = None) -> None:
    which = "" if score is None else f" AND score = {score}"
    await execute(url, f"DELETE FROM bindu_dspy.task_feedback WHERE unit_id = '{unit}'{which}")


async def test_a_vote_deleted_before_its_window_closes_was_never_there_and_the_next_one_is_the_first(
    storage: PostgresStorage, postgres_url: str
) -> None:
    desk = await running_trial(storage)
    for unit in ("gone", "second"):
        await desk.ask(unit, "active", 0.1)
        await desk.rate(unit, 0, 0.2, rater="ann" if unit == "second" else "cy")
    await desk.rate("second", 1, 1.5, rater="bob", kind="rating")
    await delete_votes(postgres_url, "gone")
    await delete_votes(postgres_url, "second", 0)
    await desk.look(1)
    assert await counted(desk) == {}
    await desk.look(2)
    [only] = (await counted(desk)).values()
    assert (only.unit_id, only.window, only.kind, only.rater_id, only.score) == ("second", 2, "rating", "bob", 1.0)
    await is_whole(desk)


async def test_a_vote_deleted_after_it_counted_stays_counted_and_shows_as_edited(
    storage: PostgresStorage, postgres_url: str
) -> None:
    desk = await running_trial(storage)
    await desk.serve(0.5, active=[0] * 3, candidate=[1] * 3)
    await desk.look(1)
    before = await evidence_of(desk)
    await delete_votes(postgres_url, "unit 3")
    await desk.look(2)
    assert (await evidence_of(desk)).superiority == before.superiority
    await is_whole(desk, edited=1)


# units that come back


async def test_a_unit_that_comes_back_days_later_keeps_its_first_arm_and_epoch(storage: PostgresStorage) -> None:
    desk = await running_trial(storage, share=0.1)
    await desk.ask("traveller", "active", 0.5)
    await carry_out("pause", reason="Holidays.", now=at(0.6))
    await desk.storage.apply(
        await moved(desk, 0.4), now=at(1)
    )  # somebody moves the share: a second epoch, in which the unit sees the candidate
    crossed = await desk.ask("traveller", "candidate", 90)
    await desk.rate("traveller", 1, 90.1, task=crossed)
    await desk.look(91)
    unit = (await counted(desk))["traveller"]
    assert (unit.arm, unit.epoch, unit.window, unit.score) == ("active", 0, 91, 1.0)
    [share] = (await evidence_of(desk)).shares
    assert (share.epoch, share.active, share.candidate, share.rated_active, share.rated_candidate) == (0, 1, 0, 1, 0)
    await is_whole(desk, crossed=1)
    assert (await check_experiment()).sentence.endswith("agree with the log; 1 units were served by both prompts.")


async def moved(desk: RunningTrial, share: float) -> Rollout:
    serving = await desk.storage.serving(desk.experiment.agent_id)
    assert serving is not None
    return Rollout(
        agent_id=serving.agent_id,
        experiment_id=desk.experiment.id,
        expected_version=serving.version,
        verdict="step_up" if share > serving.share else "step_down",
        share_before=serving.share,
        share_after=share,
        reason="Somebody said so.",
        inputs={"share": serving.share, "asked": share, "reason": "Somebody said so."},
        rule="manual",
        actor="person",
    )


async def test_a_counted_unit_that_comes_back_and_votes_again_does_not_count_again(storage: PostgresStorage) -> None:
    desk = await running_trial(storage)
    await desk.serve(0.5, candidate=[1])
    await desk.look(1)
    again = await desk.ask("unit 0", "candidate", 50)
    await desk.rate("unit 0", 0, 50.1, task=again, rater="somebody else")
    await desk.look(51)
    assert [(unit.window, unit.score) for unit in (await counted(desk)).values()] == [(1, 1.0)]
    await is_whole(desk)


async def test_the_check_says_which_decision_was_deleted(storage: PostgresStorage, postgres_url: str) -> None:
    desk = await running_trial(storage)
    for hour in range(1, 5):
        await desk.serve(hour - 0.5, active=[1], candidate=[1])
        await desk.look(hour)
    await execute(postgres_url, 'DELETE FROM bindu_dspy.decisions WHERE "window" = 2')
    found = await check_experiment(agent_id=desk.experiment.agent_id, experiment_id=desk.experiment.id)
    assert found.differences == ("Its decision number 2 is missing.",)


async def test_units_of_an_epoch_that_never_was_are_not_compared(storage: PostgresStorage) -> None:
    desk = await running_trial(storage)
    await desk.ask("odd", "candidate", 0.5, epoch=77)
    await desk.rate("odd", 1, 0.6)
    await desk.look(1)
    assert (await evidence_of(desk)).shares == ()
    await is_whole(desk)


# clocks and silences


async def test_a_window_that_is_not_over_is_not_closed_and_each_one_only_once(storage: PostgresStorage) -> None:
    desk = await running_trial(storage)
    await desk.serve(0.5, active=[1] * 3, candidate=[1] * 3)
    moments = [0.0, 0.999, 1.0, 1.0, 1.5, 1.999, 2.0]
    assert [await desk.verdict(moment) for moment in moments] == [
        None, None, ("hold", 0.5), None, None, None, ("hold", 0.5),
    ]  # fmt: skip
    assert "2026-06-01 03:00" in await why_no_step()


async def test_windows_with_nothing_in_them_only_pass(storage: PostgresStorage) -> None:
    desk = await running_trial(storage)
    await desk.serve(0.5, active=[1] * 3, candidate=[1] * 3)
    await desk.look(1)
    before = await evidence_of(desk)
    assert [await desk.verdict(hour) for hour in range(2, 8)] == [("hold", 0.5)] * 6
    after = await evidence_of(desk)
    assert (after.window, after.superiority, after.shares) == (7, before.superiority, before.shares)
    assert await log_of(desk) == [("open", 0.5), *[("hold", 0.5)] * 7]
    await is_whole(desk)


async def test_an_experiment_that_nobody_ever_sees_ends_without_a_judgement_after_two_weeks(
    storage: PostgresStorage,
) -> None:
    desk = await running_trial(storage, window_hours=24)
    seen = [await desk.verdict(24 * day) for day in range(1, 15)]
    assert seen == [("hold", 0.5)] * 13 + [("roll_back", 0.0)]
    [experiment] = await storage.experiments("default")
    assert experiment.outcome == "inconclusive"
    await is_whole(desk)


async def test_after_a_day_without_a_run_the_evidence_is_as_if_it_had_looked_every_hour(
    storage: PostgresStorage,
) -> None:
    hourly, late = [await running_trial(storage, share=0.1, agent_id=agent) for agent in ("hourly", "late")]
    for agent in ("hourly", "late"):
        await carry_out("pause", reason="Keep the share.", agent_id=agent, now=START)
    for hour in range(30):
        for desk in (hourly, late):
            scores = [float((hour * 7 + unit) % 3 > 0) for unit in range(9)]
            await desk.serve(hour + 0.5, active=[*scores, None], candidate=scores[: 1 + hour % 2])
            await desk.ask("everyday", "active", hour + 0.1)
            await desk.rate("everyday", float(hour % 2), hour + 0.2, rater="ann")
        await hourly.look(hour + 1)
    await late.look(30)
    assert await evidence_of(late) == await evidence_of(hourly)
    assert await counted(late) == await counted(hourly)
    assert (len(await log_of(late)), len(await log_of(hourly))) == (3, 32)
    for desk in (late, hourly):
        await is_whole(desk, edited=1)


async def test_after_a_day_without_a_run_the_share_moves_by_one_step(storage: PostgresStorage) -> None:
    desk = await running_trial(storage, share=0.1)
    for hour in range(30):
        await desk.serve(hour + 0.5, active=[1, 0] * 9, candidate=[1, 0])
    assert await desk.verdict(30) == ("step_up", 0.2)
    assert await desk.verdict(30.5) is None
    assert await desk.verdict(31) == ("hold", 0.2)


async def test_a_clock_that_jumps_forty_days_ahead_ends_a_trial_without_a_winner_and_promotes_nothing(
    storage: PostgresStorage,
) -> None:
    desk = await running_trial(storage)
    await desk.serve(0.5, active=[1, 0] * 9, candidate=[1, 0] * 9)
    await desk.look(1)
    assert await desk.verdict(40 * 24) == ("roll_back", 0.0)
    [experiment] = await storage.experiments("default")
    assert experiment.outcome == "inconclusive"
    await is_whole(desk)


async def test_a_clock_that_jumps_ahead_lets_a_winner_take_one_step_and_only_on_new_feedback(
    storage: PostgresStorage,
) -> None:
    desk = await running_trial(storage, **SIX)
    for window in range(1, 5):
        await desk.serve(6 * window - 3, active=[0] * 12, candidate=[1] * 12)
        last = await desk.verdict(6 * window)
    assert last == ("won", 0.5)
    assert await desk.verdict(40 * 24) == ("hold", 0.5)
    assert "new feedback on both" in (await storage.decisions("default"))[0].reason
    assert await desk.verdict(41 * 24) == ("hold", 0.5)
    await desk.serve(25, active=[1] * 3, candidate=[1] * 3)  # the clock is right again
    assert await desk.verdict(26) is None
    assert await desk.verdict(42 * 24) == ("step_up", 0.6)
    await is_whole(desk)


async def test_a_clock_set_back_decides_nothing_until_it_has_caught_up_and_loses_no_vote(
    storage: PostgresStorage,
) -> None:
    desk = await running_trial(storage)
    await desk.serve(9.5, active=[1] * 2, candidate=[1] * 2)
    await desk.look(10)
    await desk.serve(4.5, active=[0] * 3, candidate=[0] * 3)  # five hours back
    assert [await desk.verdict(hour) for hour in (5, 6, 9, 10)] == [None] * 4
    assert await desk.verdict(-900) is None
    await desk.look(11)
    assert sorted(unit.window for unit in (await counted(desk)).values()) == [10] * 4 + [11] * 6
    await is_whole(desk)


async def test_a_vote_dated_in_the_future_waits_for_its_time_and_one_before_the_trial_counts_at_once(
    storage: PostgresStorage,
) -> None:
    desk = await running_trial(storage)
    for unit in ("tomorrow", "long ago"):
        await desk.ask(unit, "candidate", 0.5)
    await desk.rate("tomorrow", 1, 30)
    await desk.rate("long ago", 1, -1000)
    await desk.look(1)
    assert set(await counted(desk)) == {"long ago"}
    await desk.look(30)
    assert {unit: found.window for unit, found in (await counted(desk)).items()} == {"long ago": 1, "tomorrow": 30}
    await is_whole(desk)


# the cost of a look


class Read:
    """A storage that counts by verb what it was asked and the rows that came back."""

    def __init__(self, storage: PostgresStorage) -> None:
        self.storage = storage
        self.calls: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self.storage, name)

        async def answered(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            found = await verb(*arguments, **options)
            if isinstance(found, Arrivals):
                votes = sum(len(unit.votes) for unit in found.rated)
                self.rows[name] += len(found.firsts) + votes + len(found.last_counted)
            elif isinstance(found, list | tuple | dict) and name != "evidence":
                self.rows[name] += len(found)
            return found

        return answered


async def test_a_look_reads_what_arrived_since_the_last_one_however_long_the_history(storage: PostgresStorage) -> None:
    desk = await running_trial(storage)
    looks = []
    for hour in range(1, 13):
        read = Read(storage)
        await desk.serve(hour - 0.5, active=[1, 0] * 3, candidate=[1, 0] * 3)
        with use_storage(cast("Storage", read)):
            await desk.look(hour)
        looks.append(read)
    assert [look.rows for look in looks] == [{"arrivals": 24, "share_changes": 1}] * 12  # twelve requests, twelve votes
    assert looks[-1].calls == looks[1].calls


class Interrupted:
    """A storage in which the controller takes two steps, on new feedback, before every read of somebody else."""

    def __init__(self, desk: RunningTrial) -> None:
        self.desk = desk
        self.verdicts: list[str] = []

    async def step(self) -> None:
        serving = await self.desk.storage.serving(self.desk.experiment.agent_id)
        assert serving is not None
        candidates, hours = round(20 * serving.share), len(self.verdicts)
        await self.desk.serve(
            hours + 0.5, active=([0, 1] * 10)[: 20 - candidates], candidate=([1, 0] * 10)[:candidates]
        )
        decision = await self.desk.look(hours + 1)
        assert decision is not None
        self.verdicts.append(decision.verdict)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def answered(*arguments: Any, **options: Any) -> Any:
            with use_storage(self.desk.storage):
                await self.step()
                await self.step()
            return await getattr(self.desk.storage, name)(*arguments, **options)

        return answered


async def test_a_check_while_a_controller_writes_finds_no_difference(storage: PostgresStorage) -> None:
    desk = await running_trial(storage, share=0.1, step=0.02, ramp_hours=0, ramp_units=1)
    busy = Interrupted(desk)
    with use_storage(cast("Storage", busy)):
        check = await check_experiment()
    assert set(busy.verdicts) == {"step_up"}  # each begins a share epoch, of which what was read before knows nothing
    assert check.differences == ()
    assert (check.edited, check.crossed) == (0, 0)
    assert 1 <= check.windows < len(busy.verdicts)
    assert check.units == 20 * check.windows
    await is_whole(desk)


async def test_checks_beside_a_controller_find_no_difference(storage: PostgresStorage) -> None:
    desk = await running_trial(storage, share=0.1)

    async def control() -> None:
        for hour in range(1, 25):
            await desk.serve(hour - 0.5, active=[1, 0] * 9, candidate=[1, 0] * 4)
            await desk.look(hour)

    controller = asyncio.create_task(control())
    checked = []
    while not controller.done():
        found = await check_experiment()
        assert found.differences == ()
        checked.append(found.windows)
    await controller
    assert checked == sorted(checked)
    assert len(set(checked)) > 2
    await is_whole(desk)


async def test_the_size_of_the_evidence_does_not_grow_with_history(storage: PostgresStorage) -> None:
    desk = await running_trial(storage, window_hours=1)
    sizes = []
    for hour in range(1, 25):
        await desk.serve(hour - 0.5, active=[1, 0] * 3, candidate=[1, 0] * 3)
        await desk.look(hour)
        sizes.append(len(msgspec.json.encode(await storage.evidence("default", desk.experiment.id))))
    assert sizes[-1] <= sizes[1] * 1.1


# people


async def test_what_people_say_is_logged_with_who_and_why_and_moves_what_it_says(storage: PostgresStorage) -> None:
    desk = await running_trial(storage, share=0.1)
    for hour in range(1, 4):
        await desk.serve(hour - 0.5, active=[1, 0] * 35, candidate=[1, 0] * 4)
    planned = await ordered("pause", reason="A release.", actor="ann")
    assert planned is not None
    assert await log_of(desk) == [("open", 0.1)]
    await carry_out("pause", reason="A release.", actor="ann", now=at(2.9))
    assert await carry_out("pause", reason="A release.", actor="ann") is None
    assert await desk.verdict(3) == ("hold", 0.1)
    assert "Paused" in (await storage.decisions("default"))[0].reason
    await carry_out("resume", reason="It is out.", actor="bob", now=at(3.1))
    assert await carry_out("resume", reason="It is out.", actor="bob") is None
    assert await desk.verdict(4) == ("step_up", 0.2)
    await carry_out("abort", reason="The shop was down.", actor="cy", now=at(4.1))
    rows = [row for row in await storage.decisions("default") if row.rule == "manual"]
    assert [(row.verdict, row.actor, row.reason) for row in rows] == [
        ("roll_back", "cy", "The shop was down."),
        ("resume", "bob", "It is out."),
        ("pause", "ann", "A release."),
    ]
    [experiment] = await storage.experiments("default")
    assert experiment.outcome == "inconclusive"
    await is_whole(desk)
    with pytest.raises(NoExperimentError):
        await carry_out("pause", reason="Too late.")


@pytest.mark.parametrize(("verb", "outcome"), [("promote", "promoted"), ("rollback", "rolled_back")])
async def test_a_person_may_end_it_either_way_and_is_named(storage: PostgresStorage, verb: Any, outcome: str) -> None:
    desk = await running_trial(storage)
    for no_reason in ("", "  \n"):
        with pytest.raises(InvalidArgumentError, match="Say why"):
            await carry_out(verb, reason=no_reason)
    await carry_out(verb, reason="I know better.", actor="ann", now=at(0.5))
    [experiment] = await storage.experiments("default")
    assert experiment.outcome == outcome
    assert [(row.actor, row.rule) for row in await storage.decisions("default")] == [
        ("ann", "manual"),
        ("trainer", "evidence"),
    ]
    await is_whole(desk)


async def test_a_dry_run_writes_nothing_and_says_what_the_run_then_does(storage: PostgresStorage) -> None:
    desk = await running_trial(storage)
    await desk.serve(0.5, active=[1] * 12, candidate=[0] * 12)
    would = await next_step(now=at(1))
    assert would is not None
    assert await log_of(desk) == [("open", 0.5)]
    assert await counted(desk) == {}
    done = await desk.look(1)
    assert done is not None
    stored = json.loads(json.dumps(would.inputs))
    assert (would.verdict, stored, would.evidence) == (done.verdict, done.inputs, done.evidence)


async def test_a_pause_that_came_in_between_makes_a_step_stale(storage: PostgresStorage) -> None:
    desk = await running_trial(storage, share=0.1)
    for hour in range(1, 4):
        await desk.serve(hour - 0.5, active=[1, 0] * 35, candidate=[1, 0] * 4)
    rising = await next_step(now=at(3))
    assert rising is not None
    assert rising.verdict == "step_up"
    await carry_out("pause", reason="Wait.", now=at(3))
    with pytest.raises(StaleRolloutError):
        await storage.apply(rising, now=at(3))
    await run_canary_controller(now=at(3))
    assert (await log_of(desk))[-1] == ("hold", 0.1)


async def test_a_decision_is_explained_from_what_was_stored(storage: PostgresStorage) -> None:
    desk = await running_trial(storage)
    await desk.serve(0.5, active=[1] * 12, candidate=[0] * 12)
    done = await desk.look(1)
    assert done is not None
    explained = await explain_decision(done.id)
    assert explained.same
    assert explained.replayed is not None
    assert explained.replayed.evidence == done.evidence
    assert (await explain_decision(done.id - 1)).replayed is None  # the opening was nobody's verdict
    with pytest.raises(UnknownDecisionError):
        await explain_decision(done.id + 1)


@pytest.mark.parametrize(
    ("tampered", "found"),
    [
        ("UPDATE bindu_dspy.units SET score = 1 - score WHERE unit_id = 'unit 0'", "The stored superiority"),
        ("UPDATE bindu_dspy.units SET counted_window = 1 WHERE counted_window = 2", "is not what the log gives"),
        ("UPDATE bindu_dspy.units SET arm = 'candidate' WHERE unit_id = 'unit 0'", "The stored shares"),
        (
            "UPDATE bindu_dspy.experiments SET evidence = jsonb_set(evidence, '{harm}', '[0.0, 0.0, 0.0, 0.0]')",
            "The stored harm",
        ),
    ],
)
async def test_the_check_finds_what_was_tampered_with(
    storage: PostgresStorage, postgres_url: str, tampered: str, found: str
) -> None:
    desk = await running_trial(storage)
    for hour in (1, 2):
        await desk.serve(hour - 0.5, active=[1, 0, 1], candidate=[0, 1, 1])
        await desk.look(hour)
    await is_whole(desk)
    await execute(postgres_url, tampered)
    check = await check_experiment()
    assert any(found in difference for difference in check.differences)
