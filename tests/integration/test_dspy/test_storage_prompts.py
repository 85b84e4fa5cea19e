"""Prompts: who serves, which versions there are, what users thought of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bindu.dspy.errors import InvalidPromptError, UnknownPromptError
from bindu.dspy.models import PromptMetrics
from bindu.dspy.storage import Storage
from samples import AGENT, a_task, a_vote, open_trial

LONG_AGO = datetime(2024, 2, 29, 12, tzinfo=UTC)


async def test_nobody_serves_before_bootstrap(storage: Storage) -> None:
    assert await storage.serving(AGENT) is None
    assert await storage.serving_versions([AGENT]) == {}
    assert await storage.prompt(AGENT, 1) is None
    assert await storage.prompts(AGENT) == []


async def test_bootstrap_makes_the_text_prompt_one_with_all_the_traffic(storage: Storage) -> None:
    prompt = await storage.bootstrap(AGENT, "Be kind.", now=LONG_AGO)
    assert (prompt.id, prompt.text, prompt.status, prompt.traffic) == (1, "Be kind.", "active", 1.0)
    assert (prompt.origin, prompt.created_at) == ("bootstrap", LONG_AGO)
    serving = await storage.serving(AGENT)
    assert serving is not None
    assert (serving.active, serving.candidate, serving.share, serving.experiment_id) == (prompt, None, 0.0, None)
    assert await storage.serving_versions([AGENT, "stranger", "half \ud800"]) == {AGENT: serving.version}


async def test_a_second_bootstrap_returns_the_prompt_that_serves(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    assert (await storage.bootstrap(AGENT, "Be rude.")).text == "Be kind."
    assert len(await storage.prompts(AGENT)) == 1


async def test_of_eight_bootstraps_at_once_one_makes_the_prompt(storage: Storage) -> None:
    made = await asyncio.gather(*(storage.bootstrap(AGENT, f"Be kind, says {number}.") for number in range(8)))
    assert len({prompt.text for prompt in made}) == 1
    assert len(await storage.prompts(AGENT)) == 1


async def test_bootstrap_beside_stored_texts_never_serves_one_of_them(storage: Storage) -> None:
    results = await asyncio.gather(
        *(storage.add_prompt(AGENT, f"Old {number}.", "deprecated") for number in range(6)),
        *(storage.bootstrap(AGENT, "Be kind.") for _ in range(6)),
    )
    assert {prompt.text for prompt in results[6:]} == {"Be kind."}
    assert sorted(prompt.id for prompt in await storage.prompts(AGENT)) == list(range(1, 8))


async def test_agents_count_their_prompts_apart(storage: Storage) -> None:
    assert (await storage.bootstrap("support", "Help.")).id == 1
    assert (await storage.bootstrap("sales", "Sell.")).id == 1
    assert [prompt.text for prompt in await storage.prompts("sales")] == ["Sell."]


@pytest.mark.parametrize("text", ["", "  \n", "a\x00b", "half \ud800 a character"])
async def test_a_text_that_cannot_be_served_is_refused(storage: Storage, text: str) -> None:
    with pytest.raises(InvalidPromptError):
        await storage.bootstrap(AGENT, text)
    with pytest.raises(InvalidPromptError):
        await storage.add_prompt(AGENT, text, "deprecated")
    assert await storage.prompts(AGENT) == []


async def test_a_text_comes_back_as_it_was_written(storage: Storage) -> None:
    text = "Sei freundlich :name ${x} {y} %s 'q' \\ \t\n 😀 \N{RIGHT-TO-LEFT MARK}"
    assert (await storage.bootstrap(AGENT, text)).text == text


async def test_a_retired_text_gets_the_next_number_and_no_traffic(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    stored = await storage.add_prompt(AGENT, "Be brief.", "rolled_back", origin="import", now=LONG_AGO)
    assert (stored.id, stored.status, stored.traffic, stored.origin) == (2, "rolled_back", 0.0, "import")
    assert stored == await storage.prompt(AGENT, 2)
    assert stored.created_at == LONG_AGO


async def test_many_texts_at_once_get_numbers_without_gaps(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    await asyncio.gather(*(storage.add_prompt(AGENT, f"Old {number}.", "deprecated") for number in range(12)))
    assert [prompt.id for prompt in await storage.prompts(AGENT)] == list(range(1, 14))


@pytest.mark.parametrize("status", ["active", "candidate"])
async def test_only_a_rollout_makes_a_prompt_live(storage: Storage, status: str) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    with pytest.raises(InvalidPromptError):
        await storage.add_prompt(AGENT, "Be brief.", status)  # type: ignore[arg-type]
    with pytest.raises(InvalidPromptError):
        await storage.set_retired_status(AGENT, 1, status)  # type: ignore[arg-type]


async def test_the_status_of_a_retired_prompt_can_change_and_that_of_a_live_one_cannot(storage: Storage) -> None:
    experiment = await open_trial(storage)
    retired = await storage.add_prompt(AGENT, "Be brief.", "deprecated")
    await storage.set_retired_status(AGENT, retired.id, "rolled_back")
    for live in (experiment.active_id, experiment.candidate_id):
        with pytest.raises(InvalidPromptError, match="live"):
            await storage.set_retired_status(AGENT, live, "deprecated")
    with pytest.raises(UnknownPromptError):
        await storage.set_retired_status(AGENT, 99, "deprecated")
    assert [prompt.status for prompt in await storage.prompts(AGENT)] == ["active", "candidate", "rolled_back"]


async def test_metrics_of_prompts_without_tasks_count_zero(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    nothing = {"num_interactions": 0, "num_rated": 0, "average_score": None}
    assert await storage.prompt_metrics(AGENT, [1, 7, 1]) == {
        number: PromptMetrics(prompt_id=number, **nothing) for number in (1, 7)
    }
    assert await storage.prompt_metrics(AGENT, []) == {}


async def test_metrics_average_over_tasks_the_mean_latest_vote_of_their_raters(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    loved, disputed, silent = await storage.add_tasks([a_task(), a_task(), a_task()])
    await storage.add_feedback(
        [
            a_vote(loved, 0.2, rater_id="ann"),
            a_vote(disputed, 0.0, rater_id="ann"),
            a_vote(disputed, 0.5, rater_id="bob"),
            a_vote(disputed, 1.0, rater_id="cem"),
        ]
    )
    await storage.add_feedback([a_vote(loved, 1.0, rater_id="ann", created_at=datetime(2100, 1, 1, tzinfo=UTC))])
    future = datetime(2100, 1, 1, tzinfo=UTC)
    metrics = (await storage.prompt_metrics(AGENT, [1], now=future))[1]
    assert (metrics.num_interactions, metrics.num_rated) == (3, 2)
    assert metrics.average_score == pytest.approx((1.0 + 0.5) / 2)
    assert metrics.last_feedback_at == future
    today = (await storage.prompt_metrics(AGENT, [1]))[1]
    assert today.last_feedback_at is not None
    assert today.last_feedback_at <= await storage.now()  # the vote from the future is not the latest yet
    assert replace(today, last_feedback_at=future) == metrics  # but it counts
    long_ago = (await storage.prompt_metrics(AGENT, [1], now=datetime(2000, 1, 1, tzinfo=UTC)))[1]
    assert long_ago.last_feedback_at is None
    assert silent not in (loved, disputed)


async def test_now_is_the_databases_time_with_its_zone(storage: Storage) -> None:
    assert abs((await storage.now() - datetime.now(UTC)).total_seconds()) < 60
