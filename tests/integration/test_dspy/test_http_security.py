"""What strangers, guessers and neighbours try on the HTTP API."""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from bindu.dspy import access
from bindu.dspy.access import EVERY_AGENT, create_key, revoke_key
from bindu.dspy.collector import record_task
from bindu.dspy.errors import InvalidArgumentError, UnknownKeyError
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.storage import Storage, use_storage
from bindu.dspy.web.tokens import PREFIX, _serializer, feedback_token
from conftest import fetch, value
from samples import TALK
from serving import STRANGER, Served, serving

EXCHANGE = {"history": TALK}


@pytest.fixture
async def served(storage: PostgresStorage) -> AsyncIterator[Served]:
    """Two agents with a prompt; 'default' has the task r-1."""
    await bootstrap_prompt("You help.")
    await bootstrap_prompt("You sell.", agent_id="shop")
    await record_task(TALK, task_id="r-1", context_id="c1")
    async with serving() as started:
        yield started


@pytest.fixture
def stranger(served: Served) -> httpx.AsyncClient:
    return served.client(STRANGER)


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


async def key_for(agent: str = "default", *scopes: str, **more: Any) -> str:
    _, text = await create_key("test", scopes or ("admin",), agent_id=agent, **more)
    return text


async def token_for(task_id: str = "r-1", **more: Any) -> str:
    text, _ = await feedback_token(task_id, **more)
    return text


async def refused(answer: httpx.Response, status: int, kind: str) -> None:
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.text


async def votes(url: str) -> list[tuple[Any, ...]]:
    query = "SELECT agent_id, rater_id, score FROM bindu_dspy.task_feedback WHERE superseded_by IS NULL ORDER BY id"
    return [tuple(row) for row in await fetch(url, query)]


OPERATIONS: tuple[tuple[str, str, Any, str], ...] = (
    ("POST", "/v1/select", {}, "select"),
    ("POST", "/v1/tasks", EXCHANGE, "write"),
    ("POST", "/v1/tasks", [EXCHANGE], "write"),
    ("POST", "/v1/tasks/r-1/feedback", {"rating": 4}, "write"),
    ("POST", "/v1/feedback", {"task_id": "r-1", "rating": 4}, "write"),
    ("POST", "/v1/tokens", {"task_id": "r-1"}, "write"),
    ("GET", "/v1/prompts", None, "view"),
    ("GET", "/v1/experiments", None, "view"),
    ("GET", "/v1/decisions", None, "view"),
    ("GET", "/v1/runs", None, "view"),
    ("GET", "/v1/dataset/preview", None, "view"),
)
OTHERS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/metrics", None),
    ("GET", "/v1/models", None),
    ("DELETE", "/v1/files/f-1", None),
    ("POST", "/v1/chat/completions", {"messages": []}),
    ("POST", "/v1/responses", {"input": "Hello"}),
    ("POST", "/a2a/default", {"jsonrpc": "2.0", "id": 1, "method": "tasks/feedback", "params": {"taskId": "r-1"}}),
)


async def everywhere(http: httpx.AsyncClient, **headers: str) -> set[int]:
    asked = [(method, path, body) for method, path, body, _ in OPERATIONS] + list(OTHERS)
    return {(await http.request(method, path, json=body, headers=headers)).status_code for method, path, body in asked}


def test_every_operation_is_in_the_table_of_attacks() -> None:
    async def documented() -> set[tuple[str, str]]:
        async with serving() as served:
            paths = (await served.http.get("/openapi.json")).json()["paths"]
            return {(method.upper(), path) for path, methods in paths.items() for method in methods}

    tried = {(method, path.replace("r-1", "{id}")) for method, path, _, _ in OPERATIONS}
    assert asyncio.run(documented()) == tried


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/chat/completions"])
async def test_the_body_of_a_made_up_key_is_not_read(stranger: httpx.AsyncClient, path: str) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b" " * 10_000

    answer = await stranger.post(path, content=body(), headers=bearer("bindu_made-up"))
    await refused(answer, 401, "invalid_key")
    assert read <= 1


