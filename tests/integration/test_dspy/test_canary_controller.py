"""The specification's rule on a real database: one step per run, both ends stable, whoever dies when."""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from bindu.dspy.canary import controller
from bindu.dspy.canary.controller import promote_step, rollback_step, run_canary_controller, run_step
from bindu.dspy.canary.verbs import carry_out
from bindu.dspy.cli import canary as canary_command
from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.decision import replay
from bindu.dspy.errors import InvalidArgumentError, InvalidPromptError, StaleRolloutError, UnknownRuleError
from bindu.dspy.insights import agent_status
from bindu.dspy.models import Decision, Rollout
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt, get_active_prompt, get_candidate_prompt, insert_prompt
from bindu.dspy.storage import Storage, use_storage
from bindu.settings import app_settings
from faults import FaultyStorage, Killed

TALK = [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "On its way."}]


@pytest.fixture(autouse=True)
def _means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.dspy.canary, "rule", "means")


async def rate(prompt_id: int, ratings: Sequence[int]) -> None:
    for rating in ratings:
        task_id = await record_task(TALK, prompt_id=prompt_id)
        await record_feedback(task_id, {"rating": rating})


async def on_trial(active: Sequence[int] = (3,) * 20, candidate: Sequence[int] = (5,) * 20, share: float = 0.1) -> int:
    await bootstrap_prompt("You help.")
    number = await insert_prompt("You help well.", "candidate", share)
    await rate(1, active)
    await rate(number, candidate)
    return number


async def shares() -> tuple[float, float]:
    active, candidate = await get_active_prompt(), await get_candidate_prompt()
    return (active["traffic"] if active else 0.0, candidate["traffic"] if candidate else 0.0)


@pytest.mark.usefixtures("storage")
async def test_without_an_experiment_there_is_nothing_to_do() -> None:
    assert await run_step() is None
    await bootstrap_prompt("You help.")
    assert await run_step() is None
    await run_canary_controller()
    assert await shares() == (1.0, 0.0)


async def test_a_better_candidate_climbs_a_tenth_at_a_time_and_becomes_active(storage: PostgresStorage) -> None:
    candidate = await on_trial()
    seen = []
    while await get_candidate_prompt():
        await run_canary_controller()
        seen.append(await shares())
        await rate(candidate, [5])
    climb = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert seen == [(round(1 - share, 1), share) for share in climb] + [(1.0, 0.0)]
    active = await get_active_prompt()
    assert active is not None
    assert (active["id"], active["status"], active["average_feedback_score"]) == (candidate, "active", 1.0)
    [experiment] = await storage.experiments("default")
    assert (experiment.state, experiment.outcome) == ("ended", "promoted")
    assert await run_step() is None


async def test_a_worse_candidate_falls_to_zero_and_stays_there(storage: PostgresStorage) -> None:
    candidate = await on_trial(active=(5,) * 5, candidate=(1,) * 20, share=0.3)
    seen = []
    while await get_candidate_prompt():
        await run_canary_controller()
        seen.append(await shares())
        await rate(candidate, [1])
    assert seen == [(0.8, 0.2), (0.9, 0.1), (1.0, 0.0)]
    [experiment] = await storage.experiments("default")
    assert (experiment.state, experiment.outcome) == ("ended", "rolled_back")
    assert await run_step() is None


async def test_a_pause_holds_until_somebody_resumes(storage: PostgresStorage) -> None:
    candidate = await on_trial()
    await carry_out("pause", reason="A release.")
    await rate(candidate, [5])
    for _ in range(2):
        held = await run_step()
        assert held is not None
        assert (held.verdict, held.share_after) == ("hold", 0.1)
        assert replay(held).verdict == "hold"
    assert "; paused, so its share does not rise." in (await agent_status()).sentence
    await carry_out("resume", reason="It is out.")
    await rate(candidate, [5])
    await run_canary_controller()
    verdicts = [row.verdict for row in await storage.decisions("default")]
    assert verdicts == ["step_up", "resume", "hold", "hold", "pause", "open"]


async def test_a_pause_and_its_end_are_no_steps(storage: PostgresStorage) -> None:
    candidate = await on_trial()
    assert await verdict() == "step_up"
    await rate(candidate, [5])  # since the last step, but before people spoke
    for verb in ("pause", "resume"):
        await carry_out(verb, reason="A release.")
    assert [await verdict(), await verdict()] == ["step_up", "hold"]
    await carry_out("pause", reason="A release.")
    assert await verdict() == "hold"
    newest = (await storage.decisions("default", limit=1))[0]
    assert newest.reason.startswith("Nobody has given feedback since the last step.")


