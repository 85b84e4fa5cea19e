"""The JSON API on a real database: every answer, every shape of feedback, and what is refused stores nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.storage import close_storage
from bindu.dspy.web import operations
from bindu.settings import app_settings
from conftest import execute, fetch, named, value
from samples import TALK, open_trial
from serving import OURS, Served, serving

TABLES = ("tasks", "task_keys", "task_feedback", "remarks", "prompts", "api_keys", "signing_keys")


@pytest.fixture
async def served(storage: PostgresStorage) -> AsyncIterator[Served]:
    await bootstrap_prompt("You help.")
    async with serving() as started:
        yield started


@pytest.fixture
def http(served: Served) -> httpx.AsyncClient:
    return served.http


async def counts(url: str) -> list[int]:
    rows = ", ".join(f"(SELECT count(*) FROM bindu_dspy.{table})" for table in TABLES)
    return list((await fetch(url, f"SELECT {rows}"))[0])


async def task(http: httpx.AsyncClient, **more: Any) -> str:
    answer = await http.post("/v1/tasks", json={"history": TALK, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def rate(http: httpx.AsyncClient, task_id: str, **said: Any) -> str:
    answer = await http.post(f"/v1/tasks/{task_id}/feedback", json=said)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def said_why(answer: httpx.Response) -> str:
    """The sentence of a refusal, once it is one."""
    error = answer.json()["error"]
    assert error["message"].count(" ") > 2, answer.text
    assert error["message"].endswith((".", ").")) or ". " in error["message"], answer.text
    assert error["type"].replace("_", "").islower()
    return str(error["message"])


async def test_what_select_serves_goes_back_with_the_task_and_counts_for_it(
    http: httpx.AsyncClient, storage: PostgresStorage, postgres_url: str
) -> None:
    chosen = (await http.post("/v1/select", json={"unit_id": "c1"})).json()["prompt"]
    assert (chosen["id"], chosen["prompt_text"], chosen["arm"], chosen["unit_id"]) == (1, "You help.", "active", "c1")
    stored = await task(http, prompt=chosen, usage={"total_tokens": 7}, latency_ms=12.5, context_id=77)
    columns = "id, prompt_id, unit_id, context_id, state, latency_ms"
    [row] = await fetch(postgres_url, f"SELECT {columns} FROM bindu_dspy.tasks")
    assert tuple(row) == (UUID(stored), 1, "c1", "77", "completed", 12.5)


async def test_a_conversation_keeps_its_arm_and_candidates_get_their_share(
    http: httpx.AsyncClient, storage: PostgresStorage
) -> None:
    await open_trial(storage)
    arms = {}
    for _ in range(2):
        for unit in range(200):
            prompt = (await http.post("/v1/select", json={"unit_id": unit})).json()["prompt"]
            assert arms.setdefault(unit, prompt["arm"]) == prompt["arm"]
    assert 5 <= sum(arm == "candidate" for arm in arms.values()) <= 40  # of 200, a tenth


async def test_an_agent_without_a_prompt_is_not_found_or_begins_with_the_default(http: httpx.AsyncClient) -> None:
    missing = await http.post("/v1/select", json={"agent": "new"})
    assert (missing.status_code, "'new' has no active prompt" in said_why(missing)) == (404, True)
    assert (await http.post("/v1/tasks", json={"agent": "new", "history": TALK})).status_code == 404
    served = (await http.post("/v1/select", json={"agent": "new", "default": "You greet."})).json()["prompt"]
    assert (served["id"], served["prompt_text"], served["agent_id"]) == (1, "You greet.", "new")
    assert (await http.post("/v1/tasks", json={"prompt": served, "history": TALK})).status_code == 201


async def test_the_agent_is_named_in_the_body_or_the_header(http: httpx.AsyncClient) -> None:
    await bootstrap_prompt("You sell.", agent_id="shop")
    by_body = await http.post("/v1/select", json={"agent": "shop"}, headers={"x-prompt-name": "default"})
    by_header = await http.post("/v1/select", json={}, headers={"x-prompt-name": "shop"})
    assert {answer.json()["prompt"]["prompt_text"] for answer in (by_body, by_header)} == {"You sell."}
    too_long = await http.post("/v1/select", json={}, headers={"x-prompt-name": "shop" * 51})
    assert too_long.json()["prompt"]["agent_id"] == app_settings.dspy.agent_id
    prompt = by_body.json()["prompt"]  # and the prompt that was served names it too
    stored = await http.post(
        "/v1/tasks", json=[{"history": TALK, "prompt": prompt}, {"history": TALK, "agent": "shop"}]
    )
    assert len(stored.json()["ids"]) == 2
    preview = await http.get("/v1/dataset/preview", params={"agent": "shop"})
    assert preview.json()["funnel"]["tasks"] == 2


async def test_recording_a_task_again_changes_nothing(http: httpx.AsyncClient, postgres_url: str) -> None:
    first = await task(http, task_id="r-1")
    assert await task(http, task_id="r-1", state="failed") == first
    assert await value(postgres_url, "SELECT array_agg(state) FROM bindu_dspy.tasks") == ["completed"]


async def test_a_lone_surrogate_which_models_emit_is_no_reason_to_lose_an_exchange(
    http: httpx.AsyncClient, postgres_url: str
) -> None:
    body = b'{"history": [{"role": "user", "content": "a\\ud83d"}, {"role": "assistant", "content": "b\\uDE00"}]}'
    stored = (await http.post("/v1/tasks", content=body)).json()["id"]
    history = await value(postgres_url, "SELECT history::text FROM bindu_dspy.tasks")
    assert [message["content"][0] for message in json.loads(history)] == ["a", "b"]
    said = b'{"rating": 4, "comment": "\\udc80 no"}'
    assert (await http.post(f"/v1/tasks/{stored}/feedback", content=said)).status_code == 201
    for odd in (
        b'{"rating": NaN, "comment": "\\udc80"}',
        b'{"rating": 4, "x": "\\udc80"}',
        b'{"rating": "\\udc80"}',
        b'"\\udc80',
    ):
        answer = await http.post(f"/v1/tasks/{stored}/feedback", content=odd)
        assert answer.status_code in (400, 422), answer.text
        said_why(answer)
    served = await http.post("/v1/select", content=b'{"agent": "new", "default": "x\\ud800"}')
    assert (served.status_code, served.json()["prompt"]["prompt_text"]) == (200, "x?")


async def test_a_batch_is_stored_whole_or_not_at_all(http: httpx.AsyncClient, postgres_url: str) -> None:
    good = await http.post("/v1/tasks", json=[{"history": TALK, "task_id": f"b-{number}"} for number in range(3)])
    assert (good.status_code, len(set(good.json()["ids"])), "id" in good.json()) == (201, 3, False)
    before = await counts(postgres_url)
    one_bad = [{"history": TALK}, {"history": TALK, "prompt_id": 9}, {"history": TALK}]
    assert (await http.post("/v1/tasks", json=one_bad)).status_code == 404
    torn = [{"history": TALK}, {"history": [{"role": "user"}]}]
    assert (await http.post("/v1/tasks", json=torn)).status_code == 422
    assert await counts(postgres_url) == before


async def test_a_batch_belongs_to_one_agent_and_has_a_size(http: httpx.AsyncClient, postgres_url: str) -> None:
    await bootstrap_prompt("You sell.", agent_id="shop")
    before = await counts(postgres_url)
    mixed = await http.post("/v1/tasks", json=[{"history": TALK}, {"history": TALK, "agent": "shop"}])
    assert (mixed.status_code, "belong to one agent" in said_why(mixed)) == (422, True)
    for size in (0, app_settings.dspy.server.max_batch + 1):
        answer = await http.post("/v1/tasks", json=[{"history": TALK}] * size)
        assert (answer.status_code, "1 to 1,000 tasks" in said_why(answer)) == (422, True)
    assert await counts(postgres_url) == before


GOOD_VOTES: tuple[tuple[dict[str, Any], str, float], ...] = (
    ({"rating": 1}, "rating", 0.2),
    ({"rating": 5}, "rating", 1.0),
    ({"rating": 3.5}, "rating", 0.7),
    ({"rating": "4"}, "rating", 0.8),
    ({"rating": " 4.5 "}, "rating", 0.9),
    ({"thumbs_up": True}, "thumbs_up", 1.0),
    ({"thumbs_up": False}, "thumbs_up", 0.0),
    ({"thumbs_up": 1}, "thumbs_up", 1.0),
    *(({"thumbs_up": word}, "thumbs_up", 1.0) for word in ("true", "TRUE", " yes ", "1", "up")),
    *(({"thumbs_up": word}, "thumbs_up", 0.0) for word in ("false", "No", "0", "down")),
    ({"score": 0}, "thumbs_up", 0.0),
    ({"score": 0.25}, "thumbs_up", 0.25),
    ({"score": "1"}, "thumbs_up", 1.0),
    ({"label": "good"}, "thumbs_up", 1.0),
    ({"label": "Thumbs Up"}, "thumbs_up", 1.0),
    ({"label": "unhelpful"}, "thumbs_up", 0.0),
    ({"rating": 2, "thumbs_up": True, "score": 1, "label": "good"}, "rating", 0.4),
    ({"thumbs_up": False, "label": "good"}, "thumbs_up", 0.0),
    ({"rating": None, "thumbs_up": True}, "thumbs_up", 1.0),
    ({"rating": 3, "comment": "So so.", "correction": "Tomorrow."}, "rating", 0.6),
)


async def test_votes_of_every_shape_are_stored_when_the_answer_arrives(
    http: httpx.AsyncClient, postgres_url: str
) -> None:
    stored = await task(http)
    for number, (said, kind, score) in enumerate(GOOD_VOTES):
        vote = await rate(http, stored, rater_id=number, **said)
        query = "SELECT kind, score, rater_id, comment FROM bindu_dspy.task_feedback WHERE id = $1"
        [row] = await fetch(postgres_url, query, UUID(vote))
        assert tuple(row) == (kind, pytest.approx(score), str(number), said.get("comment")), said
    query = "SELECT feedback_data ->> 'correction' FROM bindu_dspy.task_feedback ORDER BY id DESC LIMIT 1"
    assert await value(postgres_url, query) == "Tomorrow."


async def test_a_rater_has_one_vote_that_may_change_and_its_history_is_kept(
    http: httpx.AsyncClient, postgres_url: str
) -> None:
    stored = await task(http)
    for said in ({"rating": 1}, {"thumbs_up": True}, {"comment": "Thank you!"}):
        await rate(http, stored, rater_id="alice", **said)
    await rate(http, stored, rater_id="bob", rating=2)
    await rate(http, stored, rating=4)  # nobody known
    columns = "rater_id, score, comment, superseded_by IS NULL AS current"
    rows = await fetch(postgres_url, f"SELECT {columns} FROM bindu_dspy.task_feedback ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("alice", 0.2, None, False),
        ("alice", 1.0, None, False),
        ("alice", 1.0, "Thank you!", True),
        ("bob", 0.4, None, True),
        ("", 0.8, None, True),
    ]


async def test_words_without_a_vote_are_kept_and_count_for_nothing(http: httpx.AsyncClient, postgres_url: str) -> None:
    stored = await task(http)
    for said in ({"comment": "Nice."}, {"correction": "It is lost."}):
        await rate(http, stored, rater_id="alice", **said)
    rows = await fetch(postgres_url, "SELECT rater_id, comment, correction FROM bindu_dspy.remarks ORDER BY id")
    assert [tuple(row) for row in rows] == [("alice", "Nice.", None), ("alice", None, "It is lost.")]
    [prompt] = (await http.get("/v1/prompts")).json()["prompts"]
    assert (prompt["metrics"]["num_interactions"], prompt["metrics"]["num_rated"]) == (1, 0)


async def test_an_attempt_repeated_with_its_key_is_stored_once(http: httpx.AsyncClient, postgres_url: str) -> None:
    stored = await task(http)
    for said in ({"rating": 2}, {"comment": "Hm."}):
        key = f"key of {said}"
        first = await rate(http, stored, rater_id="alice", idempotency_key=key, **said)
        assert await rate(http, stored, rater_id="alice", idempotency_key=key, **said) == first
    assert await value(postgres_url, "SELECT count(*) FROM bindu_dspy.task_feedback") == 2
    remark = await rate(http, stored, rater_id="bob", idempotency_key=7, comment="Oh.")
    assert await rate(http, stored, rater_id="bob", idempotency_key=7, comment="Oh.") == remark
    assert await value(postgres_url, "SELECT count(*) FROM bindu_dspy.remarks") == 1


async def test_feedback_finds_its_answer_by_any_id(http: httpx.AsyncClient, postgres_url: str) -> None:
    ours = await task(http, task_id="resp-1", context_id="c1")
    latest = await task(http, task_id=2, context_id="c1")
    ways: tuple[tuple[dict[str, Any], str], ...] = (
        ({"task_id": ours}, ours),
        ({"task_id": "resp-1"}, ours),
        ({"task_id": 2}, latest),
        ({"response_id": "resp-1"}, ours),
        ({"conversation_id": "c1"}, latest),
    )
    for number, (way, expected) in enumerate(ways):
        answer = await http.post("/v1/feedback", json={**way, "rating": 4, "rater_id": number})
        assert answer.status_code == 201, answer.text
        query = "SELECT task_id FROM bindu_dspy.task_feedback WHERE id = $1"
        assert (await fetch(postgres_url, query, UUID(answer.json()["id"])))[0][0] == UUID(expected), way
    for unknown in ({"task_id": "resp-9"}, {"response_id": 3}, {"conversation_id": "c9"}):
        answer = await http.post("/v1/feedback", json={**unknown, "rating": 4})
        assert (answer.status_code, "has no task" in said_why(answer)) == (404, True)


MALFORMED: dict[str, tuple[Any, ...]] = {
    "no vote": (
        {},
        {"rating": None},
        {"comment": ""},
        {"comment": " \n", "correction": "\t"},
        {"rater_id": "alice"},
        {"idempotency_key": "k"},
        None,
        [],
        [{"rating": 4}],
        "rating",
        4,
        True,
    ),
    "ratings": tuple(
        {"rating": rating}
        for rating in (
            0,
            6,
            -1,
            5.01,
            0.99,
            99,
            True,
            False,
            "",
            "five",
            "0",
            "6",
            "nan",
            "inf",
            "4 stars",
            [4],
            {},
            1e300,
        )
    ),
    "thumbs": tuple({"thumbs_up": thumb} for thumb in (2, -1, 0.5, "", "maybe", "2", [], {"up": True}, 10**30)),
    "scores": tuple({"score": score} for score in (-0.01, 1.01, 5, "2", "good", True, [1], {}, "-0.1", "nan")),
    "labels": tuple({"label": label} for label in ("", "meh", "goodbad", 1, True, ["good"], {}, "👍", "x" * 101)),
    "words": (
        {"comment": 1},
        {"comment": ["Nice."]},
        {"rating": 4, "comment": {}},
        {"rating": 4, "comment": "x" * 100_001},
        {"rating": 4, "correction": 5},
        {"rating": 4, "correction": "x" * 100_001},
        {"rating": "4." + "0" * 200},
        {"thumbs_up": " " * 200 + "true"},
    ),
    "names": (
        {"rating": 4, "rater_id": ""},
        {"rating": 4, "rater_id": True},
        {"rating": 4, "rater_id": 1.5},
        {"rating": 4, "rater_id": ["alice"]},
        {"rating": 4, "rater_id": "x" * 501},
        {"rating": 4, "rater_id": "a\0"},
        {"rating": 4, "rater_id": 10**60},
        {"rating": 4, "idempotency_key": ""},
        {"rating": 4, "idempotency_key": {}},
        {"rating": 4, "idempotency_key": "\0"},
        {"rating": 4, "idempotency_key": "x" * 501},
        {"rating": 4, "agent": ""},
        {"rating": 4, "agent": 5},
        {"rating": 4, "agent": "x" * 201},
        {"rating": 4, "agent": "a\0"},
        {"rating": 4, "agent": "nobody's"},
    ),
    "unknown fields": (
        {"rating": 4, "Rating": 5},
        {"stars": 4},
        {"rating": 4, "created_at": "2020-01-01T00:00:00Z"},
        {"rating": 4, "metadata": {}},
        {"rating": 4, "kind": "rating"},
        {"feedback": {"rating": 4}},
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_malformed_feedback_is_refused_with_a_sentence_and_nothing_is_stored(
    kind: str, http: httpx.AsyncClient, postgres_url: str
) -> None:
    stored = await task(http)
    before = await counts(postgres_url)
    for said in MALFORMED[kind]:
        answer = await http.post(f"/v1/tasks/{stored}/feedback", json=said)
        assert 400 <= answer.status_code < 500, (said, answer.text)
        said_why(answer)
    assert await counts(postgres_url) == before


NOT_JSON = (
    b"",
    b"rating=4",
    b'{"rating": 4',
    b'{"rating": 4}}',
    b"{'rating': 4}",
    b'{"rating": NaN}',
    b'{"rating": Infinity}',
    b'{"rating": 1e999}',
    b'\xef\xbb\xbf{"rating": 4}',
    b'{"rating": 4, "comment": "\xff"}',
    b'{"rating": 4, "comment": "\x01"}',
    b'{"rating": 4, "rater_id": "\\ud800"}',
    b"[" * 50_000,
    b'{"rating":' + b"[" * 2_000 + b"]" * 2_000 + b"}",
    b"\x00",
    json.dumps({"rating": 4}).encode("utf-16"),
    b'--x\r\nContent-Disposition: form-data; name="rating"\r\n\r\n4\r\n--x--',
)


async def test_what_is_no_json_is_refused_with_a_sentence_and_nothing_is_stored(
    http: httpx.AsyncClient, postgres_url: str
) -> None:
    stored = await task(http)
    before = await counts(postgres_url)
    for body in NOT_JSON:
        for path in (f"/v1/tasks/{stored}/feedback", "/v1/feedback", "/v1/tasks", "/v1/select", "/v1/tokens"):
            answer = await http.post(path, content=body)
            assert answer.status_code in (400, 422), (path, body[:50], answer.text)
            said_why(answer)
    assert await counts(postgres_url) == before


UNCLEAR: tuple[dict[str, Any], ...] = (
    {},
    {"task_id": "r-1", "response_id": "r-1"},
    {"task_id": "r-1", "conversation_id": "c1"},
    {"task_id": None},
    {"task_id": ""},
    {"task_id": "a\0b"},
    {"task_id": ["r-1"]},
    {"task_id": 1.0},
    {"conversation_id": ""},
    {"conversation_id": True},
    {"conversation_id": "c\0"},
    {"response_id": {}},
)


async def test_feedback_that_does_not_say_on_what_it_is_stores_nothing(
    http: httpx.AsyncClient, postgres_url: str
) -> None:
    await task(http, task_id="r-1", context_id="c1")
    before = await counts(postgres_url)
    for place in UNCLEAR:
        answer = await http.post("/v1/feedback", json={**place, "rating": 4})
        assert answer.status_code in (404, 422), (place, answer.text)
        said_why(answer)
    assert await counts(postgres_url) == before


BAD_TASKS: tuple[dict[str, Any], ...] = (
    {},
    {"history": []},
    {"history": "Hello"},
    {"history": {"role": "user", "content": "Hello"}},
    {"history": ["Hello"]},
    {"history": [{"content": "Hello"}]},
    {"history": [{"role": "", "content": "Hello"}]},
    {"history": [{"role": 1, "content": "Hello"}]},
    {"history": [{"role": "user"}]},
    {"history": [{"role": "user", "content": 5}]},
    {"history": TALK, "state": "done"},
    {"history": TALK, "state": None},
    {"history": TALK, "usage": []},
    {"history": TALK, "usage": "7 tokens"},
    {"history": TALK, "latency_ms": -1},
    {"history": TALK, "latency_ms": "12"},
    {"history": TALK, "latency_ms": True},
    {"history": TALK, "latency_ms": 1e13},
    {"history": TALK, "prompt_id": 0},
    {"history": TALK, "prompt_id": 1.5},
    {"history": TALK, "prompt_id": "1"},
    {"history": TALK, "prompt_id": 2**31},
    {"history": TALK, "prompt_id": 2},
    {"history": TALK, "prompt_id": 2, "prompt": {"id": 1}},
    {"history": TALK, "prompt": []},
    {"history": TALK, "prompt": {"id": "one"}},
    {"history": TALK, "prompt": {"id": 0}},
    {"history": TALK, "prompt": {"id": 2**70}},
    {"history": TALK, "prompt": {"id": 1, "agent_id": "shop"}, "agent": "default"},
    {"history": TALK, "prompt": {"id": 1, "agent_id": 5}},
    {"history": TALK, "prompt": {"id": 1, "experiment_id": 1}},
    {"history": TALK, "prompt": {"id": 1, "experiment_id": 2**40}},
    {"history": TALK, "prompt": {"id": 1, "experiment_id": "1"}},
    {"history": TALK, "prompt": {"id": 1, "epoch": -1}},
    {"history": TALK, "prompt": {"id": 1, "unit_id": {}}},
    {"history": TALK, "prompt": {"prompt_text": "You were never stored."}},
    {"history": TALK, "task_id": ""},
    {"history": TALK, "task_id": "x\0"},
    {"history": TALK, "task_id": 10**60},
    {"history": TALK, "unit_id": "x" * 501},
    {"history": TALK, "context_id": False},
    {"history": TALK, "created_at": "2020-01-01"},
)


async def test_malformed_tasks_are_refused_with_a_sentence_and_nothing_is_stored(
    http: httpx.AsyncClient, postgres_url: str
) -> None:
    before = await counts(postgres_url)
    for one in BAD_TASKS:
        for body in (one, [one], [{"history": TALK}, one]):
            answer = await http.post("/v1/tasks", json=body)
            assert answer.status_code in (404, 422), (one, answer.text)
            said_why(answer)
    assert await counts(postgres_url) == before


async def test_ids_that_fill_an_index_are_stored_or_refused_and_never_fail(
    http: httpx.AsyncClient, postgres_url: str
) -> None:
    wide = "".join(chr(0x1F000 + number * 37 % 700) for number in range(500))  # four bytes each, hard to compress
    await bootstrap_prompt("You help.", agent_id=wide[:200])
    said = {"agent": wide[:200], "history": TALK, "task_id": wide, "unit_id": wide, "context_id": wide}
    answer = await http.post("/v1/tasks", json=said)
    assert answer.status_code in (201, 422), answer.text
    assert "/" not in said_why(answer) if answer.status_code == 422 else answer.json()["id"]


async def test_the_log_of_decisions_experiments_and_runs_is_read_newest_first(
    http: httpx.AsyncClient, storage: PostgresStorage
) -> None:
    experiment = await open_trial(storage)
    experiments = (await http.get("/v1/experiments")).json()["experiments"]
    assert [(one["id"], one["state"], one["candidate_id"]) for one in experiments] == [(experiment.id, "running", 2)]
    decisions = (await http.get("/v1/decisions", params={"experiment_id": experiment.id})).json()["decisions"]
    assert [one["verdict"] for one in decisions] == ["open"]
    assert (await http.get("/v1/decisions", params={"experiment_id": 99})).json() == {"decisions": []}
    assert (await http.get("/v1/decisions", params={"limit": 0})).json() == {"decisions": []}
    assert (await http.get("/v1/runs")).json() == {"runs": []}
    prompts = (await http.get("/v1/prompts")).json()["prompts"]
    assert [(one["prompt"]["id"], one["prompt"]["status"]) for one in prompts] == [(1, "active"), (2, "candidate")]


async def test_the_preview_shows_what_training_would_learn_from(http: httpx.AsyncClient) -> None:
    for question, rating in (("Where is it?", 5), ("Is it lost?", 1)):
        history = [{"role": "user", "content": question}, {"role": "assistant", "content": "On its way to you."}]
        await rate(http, await task(http, history=history), rating=rating, rater_id="alice")
    asked = {"require_feedback": "true", "samples": 1, "limit": 10, "strategy": "full_history:5000"}
    preview = (await http.get("/v1/dataset/preview", params=asked)).json()
    assert (preview["funnel"]["tasks"], len(preview["golden"]), len(preview["failures"])) == (2, 1, 1)
    assert preview["failures"][0]["user_input"] == "Is it lost?"


WRONG_QUERIES = (
    "limit=-1",
    "limit=1001",
    "limit=ten",
    "limit=1&limit=2",
    "agent=",
    f"agent={'x' * 201}",
    "agent=%00",
    "experiment_id=0",
    "experiment_id=1.5",
    f"experiment_id={2**31}",
    "page=2",
    "Limit=5",
)


async def test_a_wrong_question_is_refused_with_a_sentence(http: httpx.AsyncClient) -> None:
    for path in ("/v1/prompts", "/v1/experiments", "/v1/decisions", "/v1/runs"):
        for query in WRONG_QUERIES:
            answer = await http.get(f"{path}?{query}")
            assert answer.status_code == 422, (path, query, answer.text)
            said_why(answer)


async def test_a_wrong_preview_is_refused_with_a_sentence(http: httpx.AsyncClient) -> None:
    for query in (
        "strategy=none",
        "strategy=last_n:0",
        "require_feedback=maybe",
        "limit=0",
        "limit=2001",
        "samples=21",
    ):
        answer = await http.get(f"/v1/dataset/preview?{query}")
        assert answer.status_code == 422, (query, answer.text)
        said_why(answer)


async def test_what_is_no_operation_is_not_passed_on_to_the_provider(storage: PostgresStorage) -> None:
    asked: list[bytes] = []

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    async with await asyncio.start_server(provider, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with serving({"upstream": f"http://127.0.0.1:{port}/v1"}) as served:
            for method, path in (
                ("PUT", "/v1/tasks"),
                ("GET", "/v1/feedback"),
                ("HEAD", "/v1/feedback"),
                ("DELETE", "/v1/prompts"),
                ("POST", "/v1/runs"),
                ("GET", "/v1/tasks/r-1/feedback"),
            ):
                answer = await served.http.request(method, path, json={"history": TALK})
                assert (answer.status_code, bool(answer.headers["allow"])) == (405, True), (method, path)
            for path in (
                "/v1/tasks/",
                "/v1/tasks/r-1",
                "/v1/tasks//feedback",
                "/v1/feedback/x",
                "/v1/dataset",
                "/v1/%74asks/",
            ):
                answer = await served.http.post(path, json={"history": TALK})
                assert answer.status_code == 404, path
                said_why(answer)
            assert asked == []
            assert (await served.http.get("/v1/models")).status_code == 502  # which is one of the provider's
            assert [line.split()[:2] for line in asked][:1] == [[b"GET", b"/v1/models"]]


async def test_with_the_database_away_nothing_is_acknowledged_and_all_works_again_when_it_is_back(
    http: httpx.AsyncClient, postgres_url: str
) -> None:
    stored = await task(http, task_id="r-1")
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    server = named(postgres_url, "template1")
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    await execute(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", end)
    try:
        asked = (
            http.post("/v1/tasks", json={"history": TALK}),
            http.post("/v1/tasks", json=[{"history": TALK}]),
            http.post(f"/v1/tasks/{stored}/feedback", json={"rating": 4}),
            http.post("/v1/feedback", json={"conversation_id": "c1", "rating": 4}),
            http.post("/v1/tokens", json={"task_id": stored}),
            http.get("/v1/prompts"),
        )
        for answer in await asyncio.gather(*asked):
            assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True), answer.text
            assert "/" not in said_why(answer).replace("/readyz", "")  # not where it is
        assert (await http.get("/livez")).status_code == 200
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["status"], name in ready.json()["problem"]) == (503, "not ready", True)
    finally:
        await execute(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert (await counts(postgres_url))[:4] == [1, 1, 0, 0]
    await rate(http, stored, rating=4)
    await task(http)
    assert (await counts(postgres_url))[:4] == [2, 1, 1, 0]


async def test_without_a_database_named_it_says_so_and_lives() -> None:
    before, app_settings.storage.postgres_url = app_settings.storage.postgres_url, None
    try:
        async with serving() as served:
            answer = await served.http.post("/v1/tasks", json={"history": TALK})
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
            assert (await served.http.get("/livez")).status_code == 200
            assert "STORAGE__POSTGRES_URL" in (await served.http.get("/readyz")).json()["problem"]
    finally:
        app_settings.storage.postgres_url = before
        await close_storage()


async def test_a_schema_of_another_version_is_not_ready(http: httpx.AsyncClient, postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("DROP TABLE bindu_dspy.remarks CASCADE; DROP TABLE bindu_dspy.task_keys CASCADE")
    await connection.close()
    answer = await http.post("/v1/tasks", json={"history": TALK, "task_id": "r-1"})
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text


async def test_two_hundred_callers_at_once_each_hear_of_their_own(http: httpx.AsyncClient, postgres_url: str) -> None:
    stored = await asyncio.gather(*(task(http, task_id=f"r-{number}") for number in range(200)))
    votes = [rate(http, f"r-{number}", rating=1 + number % 5, rater_id=number) for number in range(200)]
    bad = [http.post("/v1/tasks/nobody/feedback", json={"rating": 4}) for _ in range(20)]
    given = await asyncio.gather(*votes)
    assert {answer.status_code for answer in await asyncio.gather(*bad)} == {404}
    rows = await fetch(postgres_url, "SELECT task_id, id, rater_id, score FROM bindu_dspy.task_feedback")
    kept = {int(row["rater_id"]): (str(row["task_id"]), str(row["id"]), round(row["score"] * 5)) for row in rows}
    assert kept == {number: (stored[number], given[number], 1 + number % 5) for number in range(200)}


async def test_no_text_of_a_user_comes_back_as_anything_but_json(http: httpx.AsyncClient) -> None:
    script = "<script>alert(1)</script>"
    await bootstrap_prompt(script, agent_id=script)
    answers = [
        await http.post("/v1/select", json={"agent": script}),
        await http.get("/v1/prompts", params={"agent": script}),
        await http.post(f"/v1/tasks/{script.replace('/', '')}/feedback", json={"rating": 4}),
        await http.post("/v1/feedback", json={script: 1}),
        await http.post("/v1/feedback", json={"task_id": script, "rating": script}),
        await http.get(f"/{script}"),
        await http.get(f"/v1/runs?{script}=1"),
    ]
    for answer in answers:
        assert answer.headers["content-type"] == "application/json", answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert str(answers[0].url).startswith(OURS)


async def test_whatever_is_asked_of_a_silent_database_is_refused_in_time(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(operations, "PATIENCE", 0.1)
    monkeypatch.setattr(PostgresStorage, "signing_secret", silent)
    monkeypatch.setattr(PostgresStorage, "runs", silent)
    for answer in (await http.post("/v1/tokens", json={"task_id": "r-1"}), await http.get("/v1/runs")):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
