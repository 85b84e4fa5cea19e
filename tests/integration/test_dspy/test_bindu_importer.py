"""An existing Bindu database comes in: read only, once, with its own ids and times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from bindu.dspy.bindu_importer import import_bindu
from bindu.dspy.dataset import build_dataset, fetch_raw_task_data
from bindu.dspy.errors import ImportRefusedError, NoActivePromptError, SourceUnavailableError
from bindu.dspy.models import RawTask, TaskQuery
from bindu.dspy.postgres.bindu_source import open_bindu
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.reports import ImportReport
from bindu.settings import StorageSettings
from bindu_tables import BinduDatabase, message
from conftest import execute, fetch

AGENT = "default"
START = datetime(2026, 1, 5, 9, tzinfo=UTC)
ASK, ANSWER = message("user", "Where is my parcel?"), message("assistant", "It arrives on Friday.")
DID = "did_bindu_ann_support_0f3c"


@pytest.fixture
async def agent(storage: PostgresStorage) -> PostgresStorage:
    """An agent with a prompt."""
    await storage.bootstrap(AGENT, "Be kind.")
    return storage


@pytest.fixture
def source(blank_url: str) -> BinduDatabase:
    return BinduDatabase(blank_url)


@pytest.fixture
def imported(blank_url: str) -> Callable[..., Any]:
    """Imports from the Bindu database."""

    async def run(**options: Any) -> ImportReport:
        async with open_bindu(blank_url, StorageSettings()) as opened:
            return await import_bindu(opened, **options)

    return run


async def stored() -> list[RawTask]:
    """Oldest first."""
    return [task async for task in fetch_raw_task_data()][::-1]


def sent(**said: Any) -> dict[str, Any]:
    """What Bindu stores of ``tasks/feedback``."""
    return {"task_id": "x", "feedback": "", "rating": None, "metadata": {}, "timestamp": START.isoformat()} | said


async def test_tasks_come_in_with_their_ids_times_and_conversations(
    agent: PostgresStorage, source: BinduDatabase, imported: Callable[..., Any]
) -> None:
    await source.create(DID)
    first = await source.talk("one", ASK, ANSWER, at=START, schema=DID, context="c")
    again = (message("user", "And the other?"), message("agent", "On Monday,", "by noon."))
    await source.talk("two", *again, at=START + timedelta(minutes=3), schema=DID, context="c")
    await source.rate(first, sent(rating=4, feedback=" quick "), at=START + timedelta(hours=1), schema=DID)
    report = await imported()
    assert report == ImportReport(rows=2, conversations=1, tasks_new=2, tasks_known=0, votes_new=1, votes_known=0)
    one, two = await stored()
    assert await agent.find_task(AGENT, str(first)) == one.id
    assert (one.created_at, two.created_at) == (START, START + timedelta(minutes=3))
    assert one.unit_id == two.unit_id == one.context_id == two.context_id
    assert two.history == [
        {"role": "user", "content": "And the other?"},
        {"role": "assistant", "content": "On Monday,\nby noon."},
    ]
    [vote] = one.votes
    assert (vote.kind, vote.score, vote.comment, vote.rater_id) == ("rating", 0.8, "quick", "")
    golden = (await build_dataset(min_feedback_threshold=0.5)).golden
    assert [(row.user_input, row.agent_output) for row in golden] == [("Where is my parcel?", "It arrives on Friday.")]


async def test_importing_again_changes_nothing_and_brings_what_is_new(
    agent: PostgresStorage, source: BinduDatabase, imported: Callable[..., Any], postgres_url: str
) -> None:
    await source.create()
    tasks = [await source.talk(f"t{i}", ASK, ANSWER, at=START) for i in range(5)]  # one time: pages go by the id too
    await source.rate(tasks[0], sent(rating=2), at=START)
    await source.talk("open", ASK, at=START, state="working")
    assert (await imported(batch_size=2)).skipped == {"tasks_that_have_not_ended": 1}
    before = await stored()
    again = await imported(batch_size=2)
    assert (again.tasks_new, again.tasks_known, again.votes_new, again.votes_known) == (0, 5, 0, 1)
    assert await stored() == before
    await source.rate(tasks[0], sent(rating=5), at=START + timedelta(days=1))  # a changed mind
    await source.run(
        "public",
        "UPDATE tasks SET state = 'completed', history = history || $1::jsonb WHERE state = 'working'",
        "[" + '{"role": "agent", "parts": [{"kind": "text", "text": "Soon."}]}' + "]",
    )
    later = await imported(batch_size=2)
    assert (later.tasks_new, later.votes_new, later.votes_known) == (1, 1, 1)
    [rated] = [task for task in await stored() if task.votes]
    assert [vote.score for vote in rated.votes] == [1.0]
    [times] = await fetch(
        postgres_url, "SELECT array_agg(created_at ORDER BY created_at) FROM bindu_dspy.task_feedback"
    )
    assert times[0] == [START, START + timedelta(days=1)]


async def test_a_dry_run_foretells_and_stores_nothing(
    agent: PostgresStorage, source: BinduDatabase, imported: Callable[..., Any]
) -> None:
    await source.create()
    for i in range(3):
        await source.rate(await source.talk(f"t{i}", ASK, ANSWER, at=START), sent(rating=3), at=START)
    foreseen = await imported(dry_run=True)
    assert await stored() == []
    done = await imported()
    assert (foreseen.tasks_new, foreseen.votes_new) == (done.tasks_new, done.votes_new) == (3, 3)
    assert (await imported(dry_run=True)).tasks_known == 3


@pytest.mark.parametrize(
    ("data", "score"),
    [
        (sent(rating=1), 0.2),
        (sent(rating="5"), 1.0),
        ({"rating": 3}, 0.6),
        ({"thumbs_up": True}, 1.0),
        ({"thumbs_up": "false", "feedback": "no"}, 0.0),
        (sent(metadata={"thumbs_up": False}), 0.0),
        (sent(rating=2, metadata={"rating": 5}), 0.4),
        ({"rating": 4, "metadata": None}, 0.8),
        ({"rating": 4, "feedback": {"a": 1}, "correction": 7}, 0.8),
    ],
)
async def test_feedback_of_every_shape_becomes_a_score(
    agent: PostgresStorage, source: BinduDatabase, imported: Callable[..., Any], data: Any, score: float
) -> None:
    await source.create()
    await source.rate(await source.talk("t", ASK, ANSWER, at=START), data, at=START)
    assert (await imported()).votes_new == 1
    [task] = await stored()
    assert [vote.score for vote in task.votes] == [score]


async def test_raters_and_corrections_of_the_metadata_are_taken(
    agent: PostgresStorage, source: BinduDatabase, imported: Callable[..., Any]
) -> None:
    await source.create()
    task = await source.talk("t", ASK, ANSWER, at=START)
    await source.rate(task, sent(rating=2, metadata={"user_id": "ann", "correction": "On Monday."}), at=START)
    await source.rate(task, sent(rating=5, metadata={"rater_id": 7}), at=START)
    await imported()
    [found] = await stored()
    assert {vote.rater_id: (vote.score, vote.correction) for vote in found.votes} == {
        "ann": (0.4, "On Monday."),
        "7": (1.0, None),
    }


async def test_what_is_left_out_is_counted_by_reason(
    agent: PostgresStorage, source: BinduDatabase, imported: Callable[..., Any]
) -> None:
    await source.create()
    for state in ("submitted", "input-required", "auth-required", "payment-required"):
        await source.talk(state, ASK, ANSWER, at=START, state=state)
    await source.talk("silent", ASK, at=START)
    await source.talk("data", ASK, {"role": "assistant", "parts": [{"kind": "data", "data": {"a": 1}}]}, at=START)
    await source.talk("odd", "no message", None, {"role": None}, at=START)  # type: ignore[arg-type]
    await source.talk("ancient", ASK, ANSWER, at=datetime(1999, 1, 1, tzinfo=UTC))
    await source.talk("future", ASK, ANSWER, at=datetime.now(UTC) + timedelta(days=3))
    failed = await source.talk(
        "failed", ASK, message("assistant", "Task execution failed: x"), at=START, state="failed"
    )
    for data in (sent(rating=99), sent(), 7, None, [], sent(feedback="hm"), sent(rating=3, metadata={"user_id": [1]})):
        await source.rate(failed, data, at=START)
    report = await imported()
    assert report.skipped == {
        "tasks_that_have_not_ended": 4,
        "tasks_without_a_complete_turn": 3,
        "tasks_of_an_impossible_time": 2,
        "votes_of_no_known_shape": 6,
        "comments_without_a_vote": 1,
    }
    assert (report.rows, report.tasks_new, report.votes_new) == (10, 1, 0)
    counts = await agent.count_tasks(TaskQuery(agent_id=AGENT, limit=10))
    assert (counts["tasks"], counts["not_completed"]) == (1, 1)


async def test_the_legacy_schema_and_the_agents_own_come_together_but_not_two_agents(
    agent: PostgresStorage, source: BinduDatabase, imported: Callable[..., Any]
) -> None:
    for schema in ("public", DID):
        await source.create(schema)
        await source.talk(schema, ASK, ANSWER, at=START, schema=schema)
    assert (await imported(dry_run=True)).tasks_new == 2
    odd = 'did "other"'
    await source.create(odd.replace('"', '""'))
    await source.run(odd.replace('"', '""'), "SELECT 1")
    with pytest.raises(ImportRefusedError, match=r"several agents: did \"other\", did_bindu_ann_support_0f3c, public"):
        await imported()
    assert (await imported(schemas=[DID])).tasks_new == 1
    assert (await imported(schemas=[odd, "public", "public"])).tasks_new == 1
    with pytest.raises(ImportRefusedError, match=r"Schema 'nobody' of .* has no Bindu tables"):
        await imported(schemas=["nobody"])


async def test_our_own_database_and_an_empty_one_are_no_bindu_database(
    agent: PostgresStorage, blank_url: str, postgres_url: str
) -> None:
    for url in (blank_url, postgres_url):
        async with open_bindu(url, StorageSettings()) as opened:
            with pytest.raises(ImportRefusedError, match="has Bindu's tables"):
                await import_bindu(opened)


async def test_nothing_is_written_to_the_source_even_by_what_reading_it_sets_off(
    agent: PostgresStorage, source: BinduDatabase, imported: Callable[..., Any], blank_url: str
) -> None:
    await source.create()
    await source.talk("t", ASK, ANSWER, at=START)
    await execute(
        blank_url,
        "CREATE TABLE seen (at timestamptz)",
        "CREATE FUNCTION note() RETURNS bool LANGUAGE sql VOLATILE AS "
        "$$INSERT INTO public.seen VALUES (now()) RETURNING true$$",
        "ALTER TABLE tasks RENAME TO all_tasks",
        "CREATE VIEW tasks AS SELECT * FROM all_tasks WHERE note()",
    )
    with pytest.raises(SourceUnavailableError, match="read-only transaction"):
        await imported()
    assert await fetch(blank_url, "SELECT FROM tasks") != []  # for others it is one
    assert await stored() == []


async def test_the_source_is_asked_through_pgbouncer_too(source: BinduDatabase, blank_url: str) -> None:
    await source.create()
    async with open_bindu(blank_url, StorageSettings(statement_cache_size=0)) as opened:
        sent = await opened._connection.fetch("SELECT name FROM pg_settings WHERE source = 'client'")
        assert {row["name"] for row in sent} <= {"application_name", "client_encoding"}  # it refuses most others
        asked: list[str] = []
        opened._connection.add_query_logger(lambda logged: asked.append(logged.query))
        assert await opened.schemas() == ["public"]
    begin, _, commit = asked  # outside of a transaction it may change the server within a query
    assert (begin, commit) == ("BEGIN READ ONLY;", "COMMIT;")


async def test_a_reader_without_rights_and_a_wrong_address_are_told(
    agent: PostgresStorage, source: BinduDatabase, blank_url: str, imported: Callable[..., Any]
) -> None:
    await source.create()
    await execute(blank_url, "CREATE ROLE bindu_reader LOGIN")
    try:
        user = urlsplit(blank_url).username
        connected = blank_url.replace(f"//{user}@", "//bindu_reader@")
        with pytest.raises(SourceUnavailableError, match=r"permission denied .* Check its URL"):
            async with open_bindu(connected, StorageSettings()) as opened:
                await import_bindu(opened)
    finally:
        await execute(blank_url, "DROP ROLE bindu_reader")
    with pytest.raises(SourceUnavailableError) as caught:
        async with open_bindu("postgresql://u:s3cret@[broken/x", StorageSettings()):
            pass
    assert "s3cret" not in str(caught.value)
    assert "STORAGE__POSTGRES_URL" not in str(caught.value)


async def test_an_agent_needs_a_prompt_that_the_tasks_belong_to(
    storage: PostgresStorage, source: BinduDatabase, imported: Callable[..., Any]
) -> None:
    await source.create()
    await source.talk("t", ASK, ANSWER, at=START)
    with pytest.raises(NoActivePromptError):
        await imported()
    assert (await imported(dry_run=True)).tasks_new == 1