@pytest.mark.parametrize(
    ("active", "candidate", "words"),
    [((3,) * 20, (5,) * 19, "19 of the 20"), ((4,) * 3, (4,) * 20, "tie"), ((), (5,) * 20, "no feedback to compare")],
)
async def test_too_little_data_holds_and_is_logged(
    storage: PostgresStorage, active: Sequence[int], candidate: Sequence[int], words: str
) -> None:
    await on_trial(active, candidate)
    decision = await run_step()
    assert decision is not None
    assert (decision.verdict, decision.share_after) == ("hold", 0.1)
    assert words in decision.reason
    assert await shares() == (0.9, 0.1)
    assert [row.verdict for row in await storage.decisions("default")] == ["hold", "open"]


@pytest.mark.usefixtures("storage")
async def test_a_vote_from_the_future_does_not_make_every_run_a_step() -> None:
    candidate = await on_trial()
    task_id = await record_task(TALK, prompt_id=candidate)
    await record_feedback(task_id, {"rating": 5}, now=datetime.now(UTC) + timedelta(days=3))
    assert [await verdict() for _ in range(4)] == ["step_up", "hold", "hold", "hold"]


@pytest.mark.parametrize("share", [1 / 3, 1e-9, 1 - 1e-9, 0.1 + 1e-10, 2 / 3])
async def test_whatever_a_share_s_decimals_nothing_moves_without_data(storage: PostgresStorage, share: float) -> None:
    await on_trial((), (), share)
    assert await verdict() == "hold"
    [held, opened] = await storage.decisions("default")
    assert held.share_before == held.share_after == opened.share_after == round(share, 9)


@pytest.mark.parametrize("share", [1e-10, 1 - 1e-10])
async def test_a_share_that_is_none_or_all_is_no_candidate_s(storage: PostgresStorage, share: float) -> None:
    await bootstrap_prompt("You help.")
    with pytest.raises(InvalidPromptError, match="above 0%, below 100%"):
        await insert_prompt("You help well.", "candidate", share)
    assert len(await storage.prompts("default")) == 1


@pytest.mark.parametrize("step", [promote_step, rollback_step])
async def test_a_step_says_what_it_takes(storage: PostgresStorage, step: Any) -> None:
    await on_trial((), ())
    with pytest.raises(InvalidArgumentError, match=r"get_active_prompt\(\) and get_candidate_prompt"):
        await step({}, {})
    assert len(await storage.decisions("default")) == 1


@pytest.mark.usefixtures("storage")
async def test_a_second_step_waits_for_feedback_through_any_number_of_holds() -> None:
    candidate = await on_trial()
    verdicts = [await verdict() for _ in range(4)]
    await rate(candidate, [5])
    verdicts += [await verdict() for _ in range(2)]
    assert verdicts == ["step_up", "hold", "hold", "hold", "step_up", "hold"]


async def verdict() -> str | None:
    decision = await run_step()
    return None if decision is None else decision.verdict


async def test_a_stored_decision_can_be_recomputed(storage: PostgresStorage) -> None:
    await on_trial()
    for _ in range(2):
        await run_step()
    for stored in (await storage.decisions("default"))[:2]:
        again = replay(stored)
        assert (again.verdict, again.share_after, again.reason, again.evidence) == (
            stored.verdict,
            stored.share_after,
            stored.reason,
            stored.evidence,
        )


async def test_of_eight_controllers_one_moves_traffic(storage: PostgresStorage) -> None:
    await on_trial()
    results = await asyncio.gather(*(run_step() for _ in range(8)), return_exceptions=True)
    decisions = [result for result in results if isinstance(result, Decision)]
    assert [decision.verdict for decision in decisions if decision.verdict != "hold"] == ["step_up"]
    assert await shares() == (0.8, 0.2)
    assert len(await storage.decisions("default")) == 1 + len(decisions)
    assert [type(result) for result in results if result not in decisions] == [StaleRolloutError] * (8 - len(decisions))


class Overtaken:
    """A storage in which somebody else applies every rollout first."""

    def __init__(self, storage: PostgresStorage) -> None:
        self.storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    async def apply(self, rollout: Rollout, **options: Any) -> Decision:
        await self.storage.apply(rollout, **options)
        return await self.storage.apply(rollout, **options)


async def test_who_comes_second_hears_so_and_the_controller_only_logs_it(
    storage: PostgresStorage, caplog: pytest.LogCaptureFixture
) -> None:
    candidate = await on_trial()
    with use_storage(cast("Storage", Overtaken(storage))):
        with pytest.raises(StaleRolloutError):
            await run_step()
        await rate(candidate, [5])
        await run_canary_controller()
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "Somebody else moved the traffic of agent 'default' in the meantime; nothing was changed."
    ]
    assert await shares() == (0.7, 0.3)  # the two steps that others took


