"""The shipped logs and hand-made ones come in through the public import, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest

from bindu.dspy.dataset import build_dataset, fetch_raw_task_data
from bindu.dspy.errors import ImportRefusedError, NoActivePromptError, UnknownPromptError
from bindu.dspy.importer import ImportReport, import_jsonl
from bindu.dspy.models import RawTask, TaskQuery
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.strategies import STRATEGIES

AGENT = "default"
TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]


@pytest.fixture
async def agent(storage: PostgresStorage) -> PostgresStorage:
    """An agent with a prompt."""
    await storage.bootstrap(AGENT, "Be kind.")
    return storage


def shipped() -> Iterator[str]:
    path = files("bindu.dspy.simulation") / "data" / "oasst_en100_turns.jsonl"
    yield from path.read_text(encoding="utf-8").splitlines()


def line(message_id: str, **row: Any) -> str:
    return json.dumps({"message_id": message_id, "messages": TALK, **row})


async def stored() -> list[RawTask]:
    return [task async for task in fetch_raw_task_data()]


async def votes_of(message_id: str) -> dict[str, float]:
    [task] = [task for task in await stored() if task.context_id == message_id]
    return {vote.rater_id: vote.score for vote in task.votes}


async def test_the_shipped_conversations_come_in_with_all_their_votes(agent: PostgresStorage) -> None:
    report = await import_jsonl(shipped())
    assert report == ImportReport(
        rows=646, conversations=97, tasks_new=646, tasks_known=0, votes_new=1162, votes_known=0
    )
    tasks = await stored()
    votes = [vote for task in tasks for vote in task.votes]
    assert len(tasks) == len({task.context_id for task in tasks}) == 646
    assert (sum(vote.score == 1 for vote in votes), sum(vote.score == 0 for vote in votes)) == (820, 342)
    assert len({vote.rater_id for vote in votes}) == 1162
    assert sum(bool(task.votes) for task in tasks) == 428
    assert await agent.count_tasks(TaskQuery(agent_id=AGENT, limit=1000)) == {
        "tasks": 646,
        "not_completed": 0,
        "without_feedback": 218,
        "below_threshold": 0,
        "over_limit": 0,
    }


async def test_importing_twice_changes_nothing(agent: PostgresStorage) -> None:
    await import_jsonl(shipped())
    before = await stored()
    again = await import_jsonl(shipped(), batch_size=7)
    assert again == ImportReport(
        rows=646, conversations=97, tasks_new=0, tasks_known=646, votes_new=0, votes_known=1162
    )
    assert await stored() == before


@pytest.mark.parametrize("name", STRATEGIES)
async def test_every_strategy_reads_the_shipped_conversations(agent: PostgresStorage, name: str) -> None:
    await import_jsonl(shipped())
    strategy = STRATEGIES[name]()
    dataset = await build_dataset(strategy=strategy)
    funnel = dataset.funnel
    assert funnel.drops.pop("without_feedback") == 218
    assert funnel.tasks == 646
    assert funnel.golden > 300
    assert funnel.failures > 50
    if name != "sliding_window":
        assert funnel.golden + sum(funnel.drops.values()) == 428


async def test_a_dry_run_counts_and_stores_nothing(agent: PostgresStorage) -> None:
    foreseen = await import_jsonl(shipped(), dry_run=True)
    assert await stored() == []
    done = await import_jsonl(shipped())
    assert foreseen.dry_run
    assert (foreseen.tasks_new, foreseen.votes_new) == (done.tasks_new, done.votes_new)
    known = await import_jsonl(shipped(), dry_run=True)
    assert (known.tasks_new, known.tasks_known, known.votes_known) == (0, 646, 1162)
    assert "Nothing was stored" in known.sentence


async def test_a_bad_line_stops_the_import_there_and_a_second_run_goes_on(agent: PostgresStorage) -> None:
    lines = [line(f"m{i}", feedback={"rating": 4}) for i in range(6)]
    broken = [*lines[:3], line("m3", feedback={"rating": 99}), *lines[4:]]
    with pytest.raises(ImportRefusedError, match=r"Line 4 .*99.*1 to 5"):
        await import_jsonl(broken, batch_size=2)
    assert {task.context_id for task in await stored()} == {"m0", "m1", "m2"}
    report = await import_jsonl(lines, batch_size=2)
    assert (report.tasks_known, report.tasks_new, report.votes_known, report.votes_new) == (3, 3, 3, 3)


@pytest.mark.parametrize(
    ("bad", "wrong"),
    [
        ("{", "Expecting property name"),
        ("[]", "Expected `object`, got `array`"),
        ('{"message_id": "x"}', "missing required field `messages`"),
        ('{"messages": []}', "neither message_id nor id"),
        ('{"message_id": "x", "messages": ["hi"]}', "Expected `object`, got `str`"),
        (line("x", feedback=5), "feedback"),
        (line("x", feedback={"stars": 5}), "without a rating or a thumb"),
        (line("x", feedback=[{"rating": 6}]), "6 is not a number from 1 to 5"),
        (line("x", feedback={"rating": 5, "comment": 3}), "comment of its feedback is not a text"),
        (line("x", feedback={"thumbs_up": -1, "thumbs_down": 0}), "whole number"),
        (line("x", feedback={"thumbs_up": 1, "thumbs_down": True}), "whole number"),
        (line("x", feedback={"thumbs_up": 10**9, "thumbs_down": 0}), "whole number"),
        (line("x", created_at="yesterday"), "created_at"),
        (line("x", created_at=1e300), "created_at"),
        (line("x", created_at="1999-12-31T23:59:59Z"), "before the year 2000"),
        (line("x", created_at=0), "before the year 2000"),
        (line("x", created_at="1999-12-31T23:59:59"), "before the year 2000"),
        (line("x", created_at="0001-01-01T00:00:00+14:00"), "before the year 2000"),
        (line("x", created_at="9996-01-01T00:00:00Z"), "more than a day ahead"),
        (line("x", created_at="9999-12-31T23:59:59-14:00"), "more than a day ahead"),
        ("[" * 100_000, "recursion"),
    ],
)
async def test_what_is_wrong_with_a_line_is_said(agent: PostgresStorage, bad: str, wrong: str) -> None:
    with pytest.raises(ImportRefusedError, match="Line 3 cannot be imported") as caught:
        await import_jsonl([line("ok"), "", bad, line("later")])
    assert wrong in str(caught.value)
    assert {task.context_id for task in await stored()} == {"ok"}


async def test_a_file_that_is_not_text_is_refused(agent: PostgresStorage) -> None:
    def lines() -> Iterator[str]:
        yield line("ok")
        yield b"\xff".decode()

    with pytest.raises(ImportRefusedError, match="not UTF-8 text shortly after line 1"):
        await import_jsonl(lines())
    assert len(await stored()) == 1


async def test_votes_come_as_one_as_many_or_as_counts(agent: PostgresStorage) -> None:
    await import_jsonl(
        [
            line(
                "one",
                messages=[TALK[0], {"role": "agent", "content": "r1"}],
                feedback={"rating": 4, "comment": "fine", "correction": "rr", "rater_id": "ann"},
            ),
            line("thumb", feedback={"thumbs_up": False}),
            line("many", feedback=[{"rating": 5}, {"rating": 1}, {"thumbs_up": True, "rater_id": 7}]),
            line("counts", feedback={"thumbs_up": 2, "thumbs_down": 1, "rank": 0}),
            line("none", feedback={}),
            line("comment", feedback={"rating": None, "comment": "hm"}),
        ]
    )
    assert await votes_of("one") == {"ann": 0.8}
    assert await votes_of("thumb") == {"": 0.0}
    assert await votes_of("many") == {"anonymous-1@many": 1.0, "anonymous-2@many": 0.2, "7": 1.0}
    assert await votes_of("counts") == {
        "anonymous-up-1@counts": 1.0,
        "anonymous-up-2@counts": 1.0,
        "anonymous-down-1@counts": 0.0,
    }
    assert await votes_of("none") == await votes_of("comment") == {}
    dataset = await build_dataset(min_feedback_threshold=0.75)
    assert [(one.comments, one.correction) for one in dataset.golden] == [(("fine",), "rr")]


async def test_what_is_not_stored_is_counted_by_reason(agent: PostgresStorage) -> None:
    report = await import_jsonl(
        [
            line("silent", messages=TALK[:1]),
            line("comment", feedback={"comment": "hm"}),
            line("nothing", feedback={"rating": None, "comment": None}),
        ]
    )
    assert report.skipped == {"rows_without_a_complete_turn": 1, "comments_without_a_vote": 1}
    assert (report.rows, report.tasks_new) == (3, 2)
    assert "Skipped: 1 rows without a complete turn." in report.sentence


async def test_grown_counts_add_votes_and_a_changed_mind_replaces_one(agent: PostgresStorage) -> None:
    old = [line("a", feedback={"thumbs_up": 1, "thumbs_down": 1}), line("b", feedback={"rating": 2, "rater_id": "ann"})]
    new = [line("a", feedback={"thumbs_up": 3, "thumbs_down": 1}), line("b", feedback={"rating": 5, "rater_id": "ann"})]
    await import_jsonl(old)
    report = await import_jsonl(new)
    assert (report.votes_new, report.votes_known) == (3, 2)
    await import_jsonl(old)
    assert sum((await votes_of("a")).values()) == 3
    assert await votes_of("b") == {"ann": 1.0}


async def test_the_same_message_twice_in_a_file_is_one_task(agent: PostgresStorage) -> None:
    report = await import_jsonl([line("a", feedback={"rating": 4}), line("a", feedback={"rating": 4})])
    assert (report.tasks_new, report.tasks_known, report.votes_new, report.votes_known) == (1, 1, 1, 1)
    assert len(await stored()) == 1


async def test_times_units_and_parts_are_kept(agent: PostgresStorage) -> None:
    parts = [{"role": "user", "parts": [{"kind": "text", "text": "q"}]}, {"role": "agent", "parts": [{"text": "r"}]}]
    await import_jsonl(
        [
            "\ufeff" + json.dumps({"id": 17, "messages": parts, "created_at": "2024-05-01T10:00:00+02:00"}),
            line("later", created_at=1_714_557_600.5, conversation_id="tree"),
            line("naive", created_at="2024-05-01T12:00:00"),
        ]
    )
    assert {task.context_id: task.created_at for task in await stored()} == {
        "17": datetime(2024, 5, 1, 8, tzinfo=UTC),
        "later": datetime(2024, 5, 1, 10, 0, 0, 500_000, tzinfo=UTC),
        "naive": datetime(2024, 5, 1, 12, tzinfo=UTC),
    }
    [first] = (await build_dataset(require_feedback=False)).golden
    assert (first.context_id, first.user_input, first.agent_output) == ("naive", "q", "r")


async def test_a_day_ahead_is_the_latest_time_that_is_taken(agent: PostgresStorage) -> None:
    now = datetime.now(UTC)
    soon, late = now + timedelta(hours=23), now + timedelta(hours=25)
    await import_jsonl([line("y2k", created_at="2000-01-01T00:00:00"), line("soon", created_at=soon.isoformat())])
    with pytest.raises(ImportRefusedError, match=r"Line 1 .*more than a day ahead"):
        await import_jsonl([line("late", created_at=late.isoformat())])
    assert {task.context_id: task.created_at for task in await stored()} == {
        "y2k": datetime(2000, 1, 1, tzinfo=UTC),
        "soon": soon,
    }


async def test_odd_characters_do_not_stop_an_import(agent: PostgresStorage) -> None:
    odd = r'{"message_id": "odd", "messages": [{"role": "user", "content": "a\u0000b\ud83d"}, '
    odd += r'{"role": "assistant", "content": "r"}], "feedback": {"rating": 5, "comment": "\ud83d"}}'
    report = await import_jsonl([odd])
    assert (report.tasks_new, report.votes_new) == (1, 1)
    assert (await import_jsonl([odd])).tasks_known == 1


@pytest.mark.parametrize("field", ["message_id", "id", "conversation_id", "rater_id"])
@pytest.mark.parametrize("odd", ["\\u0000", "\\ud800"])
async def test_an_id_that_would_become_another_one_s_is_refused_by_its_line(
    agent: PostgresStorage, field: str, odd: str
) -> None:
    good = line("a")
    given = {"messages": json.loads(good)["messages"], "id": "b", "feedback": {"rating": 5}}
    (given["feedback"] if field == "rater_id" else given)[field] = "x-"
    bad = json.dumps(given).replace('"x-"', f'"x{odd}"')
    with pytest.raises(ImportRefusedError, match=rf"^Line 2 .*{field} .* NUL character or a lone surrogate"):
        await import_jsonl([good, bad])
    assert (await import_jsonl([good])).tasks_known == 1


async def test_tasks_belong_to_the_active_prompt_or_to_the_one_named(storage: PostgresStorage) -> None:
    with pytest.raises(NoActivePromptError):
        await import_jsonl([line("a")])
    assert (await import_jsonl([line("a")], dry_run=True)).tasks_new == 1
    await storage.bootstrap("support", "Be kind.")
    old = await storage.add_prompt("support", "Be brief.", "deprecated")
    await import_jsonl([line("a")], agent_id="support")
    await import_jsonl([line("b")], agent_id="support", prompt_id=old.id)
    with pytest.raises(UnknownPromptError):
        await import_jsonl([line("c")], agent_id="support", prompt_id=99)
    tasks = [task async for task in fetch_raw_task_data(agent_id="support")]
    assert {task.context_id: task.prompt_id for task in tasks} == {"a": 1, "b": old.id}
