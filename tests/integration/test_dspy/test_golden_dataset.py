"""Tasks in a real PostgreSQL become the golden dataset."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from bindu.dspy.dataset import build_dataset, build_golden_dataset
from bindu.dspy.errors import InvalidArgumentError, UnknownStrategyError
from bindu.dspy.models import Feedback, FeedbackKind, Interaction, Task, TaskState
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.strategies import (
    FirstNTurnsStrategy,
    FullHistoryStrategy,
    LastNTurnsStrategy,
    LastTurnStrategy,
    SlidingWindowStrategy,
)
from bindu.settings import app_settings

AGENT = "default"
START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def agent(storage: PostgresStorage) -> PostgresStorage:
    """An agent with a prompt."""
    await storage.bootstrap(AGENT, "Be kind.")
    return storage


def exchange(name: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"ask {name}"}, {"role": "agent", "content": f"answer {name}"}]


async def record(
    storage: PostgresStorage,
    history: list[dict[str, Any]],
    *scores: float,
    minute: int = 0,
    context_id: str | None = None,
    state: TaskState = "completed",
    kind: FeedbackKind = "rating",
) -> None:
    at = START + timedelta(minutes=minute)
    task_id = uuid7(nanoseconds=int(at.timestamp()) * 10**9)
    task = Task(
        agent_id=AGENT, id=task_id, prompt_id=1, history=history, context_id=context_id, state=state, created_at=at
    )
    await storage.add_tasks([task])
    await storage.add_feedback(
        [
            Feedback(agent_id=AGENT, task_id=task_id, id=uuid7(), kind=kind, score=score, rater_id=f"rater {i}")
            for i, score in enumerate(scores)
        ]
    )


def inputs(interactions: Sequence[Interaction]) -> list[str]:
    return [one.user_input for one in interactions]


async def test_the_filter_really_filters(agent: PostgresStorage) -> None:
    for minute, score in enumerate((0.2, 0.6, 0.8, 1.0)):
        await record(agent, exchange(str(score)), score, minute=minute)
    await record(agent, exchange("unrated"), minute=9)
    for state in ("failed", "canceled", "working"):
        await record(agent, exchange(state), 1.0, state=state)
    dataset = await build_dataset(min_feedback_threshold=0.7)
    assert inputs(dataset.golden) == ["ask 1.0", "ask 0.8"]
    assert inputs(dataset.failures) == ["ask 0.2"]
    assert dataset.funnel.tasks == 8
    assert dataset.funnel.drops == {"not_completed": 3, "without_feedback": 1, "below_threshold": 1}
    assert inputs(await build_golden_dataset()) == ["ask 1.0", "ask 0.8", "ask 0.6", "ask 0.2"]
    assert inputs(await build_golden_dataset(require_feedback=False))[0] == "ask unrated"
    assert await build_golden_dataset(agent_id="somebody else") == []


async def test_several_raters_are_one_example_with_their_mean(agent: PostgresStorage) -> None:
    await record(agent, exchange("a"), 1.0, 0.2, 0.6)
    [one] = await build_golden_dataset()
    assert (one.feedback_score, one.feedback_type) == (0.6, "rating")
    assert sorted(one.raters) == ["rater 0", "rater 1", "rater 2"]


@pytest.mark.parametrize("score", [0.2, 0.4, 0.6, 0.8])
@pytest.mark.parametrize("raters", [2, 3, 7])
async def test_equal_votes_reach_the_threshold_that_they_equal(
    agent: PostgresStorage, score: float, raters: int
) -> None:
    await record(agent, exchange("a"), *[score] * raters)
    assert [one.feedback_score for one in await build_golden_dataset(min_feedback_threshold=score)] == [score]


async def test_limits_count_the_newest_tasks(agent: PostgresStorage) -> None:
    for minute in range(5):
        await record(agent, exchange(str(minute)), 1.0, 0.8, minute=minute)
    dataset = await build_dataset(limit=2)
    assert inputs(dataset.golden) == ["ask 4", "ask 3"]
    assert dataset.funnel.drops == {"over_limit": 3}
    with pytest.raises(ValueError, match="from 1 up, not 0"):
        await build_dataset(limit=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        await build_dataset(min_feedback_threshold=60)


@pytest.mark.usefixtures("agent")
async def test_a_strategy_may_be_named_and_what_is_no_limit_is_refused() -> None:
    assert await build_golden_dataset(strategy="last_turn") == []
    with pytest.raises(UnknownStrategyError, match="Did you mean"):
        await build_golden_dataset(strategy="last_tern")
    for limit in ("5", float("nan"), 2.5):
        with pytest.raises(InvalidArgumentError, match="from 1 up"):
            await build_golden_dataset(limit=limit)  # type: ignore[arg-type]


async def test_without_a_limit_the_setting_is_the_limit(
    agent: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_settings.dspy, "max_interactions_query_limit", 1)
    for minute in range(2):
        await record(agent, exchange(str(minute)), 1.0, minute=minute)
    assert inputs(await build_golden_dataset()) == ["ask 1"]


async def test_follow_up_tasks_are_one_conversation_in_time_order(agent: PostgresStorage) -> None:
    await record(agent, exchange("3"), 1.0, minute=3, context_id="talk")
    await record(agent, exchange("1"), minute=1, context_id="talk")
    await record(agent, exchange("2"), minute=2, context_id="talk")
    await record(agent, exchange("x"), minute=2, context_id="another talk")
    [one] = await build_golden_dataset(strategy=LastNTurnsStrategy())
    assert one.user_input == "User: ask 1\nAssistant: answer 1\nUser: ask 2\nAssistant: answer 2\n\nUser: ask 3"
    [one] = await build_golden_dataset(strategy=LastTurnStrategy())
    assert (one.user_input, one.context_id) == ("ask 3", "talk")


async def test_histories_that_hold_the_whole_talk_are_not_doubled(agent: PostgresStorage) -> None:
    await record(agent, exchange("1"), 0.8, minute=1, context_id="talk")
    await record(agent, exchange("1") + exchange("2"), 1.0, minute=2, context_id="talk")
    newest, oldest = await build_golden_dataset(strategy=FullHistoryStrategy())
    assert newest.agent_output == "Assistant: answer 1\nUser: ask 2\nAssistant: answer 2"
    assert oldest.agent_output == "Assistant: answer 1"
    windows = await build_golden_dataset(strategy=SlidingWindowStrategy(window_size=1))
    assert [(one.user_input, one.window, one.feedback_score) for one in windows] == [
        ("ask 2", 1, 1.0),
        ("ask 1", 0, 0.8),
    ]


async def test_an_answer_has_the_score_of_the_task_that_gave_it(agent: PostgresStorage) -> None:
    for minute, score in enumerate((1.0, 0.8, 0.2)):
        await record(agent, exchange(str(minute)), score, minute=minute, context_id="talk")
    windows = await build_dataset(strategy=SlidingWindowStrategy(window_size=1))
    assert [(one.agent_output, one.feedback_score) for one in windows.golden] == [
        ("answer 2", 0.2),
        ("answer 1", 0.8),
        ("answer 0", 1.0),
    ]
    assert windows.funnel.drops == {"earlier_answer": 3}
    firsts = await build_dataset(strategy=FirstNTurnsStrategy(n_turns=1))
    assert [(one.agent_output, one.feedback_score) for one in firsts.golden] == [("answer 0", 1.0)]
    assert firsts.funnel.drops == {"earlier_answer": 2}


async def test_of_equal_exchanges_the_newest_counts(agent: PostgresStorage) -> None:
    await record(agent, exchange("same"), 0.2, minute=1)
    await record(agent, exchange("same"), 1.0, minute=2)
    dataset = await build_dataset()
    assert [one.feedback_score for one in dataset.golden] == [1.0]
    assert dataset.failures == []
    assert dataset.funnel.drops == {"duplicate": 1}