def test_the_command_that_came_second_says_so_and_succeeds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def overtaken(**_: Any) -> Decision | None:
        raise StaleRolloutError("default")

    monkeypatch.setattr(canary_command, "run_step", overtaken)
    canary_command.step(agent=None, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["decision"] is None
    assert "Somebody else moved the traffic" in said["reason"]
    canary_command.step(agent=None)
    assert "Somebody else moved the traffic" in capsys.readouterr().out


async def test_a_decision_of_another_version_of_the_rule_is_not_recomputed(storage: PostgresStorage) -> None:
    await on_trial()
    await run_step()
    [stored, _] = await storage.decisions("default")
    with pytest.raises(UnknownRuleError, match=r"'means version 2'; this version has .*means version 1"):
        replay(replace(stored, rule_version=2))


async def test_the_policy_is_the_experiments_and_its_open_numbers_are_the_constants(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await on_trial(candidate=(5,) * 10)
    monkeypatch.setattr(controller, "MIN_INTERACTIONS_THRESHOLD", 10)
    monkeypatch.setattr(controller, "TRAFFIC_STEP", 0.25)
    decision = await run_step()
    assert decision is not None
    assert (decision.share_after, decision.rule) == (0.35, "means")
    used = {name: decision.inputs["policy"][name] for name in ("rule", "min_interactions", "step")}
    assert used == {"rule": "means", "min_interactions": 10, "step": 0.25}
    [experiment] = await storage.experiments("default")
    assert experiment.policy == {"rule": "means"}


@pytest.mark.usefixtures("storage")
async def test_the_specified_steps_move_traffic_once_per_reading() -> None:
    await on_trial()
    active, candidate = await get_active_prompt(), await get_candidate_prompt()
    assert active is not None
    assert candidate is not None
    await promote_step(active, candidate)
    assert await shares() == (0.8, 0.2)
    with pytest.raises(StaleRolloutError):
        await promote_step(active, candidate)  # these dictionaries were read before the step
    candidate = await get_candidate_prompt()
    assert candidate is not None
    await rollback_step(active, candidate)
    assert await shares() == (0.9, 0.1)


@pytest.mark.usefixtures("storage")
async def test_the_specified_steps_end_the_trial_at_both_ends_and_know_strangers() -> None:
    first = await on_trial(share=0.95)
    active, candidate = await get_active_prompt(), await get_candidate_prompt()
    assert active is not None
    assert candidate is not None
    decision = await promote_step(active, candidate)
    assert decision.verdict == "promote"
    with pytest.raises(StaleRolloutError):
        await rollback_step(active, candidate)
    second = await insert_prompt("You help best.", "candidate", 0.05)
    decision = await rollback_step({"id": first}, {"id": second})
    assert decision.verdict == "roll_back"
    assert await shares() == (1.0, 0.0)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.9])
async def test_killed_between_any_two_calls_the_next_run_takes_the_one_step(
    storage: PostgresStorage, share: float, after: bool
) -> None:
    await on_trial(share=share)
    alive = FaultyStorage(storage)
    with use_storage(alive):
        await bootstrap_prompt("You help.", agent_id="rehearsal")
        number = await insert_prompt("You help well.", "candidate", 0.1, agent_id="rehearsal")
        for prompt_id in (1, number):
            await record_task(TALK, prompt_id=prompt_id, agent_id="rehearsal")
        alive.calls.clear()
        await run_step(agent_id="rehearsal")
    for place in range(1, len(alive.calls) + 1):
        with use_storage(FaultyStorage(storage, fail_at=place, after=after)), pytest.raises(Killed):
            await run_step()
    await run_step()
    stepped = [row for row in await storage.decisions("default") if row.verdict not in ("open", "hold")]
    assert [row.share_after for row in stepped] == [0.2 if share == 0.1 else 1.0]
    assert sum(await shares()) == 1.0


async def test_simulated_days_are_real_runs(storage: PostgresStorage) -> None:
    start = await storage.now() - timedelta(days=30)
    await bootstrap_prompt("You help.", now=start)
    number = await insert_prompt("You help well.", "candidate", 0.1, now=start)
    for day in range(1, 4):
        at = start + timedelta(days=day)
        for prompt_id, rating in ((1, 3), (number, 5)):
            for _ in range(20):
                task_id = await record_task(TALK, prompt_id=prompt_id, now=at)
                await record_feedback(task_id, {"rating": rating}, now=at)
        await run_step(now=at + timedelta(hours=1))
    log = [row for row in await storage.decisions("default") if row.verdict == "step_up"]
    assert [row.at for row in log] == [start + timedelta(days=day, hours=1) for day in (3, 2, 1)]


async def test_two_agents_step_apart(storage: PostgresStorage) -> None:
    await on_trial()
    await bootstrap_prompt("You sell.", agent_id="sales")
    await insert_prompt("You sell well.", "candidate", 0.1, agent_id="sales")
    decisions: list[Decision | None] = [await run_step(), await run_step(agent_id="sales")]
    assert [decision.verdict for decision in decisions if decision] == ["step_up", "hold"]
    assert len(await storage.decisions("sales")) == 2
