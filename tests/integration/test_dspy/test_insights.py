"""The read model: a sentence that a person can act on, and the figures behind it."""

from datetime import timedelta

import pytest

from bindu.dspy.canary import controller
from bindu.dspy.canary.controller import run_step
from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.insights import agent_status
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt, update_prompt_status

TALK = [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "On its way."}]


async def rate(prompt_id: int, rating: int, count: int) -> None:
    for _ in range(count):
        await record_feedback(await record_task(TALK, prompt_id=prompt_id), {"rating": rating})


@pytest.mark.usefixtures("storage")
async def test_a_new_agent_is_told_what_to_do() -> None:
    status = await agent_status()
    assert "has no prompt yet" in status.sentence
    assert "bindu prompt add" in status.sentence
    assert (status.active, status.experiment, status.prompts, status.decisions) == (None, None, (), ())


@pytest.mark.usefixtures("storage")
async def test_a_lone_prompt_and_its_score_are_shown() -> None:
    await bootstrap_prompt("You help.")
    assert (await agent_status()).sentence == "Prompt 1 answers every request, not rated yet in 0 interactions."
    await rate(1, 4, count=3)
    status = await agent_status()
    assert status.sentence == "Prompt 1 answers every request, rated 0.800 in 3 of 3 interactions."
    assert status.feedback_per_day is not None
    assert status.feedback_per_day > 3


@pytest.mark.parametrize(
    ("ratings", "beginning"),
    [
        ((3, 5), "Candidate 2 is ahead (+0.400): rated 1.000 in 20 of 20 interactions, against rated 0.600"),
        ((5, 3), "Candidate 2 is behind (-0.400)"),
        ((4, 4), "Candidate 2 is level (+0.000)"),
    ],
)
@pytest.mark.usefixtures("storage")
async def test_who_is_ahead_is_said_first(ratings: tuple[int, int], beginning: str) -> None:
    await bootstrap_prompt("You help.")
    await insert_prompt("You help well.", "candidate", 0.2)
    await rate(1, ratings[0], count=20)
    await rate(2, ratings[1], count=20)
    status = await agent_status()
    assert status.sentence.startswith(beginning)
    assert status.sentence.endswith("it has 20% of traffic.")
    assert status.caution is not None
    assert status.days_to_see_gain is not None


@pytest.mark.usefixtures("storage")
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


@pytest.mark.usefixtures("storage")
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


async def test_the_rate_of_feedback_follows_the_callers_clock(storage: PostgresStorage) -> None:
    start = await storage.now() - timedelta(days=30)
    await bootstrap_prompt("You help.", now=start)
    await rate(1, 4, count=6)
    assert (await agent_status(now=start + timedelta(days=2))).feedback_per_day == pytest.approx(3)
    assert (await agent_status()).feedback_per_day == pytest.approx(0.2, rel=0.01)
