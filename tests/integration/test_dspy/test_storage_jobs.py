"""Leases in the database: one holder at a time, whoever asks first, and never for a slot that is done."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from bindu.dspy.housekeeping import Job
from bindu.dspy.postgres.storage import PostgresStorage

SLOT = datetime(2026, 3, 1, 2, tzinfo=UTC)
DAY, LEASE = timedelta(days=1), timedelta(seconds=30)


async def claim(storage: PostgresStorage, holder: str, *, slot: datetime = SLOT, now: datetime = SLOT) -> Job | None:
    return await storage.claim_job("a", "train", holder, slot=slot, lease=LEASE, now=now)


async def test_a_job_that_nobody_saw_cannot_be_claimed_and_an_enrolled_one_is_done_for_its_slot(
    storage: PostgresStorage,
) -> None:
    assert await claim(storage, "one") is None
    assert await storage.enroll_job("a", "train", slot=SLOT)
    assert not await storage.enroll_job("a", "train", slot=SLOT + DAY)
    assert await claim(storage, "one") is None
    assert await storage.jobs("a") == [Job(agent_id="a", name="train", last_slot=SLOT)]
    assert await storage.jobs("b") == []


async def test_of_many_that_claim_at_once_one_gets_the_job(storage: PostgresStorage) -> None:
    await storage.enroll_job("a", "train", slot=SLOT - DAY)
    claimed = [job for job in await asyncio.gather(*(claim(storage, f"w{i}") for i in range(20))) if job]
    assert len(claimed) == 1
    assert claimed[0].fence == 1
    assert await storage.jobs("a") == claimed


async def test_a_lease_that_ran_out_is_taken_over_and_its_holder_may_do_nothing_more(storage: PostgresStorage) -> None:
    await storage.enroll_job("a", "train", slot=SLOT - DAY)
    first = await claim(storage, "one")
    assert first is not None
    assert await claim(storage, "two", now=SLOT + LEASE - timedelta(seconds=1)) is None
    assert await storage.renew_job(first, lease=LEASE, now=SLOT + timedelta(seconds=10))
    assert await claim(storage, "two", now=SLOT + LEASE) is None
    second = await claim(storage, "two", now=SLOT + LEASE + timedelta(seconds=10))
    assert second is not None
    assert second.fence == 2
    assert not await storage.renew_job(first, lease=LEASE)
    assert not await storage.finish_job(first, "improved", slot=SLOT)
    assert await storage.jobs("a") == [second]


async def test_the_same_holder_with_an_older_fence_is_another_holder(storage: PostgresStorage) -> None:
    await storage.enroll_job("a", "train", slot=SLOT - DAY)
    first = await claim(storage, "one")
    again = await claim(storage, "one", now=SLOT + DAY)
    assert first is not None
    assert again is not None
    assert not await storage.renew_job(first, lease=LEASE)
    assert await storage.renew_job(again, lease=LEASE)


async def test_a_job_is_done_for_a_slot_or_given_back_unfinished(storage: PostgresStorage) -> None:
    await storage.enroll_job("a", "train", slot=SLOT - DAY)
    first = await claim(storage, "one")
    assert first is not None
    assert await storage.finish_job(first, "interrupted", slot=None)
    second = await claim(storage, "two")
    assert second is not None
    assert second.last_outcome == "interrupted"
    assert await storage.finish_job(second, "unchanged", slot=SLOT)
    assert await claim(storage, "three") is None
    [job] = await storage.jobs("a")
    assert (job.holder, job.lease_until, job.last_slot, job.last_outcome) == (None, None, SLOT, "unchanged")


async def test_agents_are_those_with_a_prompt(storage: PostgresStorage) -> None:
    assert await storage.agent_ids() == []
    for agent_id in ("b", "a"):
        await storage.bootstrap(agent_id, "Be kind.")
    assert await storage.agent_ids() == ["a", "b"]
    assert await storage.agent_ids(["b", "c"]) == ["b"]
    assert await storage.agent_ids([]) == []
