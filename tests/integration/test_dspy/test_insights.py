"""The read model: a sentence that a person can act on, and the figures behind it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from bindu.dspy.canary import controller
from bindu.dspy.canary.controller import run_step
from bindu.dspy.canary.verbs import carry_out
from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.errors import InvalidArgumentError, NoActivePromptError
from bindu.dspy.insights import agent_status, experiment_plan
from bindu.dspy.models import BandPoint
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt, update_prompt_status
from bindu.dspy.storage import Storage, use_storage
from bindu.settings import app_settings
from samples import a_rollout
from trials import open_evidence_trial, rate_units

TALK = [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "On its way."}]
WORSE_BETTER = ((0.4, 0.6, 0.4), (0.6, 1.0, 0.6))  # scores of an hour's units, active and candidate


@pytest.fixture
def _by_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments opened in the test are decided by the specification's rule."""
    monkeypatch.setattr(app_settings.dspy.canary, "rule", "means")


async def rate(prompt_id: int, rating: int, count: int) -> None:
    for _ in range(count):
        await record_feedback(await record_task(TALK, prompt_id=prompt_id), {"rating": rating})


@pytest.mark.usefixtures("storage")
async def test_a_new_agent_is_told_what_to_do() -> None:
    status = await agent_status()
    assert "has no prompt yet" in status.sentence
    assert "bindu prompt add" in status.sentence
    assert (status.active, status.experiment, status.prompts, status.decisions) == (None, None, (), ())


