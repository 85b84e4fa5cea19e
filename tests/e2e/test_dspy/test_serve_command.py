"""``bindu serve`` and ``bindu keys`` as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.simulation.server import SimulatedServer
from commands import Bindu
from conftest import execute, fetch, named, value
from samples import TALK

URL = "postgresql://nobody@127.0.0.1:1/none"  # where nothing listens


class Servers:
    """Commands that serve on a free port, and how they end."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environment = {"PATH": os.environ["PATH"], "NO_COLOR": "1", "STORAGE__POSTGRES_URL": url}
        self.environment["DSPY__PROXY__UPSTREAM"] = "http://127.0.0.1:9/v1"  # nobody
        self.started: list[subprocess.Popen[str]] = []

    async def start(self, *words: str, **extra: str) -> tuple[subprocess.Popen[str], str]:
        """The process, once it has said where it listens, and what it said."""
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes no time
            [sys.executable, "-m", "bindu.dspy.cli.app", "serve", "--port", "0", *words],
            cwd=self.folder,
            env=self.environment | extra,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        assert process.stdout is not None
        said = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 20)
        assert said, process.communicate()[1]
        return process, said


@pytest.fixture
def servers(tmp_path: Path, postgres_url: str) -> Iterator[Servers]:
    made = Servers(tmp_path, postgres_url)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