async def test_who_may_only_select_stores_no_first_prompt(stranger: httpx.AsyncClient) -> None:
    asked = {"agent": "new", "default": "You greet."}
    for scopes, expected in ((("select",), None), (("select", "write"), 1)):
        key = await key_for("new", *scopes)
        answer = await stranger.post("/v1/select", json=asked, headers=bearer(key))
        assert answer.json()["prompt"]["id"] == expected


async def test_where_keys_are_required_this_machine_needs_one_too(storage: PostgresStorage) -> None:
    await storage.bootstrap("default", "You help.")
    async with serving(require_key=True) as served:
        assert await everywhere(served.http) == {401}
        answer = await served.http.post("/v1/select", json={}, headers=bearer(await key_for()))
        assert answer.status_code == 200


async def test_nobody_makes_anothers_vote_vanish_by_guessing_its_idempotency_key(
    served: Served, postgres_url: str
) -> None:
    for rater in ("mallory", "alice"):
        body = {"task_id": "r-1", "rating": 4, "rater_id": rater, "idempotency_key": "1"}
        assert (await served.http.post("/v1/feedback", json=body)).status_code == 201
    assert [rater for _, rater, _ in await votes(postgres_url)] == ["mallory", "alice"]


async def test_without_a_key_another_machine_gets_nothing(stranger: httpx.AsyncClient, postgres_url: str) -> None:
    assert await everywhere(stranger) == {401}
    answer = await stranger.get("/v1/prompts")
    assert (answer.json()["error"]["type"], answer.headers["www-authenticate"]) == ("missing_key", "Bearer")
    assert await votes(postgres_url) == []
    assert (await stranger.get("/livez")).json() == {"status": "alive"}
    assert (await stranger.get("/readyz")).json() == {"status": "ready"}


FOREIGN: tuple[dict[str, str], ...] = (
    {"x-forwarded-for": "203.0.113.5"},
    {"x-forwarded-for": "127.0.0.1"},
    {"X-Forwarded-Proto": "https"},
    {"x-forwarded-port": "443"},
    {"forwarded": "for=127.0.0.1"},
    {"via": "1.1 proxy"},
    {"x-real-ip": "127.0.0.1"},
    {"cf-connecting-ip": "203.0.113.5"},
    {"true-client-ip": "203.0.113.5"},
    {"host": "evil.example"},
    {"host": "evil.example:8080"},
    {"host": "localhost.evil.example"},
    {"host": "127.0.0.1.nip.io"},
    {"host": "127.0.0.1@evil.example"},
    {"host": "[::1"},
    {"host": ""},
    {"origin": "https://evil.example"},
    {"origin": "http://127.0.0.1.evil.example"},
    {"origin": "http://localhost:80@evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://[::1"},
    {"sec-fetch-site": "cross-site"},
)


async def test_neither_a_reverse_proxy_nor_a_web_page_is_this_machine(served: Served, postgres_url: str) -> None:
    for headers in FOREIGN:
        assert await everywhere(served.http, **headers) == {401}, headers
        assert (await served.http.get("/readyz", headers=headers)).json() == {"status": "ready"}, headers
    assert await votes(postgres_url) == []


async def test_a_reverse_proxy_that_says_nothing_is_not_this_machine(served: Served) -> None:
    """nginx with a bare proxy_pass: its own address, our own name, no header, HTTP 1.0."""

    async def nginx(scope: Scope, receive: Receive, send: Send) -> None:
        await served.app({**scope, "http_version": "1.0"}, receive, send)

    assert await everywhere(Served(nginx).http) == {401}


async def test_this_machine_is_served_under_its_own_names(served: Served) -> None:
    for address, url in (
        (("127.0.0.1", 1), "http://127.0.0.1:8080"),
        (("127.0.0.1", 1), "http://localhost:9000"),
        (("127.8.9.1", 1), "http://LOCALHOST"),
        (("::1", 1), "http://[::1]:8080"),
    ):
        http = served.client(address, url, origin=url.lower())
        assert (await http.get("/v1/runs")).status_code == 200, (address, url)
        other = served.client(address, url, origin="http://localhost:3000")  # a page of another program here
        assert (await other.get("/v1/runs")).status_code == 401, (address, url)
    for other in ("::ffff:203.0.113.5", "10.0.0.7", "0.0.0.0", "localhost", "", "127.0.0.1.evil.example"):
        assert (await served.client((other, 1)).get("/v1/runs")).status_code == 401, other

    async def unix(scope: Scope, receive: Receive, send: Send) -> None:
        await served.app({**scope, "client": None}, receive, send)

    assert (await Served(unix).http.get("/v1/runs")).status_code == 401