@pytest.mark.parametrize("rule", ["evidence", "means"])
@pytest.mark.usefixtures("storage")
async def test_before_the_first_experiment_the_policy_is_the_settings(
    monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    monkeypatch.setattr(app_settings.dspy.canary, "rule", rule)
    monkeypatch.setattr(app_settings.dspy.canary, "gain", 0.07)
    policy = (await agent_status()).policy
    assert (policy.rule, policy.gain) == (rule, 0.07)


@pytest.mark.usefixtures("storage")
async def test_a_lone_prompt_and_its_score_are_shown() -> None:
    await bootstrap_prompt("You help.")
    assert (await agent_status()).sentence == "Prompt 1 answers every request, not rated yet in 0 interactions."
    await rate(1, 4, count=3)
    assert (await agent_status()).sentence == "Prompt 1 answers every request, rated 0.800 in 3 of 3 interactions."


@pytest.mark.parametrize(
    ("ratings", "beginning"),
    [
        ((3, 5), "Candidate 2 is ahead (+0.400): rated 1.000 in 20 of 20 interactions, against rated 0.600"),
        ((5, 3), "Candidate 2 is behind (-0.400)"),
        ((4, 4), "Candidate 2 is level (+0.000)"),
    ],
)
@pytest.mark.usefixtures("storage", "_by_means")
async def test_who_is_ahead_is_said_first(ratings: tuple[int, int], beginning: str) -> None:
    await bootstrap_prompt("You help.")
    await insert_prompt("You help well.", "candidate", 0.2)
    await rate(1, ratings[0], count=20)
    await rate(2, ratings[1], count=20)
    status = await agent_status()
    assert status.sentence.startswith(beginning)
    assert status.sentence.endswith("it has 20% of traffic.")
    assert status.caution is not None
    assert status.means is not None
    assert status.means.difference == pytest.approx((ratings[1] - ratings[0]) / 5)


@pytest.mark.usefixtures("storage", "_by_means")
async def test_too_little_data_is_said_and_the_log_is_there() -> None:
    await bootstrap_prompt("You help.")
    await insert_prompt("You help well.", "candidate", 0.2)
    await rate(2, 5, count=3)
    decision = await run_step()
    status = await agent_status()
    assert status.sentence == "Too early to say: candidate 2 has 3 of 20 interactions; it has 20% of traffic."
    assert status.decisions[0] == decision
    assert [row.verdict for row in status.decisions] == ["hold", "open"]
    assert (status.share, status.candidate.prompt.id if status.candidate else None) == (0.2, 2)
    await rate(2, 5, count=17)
    assert "active is not rated yet" in (await agent_status()).sentence


@pytest.mark.parametrize(("end", "words"), [("active", "was promoted"), ("rolled_back", "was rolled back")])
async def test_how_the_last_experiment_ended_is_said(storage: PostgresStorage, end: str, words: str) -> None:
    await bootstrap_prompt("You help.")
    await insert_prompt("You help well.", "candidate", 0.2)
    await update_prompt_status(2, end)
    status = await agent_status()
    assert status.sentence.endswith(f"The last candidate, prompt 2, {words}.")
    assert status.caution is None
    assert [report.prompt for report in status.prompts] == await storage.prompts("default")


@pytest.mark.usefixtures("storage", "_by_means")
async def test_the_status_asks_for_as_many_interactions_as_the_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    await bootstrap_prompt("You help.")
    await insert_prompt("You help well.", "candidate", 0.2)
    await rate(1, 3, count=1)
    await rate(2, 5, count=5)
    with monkeypatch.context() as patch:
        patch.setattr(controller, "MIN_INTERACTIONS_THRESHOLD", 6)
        assert "2 has 5 of 6 interactions" in (await agent_status()).sentence
        patch.setattr(controller, "MIN_INTERACTIONS_THRESHOLD", 5)
        assert (await agent_status()).sentence.startswith("Candidate 2 is ahead")
        decision = await run_step()
        assert decision is not None
        assert decision.verdict == "step_up"
    # as in a process of its own, where nobody tuned the controller
    assert (await agent_status()).sentence.startswith("Candidate 2 is ahead")


async def test_an_experiment_begins_with_a_plan_and_an_end(storage: PostgresStorage) -> None:
    start = await storage.now() - timedelta(hours=3)
    experiment = await open_evidence_trial(storage, start, share=0.1, window_hours=2)
    status = await agent_status(now=start + timedelta(hours=1))
    assert status.trial is not None
    last_day = start + timedelta(days=14)
    assert status.sentence == (
        "Too early to say: no window of candidate 2 has been closed yet; it has 10% of traffic; "
        f"it ends undecided on {last_day:%Y-%m-%d} at the latest."
    )
    assert (status.trial.next_window_at, status.trial.windows_due) == (start + timedelta(hours=2), 0)
    assert (status.trial.ends_at, status.trial.days_left, status.caution) == (last_day, None, None)
    assert [(point.verdict, point.low) for point in status.trial.band] == [("open", None)]
    await rate_units(storage, experiment, start, hours=3, scores=WORSE_BETTER)
    later = await agent_status(now=start + timedelta(hours=3))
    assert later.trial is not None
    assert later.trial.plan is not None
    assert later.trial.plan.path[0].share == 0.1
    assert later.trial.windows_due == 1
    assert later.trial.days_left == pytest.approx((later.trial.plan.days or 0) - 3 / 24)


async def test_the_evidence_is_shown_as_the_controller_saw_it(storage: PostgresStorage) -> None:
    start = await storage.now() - timedelta(hours=60)
    experiment = await open_evidence_trial(storage, start)
    await rate_units(storage, experiment, start, hours=12, scores=WORSE_BETTER)
    for hours in (4, 8, 12):
        await run_step(now=start + timedelta(hours=hours, minutes=1))
    status = await agent_status(now=start + timedelta(hours=14))
    assert status.trial is not None
    seen = status.decisions[0].evidence
    known = status.trial.standing
    assert (known.estimate, known.low, known.high) == (seen["estimate"], seen["low"], seen["high"])
    assert known.superiority == seen["superiority"]
    assert known.estimate == pytest.approx(1 / 3, abs=0.01)
    assert (status.trial.window, status.trial.windows_due) == (12, 2)
    assert (status.trial.active.units, status.trial.candidate.rated) == (36, 36)
    assert status.sentence.startswith("Candidate 2 is better: +0.333 (95 % +")
    assert "on 72 rated of 72 units; it has 50% of traffic" in status.sentence
    shown = [(point.estimate, point.low, point.high) for point in status.trial.band if point.low is not None]
    logged = [decision.evidence for decision in reversed(status.decisions) if decision.verdict != "open"]
    assert shown == [(row["estimate"], row["low"], row["high"]) for row in logged]
    assert len(shown) == 3
    few = await agent_status(decisions=1, now=start + timedelta(hours=14))
    assert (len(few.decisions), few.trial and few.trial.band) == (1, status.trial.band)


async def test_the_way_from_a_win_to_all_traffic_is_told(storage: PostgresStorage) -> None:
    start = await storage.now() - timedelta(hours=60)
    experiment = await open_evidence_trial(storage, start)
    await rate_units(storage, experiment, start, hours=26, scores=WORSE_BETTER)
    decision = await run_step(now=start + timedelta(hours=26))
    assert decision is not None
    assert decision.verdict == "won"
    won = await agent_status(now=start + timedelta(hours=26))
    assert won.trial is not None
    assert won.trial.win is not None
    assert (won.trial.win.window, won.trial.win.hours, won.trial.ends_at) == (26, 0, None)
    assert won.trial.days_left == pytest.approx((24 + 4) / 24)  # a rest, whose end is the first of five steps
    assert won.sentence.startswith("Candidate 2 has won and is rising: ")
    await carry_out("pause", reason="A release is under way.")
    paused = await agent_status(now=start + timedelta(hours=26))
    assert paused.trial is not None
    assert (paused.trial.paused, paused.trial.days_left) == (True, None)
    assert paused.sentence.startswith("Candidate 2 has won but is paused: ")
    await carry_out("promote", reason="Seen enough.")
    over = await agent_status(now=start + timedelta(hours=27))
    assert over.sentence.endswith("The last candidate, prompt 2, was promoted.")
    assert over.trial is not None
    assert (over.trial.next_window_at, over.trial.plan, over.trial.days_left) == (None, None, None)
    assert [point.verdict for point in over.trial.band] == ["open", "won", "pause", "promote"]


async def test_a_win_by_a_candidate_that_changes_who_votes_needs_a_person(storage: PostgresStorage) -> None:
    start = await storage.now() - timedelta(hours=60)
    experiment = await open_evidence_trial(storage, start, alpha_mismatch=1e-9)
    await rate_units(storage, experiment, start, hours=30, scores=((0.4,), (1.0, 1.0, 1.0, 1.0)))
    decision = await run_step(now=start + timedelta(hours=30))
    assert decision is not None
    status = await agent_status(now=start + timedelta(hours=30))
    assert decision.verdict == "ask"
    assert status.trial is not None
    assert status.trial.needs_person == decision.reason
    assert status.trial.ends_at is None  # whoever asks a person waits for the answer
    assert status.trial.feedback_alarm
    assert status.sentence.startswith("Needs a person: ")
    assert "'bindu canary rollback'" in status.sentence


async def test_more_decisions_than_are_shown_are_still_drawn(storage: PostgresStorage) -> None:
    await open_evidence_trial(storage, await storage.now())
    for _ in range(3):
        await storage.apply(await a_rollout(storage))
    status = await agent_status(decisions=2)
    assert status.trial is not None
    assert (len(status.decisions), len(status.trial.band)) == (2, 4)


async def test_what_draws_no_band_reads_the_newest_decisions_only_and_says_the_same(storage: PostgresStorage) -> None:
    start = await storage.now() - timedelta(hours=60)
    experiment = await open_evidence_trial(storage, start, share=0.3)
    await rate_units(storage, experiment, start, hours=2, scores=WORSE_BETTER)
    await run_step(now=start + timedelta(hours=2))
    for _ in range(30):
        await storage.apply(await a_rollout(storage, inputs={"policy": experiment.policy}))
    now = start + timedelta(hours=3)
    read = Read(storage)
    with use_storage(cast("Storage", read)):
        status = await agent_status(decisions=1, with_band=False, now=now)
    assert read.rows == {"decisions": 20, "experiments": 1, "prompts": 2, "share_changes": 1}
    whole = await agent_status(decisions=1, now=now)
    assert status.trial is not None
    assert whole.trial is not None
    assert len(whole.trial.band) == 32
    assert whole.trial.plan is not None
    assert whole.trial.plan.path[0].share == 0.3  # that it opened with
    assert replace(whole, trial=replace(whole.trial, band=())) == status


class Read:
    """A storage that counts the rows it hands out, by verb."""

    def __init__(self, storage: PostgresStorage) -> None:
        self.storage = storage
        self.rows: dict[str, int] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def answered(*arguments: Any, **options: Any) -> Any:
            found = await getattr(self.storage, name)(*arguments, **options)
            if isinstance(found, list) and found:
                self.rows[name] = self.rows.get(name, 0) + len(found)
            return found

        return answered


async def test_the_band_is_what_the_decisions_say(storage: PostgresStorage) -> None:
    start = await storage.now() - timedelta(hours=60)
    experiment = await open_evidence_trial(storage, start)
    await run_step(now=start + timedelta(hours=1))  # nothing to compare yet
    await rate_units(storage, experiment, start, hours=12, scores=WORSE_BETTER)
    await run_step(now=start + timedelta(hours=12))
    await carry_out("pause", reason="A release is under way.")
    rows = await storage.decisions("default")
    assert await storage.band("default", experiment.id, limit=9) == [
        BandPoint(
            decision_id=row.id,
            at=row.at,
            window=row.closed_window,
            verdict=row.verdict,
            share=row.share_after,
            estimate=row.evidence.get("estimate"),
            low=row.evidence.get("low"),
            high=row.evidence.get("high"),
        )
        for row in rows
    ]
    assert [row.closed_window for row in rows] == [None, 12, 1, None]
    assert [point.decision_id for point in await storage.band("default", experiment.id, limit=2)] == [4, 3]
    with pytest.raises(InvalidArgumentError):
        await storage.band("default", experiment.id, limit=-1)


async def test_a_plan_is_made_at_the_measured_rate_unless_one_is_given(storage: PostgresStorage) -> None:
    start = await storage.now() - timedelta(hours=20)
    with pytest.raises(NoActivePromptError):
        await experiment_plan()
    experiment = await open_evidence_trial(storage, start)
    await rate_units(storage, experiment, start, hours=20, scores=WORSE_BETTER)
    measured, given = await experiment_plan(), await experiment_plan(feedback_per_day=measured_rate(20))
    assert measured.feedback_per_day == pytest.approx(given.feedback_per_day, rel=0.05)
    assert measured.path[0].share == app_settings.dspy.canary.initial_share
    slow, fast = await experiment_plan(feedback_per_day=50), await experiment_plan(feedback_per_day=5000)
    assert (slow.days or 0) > (fast.days or 0)
    assert (await experiment_plan(feedback_per_day=0)).days is None
    with pytest.raises(InvalidArgumentError, match="gain"):
        await experiment_plan(gain=0, feedback_per_day=50)
    with pytest.raises(InvalidArgumentError, match="share"):
        await experiment_plan(share=1, feedback_per_day=50)


def measured_rate(hours: int) -> float:
    """Votes a day: six an hour, over the hours since the earliest of them."""
    return 24 * 6 * hours / (hours - 2 / 3)