async def ended(process: subprocess.Popen[str], how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    process.send_signal(how)
    out, err = await asyncio.wait_for(asyncio.to_thread(process.communicate), 20)
    return process.returncode, out, err


def address(said: str) -> str:
    return said.rsplit(" ", 1)[1].strip()


async def test_it_says_where_it_listens_serves_and_ends_in_order(storage: PostgresStorage, servers: Servers) -> None:
    await storage.bootstrap("default", "You help.")
    process, said = await servers.start("--json")
    url = json.loads(said)["url"]
    assert url.startswith("http://127.0.0.1:")
    async with httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/readyz")).json()["status"] == "ready"
        assert (await http.post("/v1/select", json={})).json()["prompt"]["prompt_text"] == "You help."
        assert 'bindu_exposures_total{agent="default"' in (await http.get("/metrics")).text
        code, out, err = await ended(process)  # with a connection that is still open
    assert (code, out, err) == (0, "", "")
    process, said = await servers.start("--host", "localhost")
    assert said.startswith("Serving on http://")
    code, _, err = await ended(process, signal.SIGINT)
    assert (code, err) == (130, "interrupted\n")


async def test_whatever_was_acknowledged_before_the_end_is_stored(
    storage: PostgresStorage, servers: Servers, postgres_url: str
) -> None:
    await storage.bootstrap("default", "You help.")
    with SimulatedServer(0) as model:
        process, said = await servers.start(DSPY__PROXY__UPSTREAM=model.base_url)
        acknowledged: list[str] = []
        many = asyncio.Event()
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(base_url=address(said), limits=limits, timeout=20) as http:

            async def client(number: int) -> None:
                for turn in range(1_000):
                    body = {"history": TALK, "task_id": f"{number}-{turn}"}
                    try:
                        answer = await http.post("/v1/tasks", json=body)
                    except httpx.TransportError:  # it listens no more
                        return
                    assert answer.status_code == 201, answer.text
                    acknowledged.append(answer.json()["id"])
                    if len(acknowledged) > 200:
                        many.set()

            clients = [asyncio.create_task(client(number)) for number in range(10)]
            await asyncio.wait_for(many.wait(), 20)
            question = [{"role": "system", "content": "You help."}, {"role": "user", "content": "Where is it?"}]
            asked = {"model": "simulated/desk", "messages": question}
            through = (await http.post("/v1/chat/completions", json=asked)).raise_for_status()
            code, _, err = await ended(process)
            await asyncio.gather(*clients)
    assert (code, err) == (0, "")
    stored = {str(row["id"]) for row in await fetch(postgres_url, "SELECT id FROM bindu_dspy.tasks")}
    assert len(acknowledged) < 10_000
    assert set(acknowledged) <= stored
    query = f"SELECT count(*) FROM bindu_dspy.task_keys WHERE external_id = '{through.json()['id']}'"
    assert await value(postgres_url, query) == 1


async def test_it_begins_without_the_database_and_works_when_that_comes(
    storage: PostgresStorage, servers: Servers, postgres_url: str
) -> None:
    await storage.bootstrap("default", "You help.")
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    server = named(postgres_url, "template1")
    await execute(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        process, said = await servers.start()
        async with httpx.AsyncClient(base_url=address(said)) as http:
            assert (await http.get("/livez")).status_code == 200
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.post("/v1/tasks", json={"history": TALK})).status_code == 503
            await execute(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            async with asyncio.timeout(10):
                while (await http.get("/readyz")).status_code == 503:  # noqa: ASYNC110 - another process sees it
                    await asyncio.sleep(0.05)
            assert (await http.post("/v1/tasks", json={"history": TALK})).status_code == 201
            assert (await http.post("/v1/select", json={})).json()["prompt"]["id"] == 1
    finally:
        await execute(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    code, _, err = await ended(process)
    assert (code, "Traceback" in err, "begins without the database" in err) == (0, False, True), err


def test_what_keeps_it_from_serving_is_a_sentence(bindu: Bindu) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        taken = bindu("serve", "--port", port)
    assert (taken.returncode, taken.stdout) == (2, "")
    assert f"Cannot listen on 127.0.0.1:{port}" in taken.stderr
    limit = bindu("serve", "--port", "0", DSPY__SERVER__RATE_LIMIT="often")
    assert limit.returncode == 4, limit.stderr
    assert "DSPY__SERVER__RATE_LIMIT" in limit.stderr
    for ended in (taken, limit):
        assert "Traceback" not in ended.stderr


async def test_keys_are_made_shown_once_listed_and_revoked(
    storage: PostgresStorage, servers: Servers, bindu: Bindu
) -> None:
    await storage.bootstrap("default", "You help.")

    def keys(*words: str) -> Any:
        ended = bindu("keys", *words, "--json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    assert "key" not in keys("add", "web-shop", "--dry-run")
    made = keys("add", "web-shop", "--scope", "select", "--days", "30")
    assert keys("revoke", made["id"], "--dry-run")["revoked_at"] is None
    assert (made["key"][:6], made["scopes"], made["expires_at"] is None) == ("bindu_", ["select"], False)
    gone = keys("add", "leaver")
    revoked = keys("revoke", gone["id"])
    assert (revoked["name"], revoked["revoked_at"] is None) == ("leaver", False)
    listed = keys("list")["keys"]
    assert [(one["name"], one["revoked_at"] is None) for one in listed] == [("web-shop", True), ("leaver", False)]
    assert not any(made["key"] in json.dumps(one) for one in listed)
    _, said = await servers.start()
    async with httpx.AsyncClient(base_url=address(said)) as http:
        for key, path, status in (
            (made["key"], "/v1/select", 200),
            (made["key"], "/v1/tasks", 403),
            (gone["key"], "/v1/select", 401),
        ):
            body = {} if path == "/v1/select" else {"history": TALK}
            answer = await http.post(path, json=body, headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == status, answer.text


def test_keys_that_cannot_be_are_refused_with_a_sentence(bindu: Bindu) -> None:
    for words in (
        ("add", "x", "--scope", "root"),
        ("add", "x", "--days", "nan"),
        ("revoke", "0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f"),
    ):
        ended = bindu("keys", *words)
        assert (ended.returncode, ended.stdout, "error: " in ended.stderr) == (2, "", True), (words, ended.stderr)
    assert bindu("keys", "list", STORAGE__POSTGRES_URL=URL).returncode == 4
    shown = bindu("keys", "add", "web-shop", "--agent", "*").stdout
    assert (shown[:6], "shown this once" in shown) == ("bindu_", True)
    table = bindu("keys", "list", "--agent", "*").stdout
    assert ("web-shop" in table, "good" in table, shown.split()[0] in table) == (True, True, False)
