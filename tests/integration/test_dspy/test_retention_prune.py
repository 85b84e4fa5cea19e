"""Old months go whole: what is left agrees, nobody waits for long, and a kill loses nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from bindu.dspy.canary.checking import check_experiment
from bindu.dspy.dataset import build_dataset
from bindu.dspy.errors import BinduError, UnknownTaskError
from bindu.dspy.housekeeping import Month, Pruned
from bindu.dspy.insights import agent_status, newest_votes
from bindu.dspy.models import Remark
from bindu.dspy.postgres import retention
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.retention import PruneReport, prune_months
from bindu.dspy.storage import Storage
from conftest import everything, execute, fetch, value
from faults import break_writes, mend_writes
from samples import AGENT, a_task, a_vote, id_at
from trials import at, running_trial

NOW = datetime(2026, 9, 15, tzinfo=UTC)
HALF_A_YEAR = timedelta(days=180)  # before NOW: in March


async def prune(now: datetime = NOW, age: timedelta = HALF_A_YEAR, *, dry_run: bool = False) -> PruneReport:
    return await prune_months(age, dry_run=dry_run, actor="ann", reason="Half a year is enough.", now=now)


async def a_years_tasks(storage: Storage, agent_id: str = AGENT) -> dict[int, UUID]:
    """One task with a vote, a remark and a key for each month of 2026."""
    await storage.bootstrap(agent_id, "Be kind.", now=datetime(2026, 1, 1, tzinfo=UTC))
    times = {month: datetime(2026, month, 5, tzinfo=UTC) for month in range(1, 10)}
    tasks = [
        a_task(agent_id=agent_id, created_at=when, external_id=f"key {month}", unit_id=f"unit {month}")
        for month, when in times.items()
    ]
    await storage.add_tasks(tasks)
    await storage.add_feedback([a_vote(task.id, agent_id=agent_id, created_at=NOW) for task in tasks])
    remarks = [Remark(agent_id=agent_id, task_id=task.id, id=id_at(NOW), rater_id="b", comment="Hm.") for task in tasks]
    await storage.add_feedback(remarks)
    return {month: task.id for month, task in zip(times, tasks, strict=True)}


async def left(url: str) -> list[tuple[int, ...]]:
    """The months of tasks, votes, remarks and keys that there are, per table."""
    columns = {"tasks": "id", "task_feedback": "task_id", "remarks": "task_id", "task_keys": "task_id"}
    found = []
    for table, column in columns.items():
        ids = await fetch(url, f"SELECT DISTINCT {column} FROM bindu_dspy.{table} ORDER BY 1")
        found.append(tuple(sorted({datetime.fromtimestamp((one[0].int >> 80) / 1000, UTC).month for one in ids})))
    return found


async def test_whole_months_of_all_agents_go_with_all_that_hangs_on_them(
    storage: PostgresStorage, postgres_url: str
) -> None:
    tasks = await a_years_tasks(storage)
    await a_years_tasks(storage, "another")
    prompts = await fetch(postgres_url, "SELECT * FROM bindu_dspy.prompts ORDER BY 1, 2")
    preview = await prune(dry_run=True)
    assert await left(postgres_url) == [tuple(range(1, 10))] * 4
    report = await prune()
    gone = tuple(Pruned(month=f"2026-0{month}", tasks=2, votes=2, remarks=2, keys=2) for month in (1, 2))
    assert report.months == preview.months == gone
    assert report.sentence == "Dropped 2026-01, 2026-02, of all agents: 4 tasks and 4 votes."
    assert await left(postgres_url) == [tuple(range(3, 10))] * 4
    assert await fetch(postgres_url, "SELECT * FROM bindu_dspy.prompts ORDER BY 1, 2") == prompts
    trail = await storage.audit("*")
    assert [(one.action, one.subject, one.actor, one.reason) for one in reversed(trail)] == [
        ("prune", f"month {month.month}", "ann", "Half a year is enough.") for month in gone
    ]
    assert trail[0].details == {"tasks": 2, "votes": 2, "remarks": 2, "task_keys": 2}
    with pytest.raises(UnknownTaskError):
        await storage.add_feedback([a_vote(tasks[2])])
    assert (await storage.find_task(AGENT, "key 2"), await storage.find_task(AGENT, "key 3")) == (None, tasks[3])


async def test_pruning_again_drops_nothing_and_is_not_told(storage: PostgresStorage) -> None:
    await a_years_tasks(storage)
    await prune()
    report = await prune()
    assert (report.months, report.sentence) == ((), "No month of tasks is that old.")
    assert len(await storage.audit("*")) == 2


async def test_a_task_that_comes_late_brings_its_month_back_until_the_next_pruning(
    storage: PostgresStorage, postgres_url: str
) -> None:
    await a_years_tasks(storage)
    await prune()
    [late] = await storage.add_tasks([a_task(created_at=datetime(2026, 2, 7, tzinfo=UTC), external_id="key 2")])
    await storage.add_feedback([a_vote(late)])
    assert [months[0] for months in await left(postgres_url)] == [2, 2, 3, 2]
    assert [month.tasks for month in (await prune()).months] == [1]


async def test_the_current_month_is_never_dropped(storage: PostgresStorage, postgres_url: str) -> None:
    await a_years_tasks(storage)
    await prune(datetime(2026, 9, 30, 23, tzinfo=UTC), timedelta(days=0))
    assert await left(postgres_url) == [(9,)] * 4


async def test_the_months_of_a_running_experiment_of_any_agent_are_kept(storage: PostgresStorage) -> None:
    await a_years_tasks(storage)
    desk = await running_trial(storage, agent_id="another", now=datetime(2026, 3, 1, 6, tzinfo=UTC))
    report = await prune(age=timedelta(days=60))
    assert [month.month for month in report.months] == ["2026-01"]
    assert report.kept == ("2026-02", "2026-03", "2026-04", "2026-05", "2026-06")  # a clock may be a day behind
    assert "Kept, as a running experiment" in report.sentence
    assert desk.experiment.state == "running"


async def test_an_ended_experiment_agrees_with_its_log_when_its_tasks_are_gone(
    storage: PostgresStorage, postgres_url: str
) -> None:
    desk = await running_trial(storage)
    for hours in range(1, 5):
        await desk.serve(hours - 0.5, active=[1, 1, 0, 1, 1, 1], candidate=[0, 0, 1, 0, 0, 1])
        await desk.look(hours)
    while (await storage.experiments(AGENT, limit=1))[0].state == "running":
        hours += 1
        await desk.serve(hours - 0.5, active=[1] * 6, candidate=[0] * 6)
        await desk.look(hours)
    before = await check_experiment()
    kept = await everything(postgres_url)
    [june] = (await prune(at(24 * 100), timedelta(days=31))).months
    assert (june.month, june.tasks) == ("2026-06", hours * 12)
    after = await check_experiment()
    assert (before.differences, before.edited, before.without_votes) == ((), 0, 0)
    assert (after.differences, after.units, after.windows) == ((), before.units, before.windows)
    assert after.edited == after.without_votes == after.units
    assert f"{after.units} of them have no votes any more" in after.sentence
    assert await everything(postgres_url) == kept
    status = await agent_status(AGENT, now=at(24 * 100))
    assert [report.metrics.num_interactions for report in status.prompts] == [0, 0]
    assert (await build_dataset(None)).golden == []
    assert await newest_votes(AGENT) == []


@pytest.mark.parametrize("manner", ["terminate", "refuse"])
async def test_a_pruning_that_dies_in_the_middle_of_a_month_leaves_it_whole(
    storage: PostgresStorage, postgres_url: str, manner: str
) -> None:
    await a_years_tasks(storage)
    await break_writes(postgres_url, ("audit", "INSERT"), moment="before", manner=manner)  # type: ignore[arg-type]
    with pytest.raises(BinduError):
        await prune()
    assert await left(postgres_url) == [tuple(range(1, 10))] * 4
    await mend_writes(postgres_url)
    assert len((await prune()).months) == 2
    assert await left(postgres_url) == [tuple(range(3, 10))] * 4


async def test_of_two_prunings_at_once_each_month_is_dropped_by_one(
    storage: PostgresStorage, postgres_url: str
) -> None:
    await a_years_tasks(storage)
    reports = await asyncio.gather(prune(), prune())
    assert sorted(month.month for report in reports for month in report.months) == ["2026-01", "2026-02"]
    assert len(await storage.audit("*")) == 2
    assert await left(postgres_url) == [tuple(range(3, 10))] * 4


async def test_while_somebody_reads_for_long_nothing_is_dropped_and_others_go_on(
    storage: PostgresStorage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_years_tasks(storage)
    monkeypatch.setattr(retention, "_TRIES", 2)
    monkeypatch.setattr(retention, "_PAUSE", 0.01)
    reader = await asyncpg.connect(postgres_url)
    try:
        async with reader.transaction():
            await reader.fetch("SELECT count(*) FROM bindu_dspy.tasks")
            with pytest.raises(BinduError, match="Month 2026-01 is in use"):
                await prune()
    finally:
        await reader.close()
    assert await left(postgres_url) == [tuple(range(1, 10))] * 4
    assert await storage.audit("*") == []
    assert len((await prune()).months) == 2


async def test_when_a_later_month_is_in_use_the_error_says_what_has_gone(
    storage: PostgresStorage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_years_tasks(storage)
    monkeypatch.setattr(retention, "_TRIES", 1)
    monkeypatch.setattr(retention, "_PAUSE", 0)
    drop_month, reader = PostgresStorage.drop_month, await asyncpg.connect(postgres_url)

    async def in_use(self: PostgresStorage, month: Month, **given: Any) -> Pruned | None:
        if month.number == 2:
            await reader.execute("BEGIN; SELECT FROM bindu_dspy.tasks")
        return await drop_month(self, month, **given)

    monkeypatch.setattr(PostgresStorage, "drop_month", in_use)
    try:
        with pytest.raises(BinduError, match=r"Month 2026-02 is in use.* Done before: Dropped 2026-01, of all agents"):
            await prune()
    finally:
        await reader.close()
    assert (await left(postgres_url))[0] == tuple(range(2, 10))


async def test_whoever_records_and_votes_meanwhile_loses_nothing(storage: PostgresStorage, postgres_url: str) -> None:
    await a_years_tasks(storage)
    done = asyncio.Event()

    async def work(name: str) -> int:
        stored = 0
        while not done.is_set():
            [task_id] = await storage.add_tasks([a_task(unit_id=name)])
            await storage.add_feedback([a_vote(task_id)])
            stored += 1
        return stored

    workers = [asyncio.create_task(work(f"worker {number}")) for number in range(4)]
    await asyncio.sleep(0)
    report = await prune()
    done.set()
    stored = sum(await asyncio.gather(*workers))
    assert len(report.months) == 2
    assert await value(postgres_url, "SELECT count(*) FROM bindu_dspy.tasks WHERE unit_id LIKE 'worker%'") == stored
    voted = "SELECT count(*) FROM bindu_dspy.task_feedback WHERE unit_id LIKE 'worker%'"
    assert await value(postgres_url, voted) == stored


async def test_a_partition_of_another_name_is_left_alone(storage: PostgresStorage, postgres_url: str) -> None:
    await a_years_tasks(storage)
    await execute(
        postgres_url,
        "CREATE TABLE bindu_dspy.archive (LIKE bindu_dspy.tasks INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
        "ALTER TABLE bindu_dspy.tasks ATTACH PARTITION bindu_dspy.archive FOR VALUES FROM "
        "('00000000-0000-7000-8000-000000000000') TO ('00f00000-0000-7000-8000-000000000000')",
    )
    assert len((await prune()).months) == 2
    assert await value(postgres_url, "SELECT to_regclass('bindu_dspy.archive') IS NOT NULL") is True
