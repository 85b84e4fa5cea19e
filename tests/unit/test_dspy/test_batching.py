"""Requests that share transactions: each is answered once, with its own result or its own error."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.web import batching
from bindu.dspy.web.batching import AT_ONCE, MOST, Batcher

AGENTS = ("a", "b", "c")


class NotThatOneError(ValueError):
    """An item that cannot be stored."""


@dataclass
class Store:
    """Stores all items of a batch or none, as slowly as chance has it, and counts what happens to it."""

    random: Random
    bad: frozenset[int] = frozenset()
    away: frozenset[int] = frozenset()  # with one of these the database goes away
    stored: list[tuple[str, int]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    most: int = 0

    async def __call__(self, agent: str, items: Sequence[int]) -> list[str]:
        self.running[agent] += 1
        self.most = max(self.most, self.running[agent])
        self.batches.append(len(items))
        try:
            for _ in range(self.random.randrange(4)):
                await asyncio.sleep(0)
            if self.away.intersection(items):
                raise StorageUnavailableError("there", "it went away")
            for item in items:
                if item in self.bad:
                    raise NotThatOneError(item)
            self.stored += [(agent, item) for item in items]
            return [f"{agent}{item}" for item in items]
        finally:
            self.running[agent] -= 1


Asked = list[tuple[str, int, int]]  # agent, turns of the loop before it asks, turns before it leaves (0: it stays)
ASKED = st.lists(st.tuples(st.sampled_from(AGENTS), st.integers(0, 6), st.integers(0, 5)), max_size=60)


SEED = st.integers(0, 2**16)


async def ask_all(store: Store, asked: Asked) -> tuple[Batcher[int, str], list[str | BaseException]]:
    batcher: Batcher[int, str] = Batcher(store)

    async def ask(number: int, agent: str, begins: int) -> str:
        for _ in range(begins):
            await asyncio.sleep(0)
        return await batcher.add(agent, number)

    async def leave(task: asyncio.Task[str], turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()

    tasks = [asyncio.ensure_future(ask(number, agent, begins)) for number, (agent, begins, _) in enumerate(asked)]
    leaving = [leave(task, turns) for task, (_, _, turns) in zip(tasks, asked, strict=True) if turns]
    async with asyncio.timeout(5):
        answers, _ = await asyncio.gather(asyncio.gather(*tasks, return_exceptions=True), asyncio.gather(*leaving))
        while any(store.running.values()) or batcher._tasks:  # noqa: ASYNC110 - what those who left had asked for
            await asyncio.sleep(0)
    return batcher, list(answers)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(ASKED, st.sets(st.integers(0, 59)), SEED)
@example([("a", 0, 0)] * 60, set(), 0)
@example([("a", 0, 0)] * 60, set(range(0, 60, 7)), 1)
@example([("a", 1, 2)] * 59 + [("a", 6, 0)], {3}, 2)
def test_each_is_answered_once_with_its_own_result_or_error(asked: Asked, bad: set[int], seed: int) -> None:
    store = Store(Random(seed), bad=frozenset(bad))
    batcher, answers = asyncio.run(ask_all(store, asked))
    for number, ((agent, _, turns), answer) in enumerate(zip(asked, answers, strict=True)):
        if turns and isinstance(answer, asyncio.CancelledError):
            continue
        if number in bad:
            assert isinstance(answer, NotThatOneError)
            assert answer.args == (number,)
        else:
            assert answer == f"{agent}{number}"
            assert (agent, number) in store.stored
    assert max(Counter(store.stored).values(), default=1) == 1  # nothing twice
    assert not {number for _, number in store.stored} & bad
    assert store.most <= AT_ONCE
    assert not batcher._waiting  # nothing is kept of agents that nobody asks for
    assert not batcher._running


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ASKED, st.integers(0, 59), SEED)
def test_with_the_database_away_nobody_waits_and_the_next_ones_are_served(asked: Asked, away: int, seed: int) -> None:
    store = Store(Random(seed), away=frozenset({away}))
    _, answers = asyncio.run(ask_all(store, [(agent, begins, 0) for agent, begins, _ in asked]))
    for number, ((agent, _, _), answer) in enumerate(zip(asked, answers, strict=True)):
        if isinstance(answer, StorageUnavailableError):
            assert (agent, number) not in store.stored
        else:
            assert (answer, number == away) == (f"{agent}{number}", False)
    assert len(asked) <= away or isinstance(answers[away], StorageUnavailableError)
    assert len(store.batches) <= len(asked)  # they were not tried again one by one


async def test_those_who_come_meanwhile_share_the_next_transaction() -> None:
    store = Store(Random(0))
    gate = asyncio.Event()

    async def slow(agent: str, items: Sequence[int]) -> list[str]:
        await gate.wait()
        return await store(agent, items)

    batcher: Batcher[int, str] = Batcher(slow)
    asked = [asyncio.ensure_future(batcher.add("a", number)) for number in range(MOST + 50)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*asked) == [f"a{number}" for number in range(MOST + 50)]
    assert len(store.batches) <= 4
    assert max(store.batches) <= MOST


async def test_of_one_transaction_never_more_than_its_most_are_stored() -> None:
    store = Store(Random(0))
    batcher: Batcher[int, str] = Batcher(store)
    answers = await asyncio.gather(*(batcher.add("a", number) for number in range(5 * MOST)))
    assert answers == [f"a{number}" for number in range(5 * MOST)]
    assert max(store.batches) <= MOST
    assert len(store.batches) <= 5 + AT_ONCE


async def test_one_agents_slow_transaction_does_not_hold_up_another() -> None:
    gate = asyncio.Event()

    async def store(agent: str, items: Sequence[int]) -> list[int]:
        if agent == "slow":
            await gate.wait()
        return list(items)

    batcher: Batcher[int, int] = Batcher(store)
    slow = [asyncio.ensure_future(batcher.add("slow", number)) for number in range(3)]
    assert await asyncio.wait_for(batcher.add("quick", 7), 5) == 7
    assert not any(task.done() for task in slow)
    gate.set()
    assert await asyncio.gather(*slow) == [0, 1, 2]


async def test_a_caller_who_leaves_does_not_take_its_neighbours_along() -> None:
    gate = asyncio.Event()
    stored: list[int] = []

    async def store(_: str, items: Sequence[int]) -> list[int]:
        await gate.wait()
        stored.extend(items)
        return list(items)

    batcher: Batcher[int, int] = Batcher(store)
    asked = [asyncio.ensure_future(batcher.add("a", number)) for number in range(4)]
    await asyncio.sleep(0)
    asked[0].cancel()
    asked[3].cancel()
    gate.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answers[0]), type(answers[3])] == [asyncio.CancelledError] * 2
    assert answers[1:3] == [1, 2]
    assert set(stored) >= {0, 1, 2}


async def test_a_store_that_answers_too_little_is_an_error_for_each() -> None:
    async def store(_: str, items: Sequence[int]) -> list[int]:
        return list(items)[:-1]

    batcher: Batcher[int, int] = Batcher(store)
    with pytest.raises(ValueError, match="shorter"):
        async with asyncio.timeout(2):
            await batcher.add("a", 1)


async def test_a_silent_database_is_waited_for_some_seconds_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PATIENCE", 0.05)

    async def silent(_agent: str, _items: Sequence[int]) -> list[str]:
        await asyncio.sleep(60)
        return []

    batcher: Batcher[int, str] = Batcher(silent)
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(batcher.add("a", number) for number in range(9)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StorageUnavailableError] * 9


async def test_too_many_that_wait_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MOST_WAITING", 3)
    store = Store(Random(1))
    batcher: Batcher[int, str] = Batcher(store)
    answers = await asyncio.gather(*(batcher.add("a", number) for number in range(9)), return_exceptions=True)
    assert answers[:3] == ["a0", "a1", "a2"]
    assert [type(answer) for answer in answers[3:]] == [StorageUnavailableError] * 6


async def test_one_refused_item_costs_few_transactions() -> None:
    store = Store(Random(1), bad=frozenset({77}))
    batcher: Batcher[int, str] = Batcher(store)
    answers = await asyncio.gather(*(batcher.add("a", number) for number in range(MOST)), return_exceptions=True)
    assert sum(isinstance(answer, NotThatOneError) for answer in answers) == 1
    assert len(store.batches) < 25