async def test_a_key_opens_what_its_scopes_say(stranger: httpx.AsyncClient) -> None:
    for scope in ("select", "write", "view", "operate", "admin"):
        key = await key_for("default", scope)
        for method, path, body, needed in OPERATIONS:
            for headers in (bearer(key), {"x-bindu-key": key}):
                answer = await stranger.request(method, path, json=body, headers=headers)
                if scope in (needed, "admin") or (scope, needed) == ("operate", "view"):
                    assert answer.status_code in (200, 201), (scope, path, answer.text)
                else:
                    await refused(answer, 403, "missing_scope")


WRONG_KEYS = (
    "bindu_",
    "bindu_wrong",
    "bindu_" + "x" * 20_000,
    "bindu_' OR true --",
    "bindu_%00",
    "BINDU_",
    "sk-somebody-elses",
    "",
    "*",
)


async def test_wrong_keys_open_nothing_here_or_elsewhere(served: Served, stranger: httpx.AsyncClient) -> None:
    real = await key_for(EVERY_AGENT)
    for wrong in (*WRONG_KEYS, real[:-1], real + "x", real.upper(), real.removeprefix("bindu_"), f"{real}\xe9"):
        headers = {"x-bindu-key": wrong.encode("latin-1")}
        for http in (stranger, served.http):  # this machine too: whoever shows a key is judged by it
            for method, path, body, _ in OPERATIONS:
                answer = await http.request(method, path, json=body, headers=cast("dict[str, str]", headers))
                await refused(answer, 401, "invalid_key")
    for scheme in (f"Basic {real}", f"Digest {real}", real, f"Bearer{real}", "Bearer", "Bearer ", f"bearer\t{real}"):
        assert (await stranger.get("/v1/runs", headers={"authorization": scheme})).status_code == 401, scheme
    assert (await stranger.get(f"/v1/runs?key={real}")).status_code == 401
    assert (await stranger.get("/v1/runs", headers={"authorization": f"bearer {real}"})).status_code == 200


async def test_a_key_is_for_its_agent_alone(stranger: httpx.AsyncClient, postgres_url: str) -> None:
    shop = bearer(await key_for("shop"))
    for method, path, body, _ in OPERATIONS:
        for named in ({"x-prompt-name": "default"}, {}):
            await refused(await stranger.request(method, path, json=body, headers=shop | named), 401, "invalid_key")
    batch = await stranger.post("/v1/tasks", json=[{**EXCHANGE, "agent": "default"}], headers=shop)
    await refused(batch, 401, "invalid_key")
    smuggled = await stranger.post(
        "/v1/tasks", json={**EXCHANGE, "prompt": {"id": 1, "agent_id": "default"}}, headers=shop
    )
    await refused(smuggled, 401, "invalid_key")
    mismatch = {**EXCHANGE, "agent": "shop", "prompt": {"id": 1, "agent_id": "default"}}
    await refused(await stranger.post("/v1/tasks", json=mismatch, headers=shop), 422, "invalid_request")
    for named in ("*", "Shop", "shop ", "shop\n"):
        await refused(await stranger.get("/v1/runs", params={"agent": named}, headers=shop), 401, "invalid_key")
    await refused(await stranger.get("/metrics", headers=shop), 401, "invalid_key")
    assert await value(postgres_url, "SELECT count(*) FROM bindu_dspy.tasks") == 1
    every = bearer(await key_for(EVERY_AGENT))
    assert (await stranger.post("/v1/select", json={"agent": "shop"}, headers=every)).status_code == 200
    assert (await stranger.get("/metrics", headers=every)).status_code == 200


