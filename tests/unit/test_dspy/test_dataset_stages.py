"""The stages after fetching, on tasks as storage hands them over: nothing is lost without a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.dataset import assemble, convert_to_dspy_examples, deduplicate, validate
from bindu.dspy.models import Dataset, Funnel, Interaction, RawTask, Vote
from bindu.dspy.strategies import (
    STRATEGIES,
    BaseExtractionStrategy,
    FirstNTurnsStrategy,
    KeyTurnsStrategy,
    SlidingWindowStrategy,
)

TASK = UUID("01920000-0000-7000-8000-000000000001")

messages = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["user", "agent", "system"]),
        st.sampled_from(["a", "b", " b", "", "refund"]),
    ),
    max_size=5,
)
votes = st.builds(
    Vote, kind=st.sampled_from(["rating", "thumbs_up"]), score=st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
)
raw_tasks = st.lists(
    st.builds(
        RawTask,
        id=st.uuids(),
        prompt_id=st.just(1),
        context_id=st.none(),
        created_at=st.just(datetime(2026, 3, 1, tzinfo=UTC)),
        history=messages,
        votes=st.lists(votes, max_size=3).map(tuple),
        earlier=st.lists(messages, max_size=2).map(tuple),
    ),
    max_size=12,
)
one_per_task = st.sampled_from(
    [cls() for name, cls in STRATEGIES.items() if name != "sliding_window"]
    + [KeyTurnsStrategy(keywords=["refund"], include_final=False), FirstNTurnsStrategy(1)]
)


async def stream(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


def assembled(tasks: list[RawTask], strategy: BaseExtractionStrategy, **filters: Any) -> Dataset:
    return asyncio.run(assemble(stream(tasks), strategy, **filters))


def kept(stage: Any, given: Iterable[Interaction], funnel: Funnel) -> list[Interaction]:
    async def run() -> list[Interaction]:
        return [one async for one in stage(stream(given), funnel=funnel)]

    return asyncio.run(run())


@given(raw_tasks, one_per_task, st.booleans(), st.sampled_from([0.0, 0.3, 0.5, 0.6, 1.0]))
def test_every_task_is_golden_or_a_failure_or_dropped_for_a_reason(
    tasks: list[RawTask], strategy: BaseExtractionStrategy, require_feedback: bool, threshold: float
) -> None:
    dataset = assembled(tasks, strategy, require_feedback=require_feedback, min_feedback_threshold=threshold)
    funnel = dataset.funnel
    failures_only = [one for one in dataset.failures if one not in dataset.golden]
    assert funnel.tasks == len(tasks)
    assert funnel.tasks == funnel.golden + len(failures_only) + sum(funnel.drops.values())
    assert (funnel.golden, funnel.failures) == (len(dataset.golden), len(dataset.failures))
    assert funnel.drops.keys() <= {"no_turn", "earlier_answer", "without_feedback", "below_threshold", "duplicate"}
    for one in dataset.golden:
        assert not require_feedback if one.feedback_score is None else one.feedback_score >= threshold
    for one in dataset.failures:
        assert one.feedback_score is not None
        assert one.feedback_score < 0.5


@given(raw_tasks, st.sampled_from([*one_per_task.elements, SlidingWindowStrategy()]))
def test_without_a_filter_only_texts_decide(tasks: list[RawTask], strategy: BaseExtractionStrategy) -> None:
    texts = {(one.user_input, one.agent_output) for one in assembled(tasks, strategy, require_feedback=False).golden}
    doubled = assembled([*tasks, *tasks], strategy, require_feedback=False)
    assert {(one.user_input, one.agent_output) for one in doubled.golden} == texts
    assert len(doubled.golden) == len(texts)


def test_failures_pass_any_threshold_and_the_lukewarm_are_dropped() -> None:
    exchange = [{"role": "user", "content": "q"}, {"role": "agent", "content": "r"}]
    tasks = [
        RawTask(
            id=TASK,
            prompt_id=1,
            context_id=None,
            created_at=datetime(2026, 3, 1, tzinfo=UTC),
            history=[*exchange, {"role": "user", "content": str(score)}, exchange[1]],
            votes=() if score is None else (Vote(kind="rating", score=score),),
        )
        for score in (None, 0.4, 0.5, 0.6, 0.8)
    ]
    dataset = assembled(tasks, STRATEGIES["last_turn"](), min_feedback_threshold=0.8)
    assert [one.feedback_score for one in dataset.golden] == [0.8]
    assert [one.feedback_score for one in dataset.failures] == [0.4]
    assert dataset.funnel.drops == {"without_feedback": 1, "below_threshold": 2}


interactions = st.lists(
    st.builds(
        Interaction,
        id=st.uuids(),
        user_input=st.sampled_from(["a", "ab", "", " "]),
        agent_output=st.sampled_from(["b", "", "bc", "\ud800"]),
        feedback_score=st.sampled_from([None, 0.2]),
        system_prompt=st.sampled_from([None, "a", "s"]),
    ),
    max_size=20,
)


@given(interactions)
def test_of_equal_texts_the_first_stays(given: list[Interaction]) -> None:
    funnel = Funnel()
    expected: dict[Any, Interaction] = {}
    for one in given:
        expected.setdefault((one.system_prompt, one.user_input, one.agent_output), one)
    assert kept(deduplicate, given, funnel) == list(expected.values())
    assert funnel.drops.get("duplicate", 0) == len(given) - len(expected)


@given(interactions)
def test_examples_that_say_nothing_are_dropped(given: list[Interaction]) -> None:
    funnel = Funnel()
    expected = [one for one in given if one.user_input.strip() and one.agent_output.strip()]
    assert kept(validate, given, funnel) == expected
    assert funnel.drops.get("empty", 0) == len(given) - len(expected)


def test_dspy_examples_have_one_input_and_what_the_objective_needs() -> None:
    one = Interaction(TASK, "q", "r", 0.2, "rating", context_id="c", comments=("bad",), correction="better")
    plain, second_window = convert_to_dspy_examples([one, replace(one, window=1)])
    assert dict(plain.inputs()) == {"input": "q"}
    assert dict(plain.labels()) == {
        "output": "r",
        "interaction": str(TASK),
        "feedback_score": 0.2,
        "feedback_type": "rating",
        "comments": ("bad",),
        "correction": "better",
        "context_id": "c",
    }
    assert second_window.interaction == f"{TASK}#1"


def test_a_failing_strategy_is_not_hidden() -> None:
    class Broken(type(STRATEGIES["last_turn"]())):  # type: ignore[misc]
        def extract(self, *_: Any) -> Any:
            raise ZeroDivisionError

    task = RawTask(
        id=TASK,
        prompt_id=1,
        context_id=None,
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
        history=[{"role": "user", "content": "q"}],
    )
    with pytest.raises(ZeroDivisionError):
        assembled([task], Broken())