async def test_another_agents_task_is_nobodys(stranger: httpx.AsyncClient, postgres_url: str) -> None:
    shop = bearer(await key_for("shop"))
    ours = str(await value(postgres_url, "SELECT id FROM bindu_dspy.tasks"))
    for place in ({"task_id": ours}, {"task_id": "r-1"}, {"response_id": "r-1"}, {"conversation_id": "c1"}):
        answer = await stranger.post("/v1/feedback", json={**place, "agent": "shop", "rating": 1}, headers=shop)
        await refused(answer, 404, "not_found")
    answer = await stranger.post(f"/v1/tasks/{ours}/feedback", json={"agent": "shop", "rating": 1}, headers=shop)
    await refused(answer, 404, "not_found")
    text = await token_for(ours, agent_id="shop")  # signed for a task that is another agent's
    await refused(await stranger.post("/v1/feedback", json={"rating": 1}, headers=bearer(text)), 404, "not_found")
    assert await votes(postgres_url) == []


async def test_a_revoked_or_expired_key_opens_nothing(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await key_for(now=datetime.now(UTC) - timedelta(days=3), days=2)
    await refused(await stranger.get("/v1/runs", headers=bearer(old)), 401, "invalid_key")
    short = await key_for(days=0.4 / 86_400)
    assert (await stranger.get("/v1/runs", headers=bearer(short))).status_code == 200
    await asyncio.sleep(0.41)  # sooner than it would be looked up again
    await refused(await stranger.get("/v1/runs", headers=bearer(short)), 401, "invalid_key")
    monkeypatch.setattr(access, "_FRESH_SECONDS", 0.0)
    key, text = await create_key("leaver", ["admin"])
    assert (await stranger.get("/v1/runs", headers=bearer(text))).status_code == 200
    await revoke_key(key.id)
    await refused(await stranger.get("/v1/runs", headers=bearer(text)), 401, "invalid_key")


async def test_a_key_that_cannot_be_is_not_made(storage: PostgresStorage) -> None:
    for name, scopes, days in (
        ("", ["select"], None),
        (" \n", ["select"], None),
        ("a\0", ["select"], None),
        ("x", [], None),
        ("x", ["root"], None),
        ("x", ["select", "root"], None),
        ("x", ["select"], 0),
        ("x", ["select"], -1),
        ("x", ["select"], float("nan")),
        ("x", ["select"], 1e9),
    ):
        with pytest.raises(InvalidArgumentError):
            await create_key(name, scopes, days=days)
    for number in ("", "nothing", "0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f"):
        with pytest.raises(UnknownKeyError):
            await revoke_key(number)
    key, _ = await create_key("x", ["write", "select", "write"], agent_id="shop")
    assert key.scopes == ("select", "write")
    with pytest.raises(UnknownKeyError):  # another agent's
        await revoke_key(key.id)


async def test_guesses_do_not_drive_out_a_known_key(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_MOST_KNOWN", 5)
    good = bearer(await key_for())
    assert (await stranger.get("/v1/runs", headers=good)).status_code == 200
    for number in range(12):
        await refused(await stranger.get("/v1/runs", headers=bearer(f"bindu_{number}")), 401, "invalid_key")
    with use_storage(cast("Storage", object())):  # to look it up again would fail
        answer = await stranger.post("/v1/feedback", json={}, headers=good)
    await refused(answer, 422, "invalid_request")


async def test_a_key_is_neither_stored_nor_logged_in_clear(
    served: Served, stranger: httpx.AsyncClient, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key, wrong = await key_for(), "bindu_a-guess-that-is-wrong"
    token = await token_for(rater_id="alice")
    for text in (key, wrong, token):
        await everywhere(stranger, **bearer(text))
        await everywhere(stranger, **{"x-bindu-key": text})
        with use_storage(cast("Storage", object())):
            answer = await served.http.post("/v1/feedback", json={"task_id": "r-1", "rating": 1}, headers=bearer(text))
        assert text not in answer.text
    assert "A request failed in a way nobody expected" in caplog.text
    tables = await fetch(postgres_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'bindu_dspy'")
    stored = ""
    for [table] in tables:
        rows = await fetch(postgres_url, f"SELECT t::text FROM bindu_dspy.{table} AS t")
        stored += "\n".join(row[0] for row in rows)
    assert "test" in stored  # the key's name
    secret = bytes(await value(postgres_url, "SELECT secret FROM bindu_dspy.signing_keys"))
    for hidden in (key, key.removeprefix("bindu_"), key.encode().hex(), wrong, token, token.removeprefix(PREFIX)):
        assert hidden not in stored
        assert hidden not in caplog.text
    assert secret.hex() not in caplog.text
    metrics = (await served.http.get("/metrics")).text
    assert key not in metrics
    assert wrong not in metrics


async def test_a_browser_rates_the_answer_that_its_token_is_for(stranger: httpx.AsyncClient, postgres_url: str) -> None:
    alice = bearer(await token_for(rater_id="alice"))
    for said in ({"thumbs_up": True}, {"rating": 1, "task_id": "r-1", "rater_id": "alice", "agent": "default"}):
        assert (await stranger.post("/v1/feedback", json=said, headers=alice)).status_code == 201
    nobody = bearer(await token_for())
    assert (
        await stranger.post("/v1/feedback", json={"response_id": "r-1", "score": 1}, headers=nobody)
    ).status_code == 201
    assert await votes(postgres_url) == [("default", "alice", 0.2), ("default", "", 1.0)]


async def test_a_token_is_good_for_nothing_else(served: Served, stranger: httpx.AsyncClient, postgres_url: str) -> None:
    await record_task(TALK, task_id="r-2")
    text = await token_for(rater_id="alice")
    for claim in (
        {"task_id": "r-2"},
        {"response_id": "r-2"},
        {"task_id": "r-1", "response_id": "r-2"},
        {"conversation_id": "c1"},
        {"rater_id": "bob"},
        {"agent": "shop"},
    ):
        answer = await stranger.post("/v1/feedback", json={"rating": 5, **claim}, headers=bearer(text))
        assert answer.status_code == 403, (claim, answer.text)
    nobody = bearer(await token_for())
    answer = await stranger.post("/v1/feedback", json={"rating": 5, "rater_id": "alice"}, headers=nobody)
    await refused(answer, 403, "foreign_rater")
    opened = {
        path
        for method, path, body, _ in OPERATIONS
        if (await stranger.request(method, path, json=body, headers=bearer(text))).status_code < 400
    }
    assert opened == {"/v1/feedback"}
    await refused(
        await stranger.post("/v1/feedback", json={"rating": 5}, headers={"x-bindu-key": text}), 401, "invalid_key"
    )
    await refused(
        await stranger.post("/v1/tasks/r-1/feedback", json={"rating": 5}, headers=bearer(text)), 401, "missing_key"
    )
    assert await votes(postgres_url) == [("default", "alice", 0.8)]


async def test_no_forged_damaged_or_expired_token_is_believed(
    stranger: httpx.AsyncClient, storage: PostgresStorage, postgres_url: str
) -> None:
    good = await token_for(rater_id="alice")
    await token_for(agent_id="shop")
    shop = await storage.signing_secret("shop")
    assert shop is not None
    late = int((datetime.now(UTC) + timedelta(days=1)).timestamp())
    bomb = urlsafe_b64encode(zlib.compress(json.dumps([["x" * 2_000_000]]).encode())).decode().rstrip("=")
    deep = urlsafe_b64encode(b"[" * 2_000).decode().rstrip("=")
    payload, _, signature = good.removeprefix(PREFIX).rpartition(".")
    forged = [
        *("", "x", ".", "..", "." * 100, "\x00", "%00", "a.b", "x" * 5_000),
        f"{payload}.",
        f".{signature}",
        payload,
        f"{payload}.{signature[:-2]}",
        f"{payload}.{'A' * len(signature)}",
        f"{payload}x.{signature}",
        f".{bomb}.{signature}",
        f"{deep}.{signature}",
        *(str(_serializer(secret).dumps(["default", "r-1", "bob", late])) for secret in (shop, b"", b"unknown", b"\0")),
        *(str(_serializer(shop).dumps([agent, "r-1", "bob", late])) for agent in ("nobody", "de\0fault", "", "*")),
        *(
            str(_serializer(shop).dumps(claims))
            for claims in (
                None,
                [],
                {},
                "shop",
                ["shop", "r-1", "bob"],
                ["shop", 1, None, late],
                ["shop", "r-1", None, "never"],
            )
        ),
    ]
    for number in range(len(good) - 1):  # the last character holds bits that nobody reads
        flipped = chr(ord(good[number]) ^ 1)
        if number >= len(PREFIX) and flipped.isprintable():
            forged.append((good[:number] + flipped + good[number + 1 :]).removeprefix(PREFIX))
    async with serving(browser_rate_limit="100000/minute") as served:
        client = served.client(STRANGER)
        for text in forged:
            headers = {"authorization": f"Bearer {PREFIX}{text}".encode("latin-1")}
            answer = await client.post("/v1/feedback", json={"rating": 5}, headers=cast("dict[str, str]", headers))
            await refused(answer, 401, "invalid_token")
    expired = await stranger.post("/v1/feedback", json={"rating": 5}, headers=bearer(await token_for(hours=1e-6)))
    await refused(expired, 401, "invalid_token")
    assert "expired" in expired.json()["error"]["message"]
    assert await votes(postgres_url) == []
    assert (await stranger.post("/v1/feedback", json={"rating": 5}, headers=bearer(good))).status_code == 201


class Body:
    """A body that comes in pieces and knows how many were wanted."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"comment": "'
        while self.left:
            self.left -= 1
            yield b"x" * 1_000
        yield b'"}'


async def test_a_body_too_large_is_not_read_to_its_end(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    token = await token_for()
    async with serving(max_body=5_000) as served:
        for path in ("/v1/select", "/v1/tasks", "/v1/tasks/r-1/feedback", "/v1/feedback", "/v1/tokens"):
            announced = await served.http.post(path, content=b"x" * 5_001)
            await refused(announced, 413, "too_large")
            body = Body(1_000)
            await refused(await served.http.post(path, content=body), 413, "too_large")
            assert body.left > 980
        body = Body(1_000)
        answer = await served.client(STRANGER).post("/v1/feedback", content=body, headers=bearer(token))
        await refused(answer, 413, "too_large")
        for odd in (b"\xb2", b"-1", b"1e9", b"9" * 5_000, b""):
            headers = cast("dict[str, str]", {"content-length": odd})
            answer = await served.http.post("/v1/select", content=b"{}", headers=headers)
            assert answer.status_code in (200, 413), odd
        assert (await served.http.post("/v1/tasks", json=EXCHANGE)).status_code == 201


async def test_of_a_stranger_no_body_is_read(stranger: httpx.AsyncClient) -> None:
    for method, path, _ in (*(one[:3] for one in OPERATIONS), *OTHERS):
        if method == "POST":
            body = Body(3)
            answer = await stranger.post(path, content=body, headers={"content-type": "application/json"})
            assert (answer.status_code, body.left) == (401, 3), path
    body = Body(3)
    answer = await stranger.post("/v1/feedback", content=body, headers=bearer("fbt_forged"))
    assert (answer.json()["error"]["type"], body.left) == ("invalid_token", 3)


async def test_too_many_requests_are_told_when_to_come_again(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    first, second = await key_for(), await key_for()
    async with serving(rate_limit="5/minute") as served:
        http = served.client(STRANGER)
        for _ in range(5):  # of the address, as no key is known yet
            await refused(await http.get("/v1/runs"), 401, "missing_key")
        for headers in ({}, bearer("bindu_guess"), bearer("bindu_another"), {"x-bindu-key": "third"}, bearer(first)):
            answer = await http.get("/v1/runs", headers=headers)
            await refused(answer, 429, "too_many_requests")
            assert 0 < int(answer.headers["retry-after"]) <= 60
        elsewhere = served.client(("198.51.100.7", 1))
        for key, expected in ((first, [200] * 6 + [429]), (second, [200] * 4)):  # the first of each by its address
            codes = [(await elsewhere.get("/v1/runs", headers=bearer(key))).status_code for _ in expected]
            assert codes == expected
        assert (await served.http.get("/v1/runs")).status_code == 200


async def test_browsers_are_limited_by_rater_and_by_address(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    await record_task(TALK, task_id="r-1")
    alice, bob = [bearer(await token_for(rater_id=name)) for name in ("alice", "bob")]
    async with serving(browser_rate_limit="3/minute") as served:

        async def vote(address: int, headers: dict[str, str]) -> int:
            http = served.client((f"203.0.113.{address}", 1))
            answer = await http.post("/v1/feedback", json={"rating": 5}, headers=headers)
            assert (answer.status_code == 429) == ("retry-after" in answer.headers)
            return answer.status_code

        assert [await vote(number, alice) for number in range(5)] == [201, 201, 201, 429, 429]
        assert [await vote(9, bob) for _ in range(4)] == [201, 201, 201, 429]
        assert [await vote(10, bearer(f"fbt_{number}")) for number in range(5)] == [401, 401, 401, 429, 429]
        network = [served.client((f"2001:db8::{number}", 1)) for number in range(5)]  # one person's
        answers = [await http.post("/v1/feedback", json={}, headers=bearer("fbt_x")) for http in network]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]


async def test_a_page_of_an_allowed_origin_may_post_feedback_and_read_refusals(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    await record_task(TALK, task_id="r-1")
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    async with serving(origins=["https://shop.example"]) as served:
        http = served.client(STRANGER)
        shop, evil = {"origin": "https://shop.example"}, {"origin": "https://evil.example"}
        allowed = await http.options("/v1/feedback", headers=shop | asks)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, shop["origin"])
        assert "access-control-allow-credentials" not in allowed.headers
        assert "access-control-allow-origin" not in (await http.options("/v1/feedback", headers=evil | asks)).headers
        for method in ("PUT", "DELETE", "GET"):
            asked = shop | asks | {"access-control-request-method": method}
            assert (await http.options("/v1/feedback", headers=asked)).status_code == 400
        for headers, status in ((bearer(await token_for()), 201), (bearer("fbt_x"), 401), ({}, 401)):
            answer = await http.post("/v1/feedback", json={"rating": 4}, headers=shop | headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, shop["origin"])
        for path in ("/v1/tasks", "/v1/prompts", "/v1/tokens", "/v1/select", "/readyz", "/metrics", "/openapi.json"):
            answer = await http.options(path, headers=shop | asks)
            assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (405, False), path


async def test_every_answer_tells_browsers_to_be_careful(served: Served) -> None:
    answers = [
        await served.http.get("/livez"),
        await served.http.get("/nowhere"),
        await served.http.get("/feedback.js"),
        await served.http.post("/v1/select", json={}),
        await served.http.post("/v1/select", content=b"{"),
        await served.http.put("/v1/select"),
        await served.client(STRANGER).get("/v1/runs"),
    ]
    with use_storage(cast("Storage", object())):  # a fault of ours
        answers.append(await served.http.get("/v1/runs"))
    await refused(answers[-1], 500, "internal_error")
    assert "object" not in answers[-1].text
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff", answer.url
        assert answer.headers["referrer-policy"] == "no-referrer", answer.url
        assert "default-src 'none'" in answer.headers["content-security-policy"], answer.url
        assert "server" not in answer.headers
        assert "set-cookie" not in answer.headers


async def test_figures_are_open_to_all_only_if_somebody_says_so(storage: PostgresStorage) -> None:
    async with serving(open_metrics=True) as served:
        answer = await served.client(STRANGER).get("/metrics")
        assert (answer.status_code, "bindu_" in answer.text) == (200, True)


async def test_of_the_provider_only_what_was_meant_is_asked_and_our_keys_stay_here(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    asked: list[bytes] = []

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    key, token = await key_for(), await token_for()
    async with await asyncio.start_server(provider, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with serving({"upstream": f"http://127.0.0.1:{port}/v1"}) as served:
            http = served.client(STRANGER)
            for path in ("/v1/%2e%2e/admin", "/v1/a/..%2f..%2fadmin", "/v1/..%5cadmin"):
                assert (await http.get(path, headers=bearer(key))).status_code == 404, path
            assert asked == []
            paths = {
                "/v1/%252e%252e/admin": b"/v1/%252e%252e/admin",
                "/v1/a%20b": b"/v1/a%20b",
                "/v1/a%3Fb?c=%20d": b"/v1/a%3Fb?c=%20d",
                "/v1/files/%C3%A9": b"/v1/files/%C3%A9",
            }
            for path, expected in paths.items():
                for headers in (bearer(key), {"x-bindu-key": key}, {"x-bindu-key": key, **bearer(token)}):
                    assert (await http.get(path, headers=headers)).status_code == 200, path
                    assert asked[-1].split()[1] == expected
            await http.get("/v1/models", headers={"x-bindu-key": key, **bearer("sk-the-callers")})
            assert b"sk-the-callers" in asked[-1]
            assert not any(hidden.encode() in head for head in asked for hidden in (key, token))
