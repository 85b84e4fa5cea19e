"""What open pages are told while they are open, over real sockets and from a real database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client import REGISTRY
from starlette.applications import Starlette

from bindu.dspy import access
from bindu.dspy.access import create_key, revoke_key
from bindu.dspy.insights import pulse
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.reports import Pulse
from bindu.dspy.storage import Storage, use_storage
from bindu.dspy.web.app import create_app
from bindu.dspy.web.callers import Callers
from bindu.dspy.web.dashboard import events as module
from bindu.dspy.web.dashboard.events import Events, pulse_text
from bindu.dspy.web.dashboard.sessions import Sessions
from bindu.dspy.web.measured import Measured
from bindu.dspy.web.server import serve
from bindu.settings import StorageSettings, app_settings
from dashboards import key_for
from relay import Relay
from samples import AGENT, a_rollout, a_run, a_task, a_vote, open_trial

HASTY = {"every": 0.02, "patience": 0.3, "heartbeat": 10.0}
ADDRESS = "/dashboard/events"


class Told:
    """One open stream, read event by event."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def next(self, seconds: float = 5) -> tuple[str, Any]:
        """The name and the data of the next event, "" and the text for a comment. Raises StopAsyncIteration."""
        name = ""
        async with asyncio.timeout(seconds):
            while True:
                field, _, value = (await anext(self._lines)).partition(": ")
                match field:
                    case "event":
                        name = value
                    case "data":
                        return name, json.loads(value)
                    case "" if value:
                        return "", value

    async def until(self, name: str, seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while (await self.next())[0] != name:
                pass


class Live:
    """Streams of one server on loopback."""

    def __init__(self, events: Events, http: httpx.AsyncClient) -> None:
        self.events = events
        self.http = http

    @asynccontextmanager
    async def told(self, agent: str = AGENT, **headers: str) -> AsyncIterator[Told]:
        async with self.http.stream("GET", ADDRESS, params={"agent": agent}, headers=headers) as answer:
            assert answer.status_code == 200, (await answer.aread()).decode()
            yield Told(answer)

    async def let_go(self, seconds: float = 5) -> None:
        """Until nobody listens."""
        async with asyncio.timeout(seconds):
            while self.events.listeners:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)


@asynccontextmanager
async def live(*, send_buffer: int = 0, **durations: float) -> AsyncIterator[Live]:
    settings = app_settings.dspy.server
    events = Events(Sessions(settings, Callers(settings)), **HASTY | durations)
    config = uvicorn.Config(Measured(Starlette(routes=events.routes())), lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        served = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=10, limits=httpx.Limits(max_connections=None)) as http:
            yield Live(events, http)
        events.end()
        server.should_exit = True
        await served


async def vote(storage: Storage) -> str:
    """A new vote; its id."""
    task = a_task()
    await storage.add_tasks([task])
    given = a_vote(task.id)
    await storage.add_feedback([given])
    return str(given.id)


@pytest.fixture
async def trial(storage: PostgresStorage) -> PostgresStorage:
    await open_trial(storage)
    return storage


async def test_a_page_is_told_what_is_known_at_first_and_then_each_change(trial: PostgresStorage) -> None:
    async with live() as served, served.told() as told:
        assert told.answer.headers["content-type"].startswith("text/event-stream")
        assert told.answer.headers["cache-control"] == "no-store"
        name, first = await told.next()
        assert name == "pulse"
        assert first == json.loads(pulse_text(await pulse(AGENT)))
        assert (first["vote"], first["run"]) == (None, None)
        given = await vote(trial)
        assert await told.next() == ("pulse", first | {"vote": given})
        decision = await trial.apply(await a_rollout(trial))
        _, third = await told.next()
        assert (third["decision"], third["vote"]) == (decision.id, given)
        await trial.save_run(a_run())
        _, fourth = await told.next()
        assert fourth == third | {"run": fourth["run"]} != third


async def test_a_stream_is_no_request_that_took_hours_and_a_refusal_is_one(trial: PostgresStorage) -> None:
    streams, refusals = counted(200), counted(401)
    async with live() as served:
        async with served.told() as told:
            await told.next()
        assert (await served.http.get(ADDRESS, headers={"x-bindu-key": "bindu_wrong"})).status_code == 401
    assert (counted(200), counted(401)) == (streams, refusals + 1)


def counted(status: int) -> float:
    labels = {"route": ADDRESS, "method": "GET", "status": str(status)}
    return REGISTRY.get_sample_value("bindu_http_request_duration_seconds_count", labels) or 0


async def test_an_agent_without_a_prompt_has_no_news_and_nobody_looks_for_any(storage: Storage) -> None:
    params = {"agent": "Über & Söhne/1"}
    async with live() as served:
        answer = await served.http.get(ADDRESS, params=params)
        assert (answer.status_code, answer.text, served.events.listeners) == (204, "", 0)
        await storage.bootstrap(params["agent"], "You help.")
        async with served.told(params["agent"]) as told:
            name, seen = await told.next()
            assert (name, seen["version"]) == ("pulse", 1)


async def test_however_many_look_on_the_database_is_asked_once(
    trial: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    async def counted(agent_id: str) -> Pulse | None:
        looks.append(time.monotonic())
        return await pulse(agent_id)

    monkeypatch.setattr(module, "pulse", counted)
    monkeypatch.setattr(module, "MOST_OF_ONE", 30)
    async with live(every=0.1) as served:
        async with AsyncExitStack() as stack:
            told = [await stack.enter_async_context(served.told()) for _ in range(30)]
            assert {name for name, _ in [await one.next() for one in told]} == {"pulse"}
            assert served.events.listeners == 30
            given = await vote(trial)
            assert {(await one.next())[1]["vote"] for one in told} == {given}
            assert all(later - before >= 0.09 for before, later in pairwise(looks[1:]))  # the first was at the door
        await served.let_go()
        seen = len(looks)
        await asyncio.sleep(0.25)
        assert len(looks) == seen  # nobody listens, nobody looks


async def test_a_stream_outlives_the_database_and_says_when_it_is_away(postgres_url: str) -> None:
    with Relay(postgres_url) as relay:
        storage = await PostgresStorage.connect(relay.url, StorageSettings(connect_timeout=2))
        with use_storage(storage):
            await storage.bootstrap(AGENT, "Be kind.")
            async with live() as served, served.told() as told:
                assert (await told.next())[0] == "pulse"
                relay.cut()
                assert await told.next() == ("away", {})
                async with served.told() as late:
                    assert await late.next() == ("away", {})
                    assert (await late.next())[0] == "pulse"  # as it was seen last
                    relay.restore()
                    assert await told.next() == await late.next() == ("back", {})
                    relay.stall()  # it takes questions and says nothing
                    assert await told.next() == await late.next() == ("away", {})
                    relay.restore()
                    assert await told.next() == await late.next() == ("back", {})
                    given = await vote(storage)
                    assert (await told.next())[1]["vote"] == (await late.next())[1]["vote"] == given
        await storage.close()


async def test_silence_is_broken_so_that_nothing_between_takes_the_connection_for_dead(
    trial: PostgresStorage,
) -> None:
    async with live(heartbeat=0.05) as served, served.told() as told:
        assert (await told.next())[0] == "pulse"
        assert [await told.next(), await told.next()] == [("", "still here")] * 2


async def test_more_than_so_many_are_not_let_in_and_who_leaves_makes_room(
    trial: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LISTENERS", 2)
    await trial.bootstrap("shop", "Be quick.")
    async with live() as served:
        async with served.told() as first, served.told("shop") as second:
            await first.next()
            await second.next()
            refused = await served.http.get(ADDRESS, params={"agent": AGENT})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
            assert "Too many pages are open" in refused.text
        await served.let_go()
        async with served.told() as again:
            assert (await again.next())[0] == "pulse"


async def open_at_once(served: Live, many: int, **headers: str) -> list[int]:
    """The statuses of streams that are asked for together and stay open until all are answered."""
    async with AsyncExitStack() as stack:

        async def opened() -> int:
            asked = served.http.stream("GET", ADDRESS, params={"agent": AGENT}, headers=headers)
            return (await stack.enter_async_context(asked)).status_code

        return sorted(await asyncio.gather(*(opened() for _ in range(many))))


async def test_no_more_are_let_in_when_all_come_at_once(
    trial: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LISTENERS", 20)
    async with live() as served:
        assert await open_at_once(served, 100) == [200] * 20 + [503] * 80
        await served.let_go()
        assert await open_at_once(served, 3) == [200] * 3


async def test_nobody_takes_the_room_of_the_others(trial: PostgresStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_ONE", 2)
    ann, ben = [{"x-bindu-key": await key_for(name, "view")} for name in ("ann", "ben")]
    async with live() as served, served.told(**ann) as first, served.told(**ann):
        assert (await first.next())[0] == "pulse"
        refused = await served.http.get(ADDRESS, params={"agent": AGENT}, headers=ann)
        assert (refused.status_code, refused.headers["content-type"]) == (429, "text/plain; charset=utf-8")
        assert refused.text.startswith("You have too many pages open")
        assert await open_at_once(served, 3, **ben) == [200, 200, 429]
        assert await open_at_once(served, 2) == [200, 200]  # this machine, without a key


async def test_only_who_may_see_the_agent_listens(trial: PostgresStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.dspy.server, "require_key", True)
    shops, writer = await key_for("shop", "view", agent="shop"), await key_for("app", "write")
    async with live() as served:
        for expected, headers in (
            (401, {}),
            (401, {"x-bindu-key": "bindu_wrong"}),
            (403, {"authorization": f"Bearer {shops}"}),
            (403, {"authorization": f"Bearer {writer}"}),
        ):
            answer = await served.http.get(ADDRESS, params={"agent": AGENT}, headers=headers)
            assert answer.status_code == expected, headers
        assert served.events.listeners == 0


async def test_a_revoked_key_listens_no_longer_and_an_outage_is_no_reason_to_end(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_settings.dspy.server, "require_key", True)
    monkeypatch.setattr(access, "_FRESH_SECONDS", 0.0)
    with Relay(postgres_url) as relay:
        storage = await PostgresStorage.connect(relay.url, StorageSettings(connect_timeout=2))
        with use_storage(storage):
            await storage.bootstrap(AGENT, "Be kind.")
            key, text = await create_key("leaver", ["view"], agent_id=AGENT)
            async with (
                live(recheck=0.05, heartbeat=0.02) as served,
                served.told(authorization=f"Bearer {text}") as told,
            ):
                assert (await told.next())[0] == "pulse"
                relay.cut()
                await told.until("away")
                for _ in range(5):  # of a tenth of a second in all
                    assert (await told.next())[0] == ""
                relay.restore()
                await told.until("back")
                await revoke_key(key.id)
                with pytest.raises(StopAsyncIteration):
                    await told.until("the end")
                await served.let_go()
        await storage.close()


async def test_who_does_not_read_what_is_sent_is_let_go(trial: PostgresStorage) -> None:
    async with live(heartbeat=0.00001, slow=0.2, send_buffer=4096) as served:
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            loop = asyncio.get_running_loop()
            url = served.http.base_url
            await loop.sock_connect(reader, (url.host, url.port))
            await loop.sock_sendall(
                reader, f"GET {ADDRESS}?agent={AGENT} HTTP/1.1\r\nhost: {url.host}\r\n\r\n".encode()
            )
            async with asyncio.timeout(5):
                while not served.events.listeners:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.005)
            await served.let_go(20)  # the buffers are filled first
            assert not served.events.listeners


async def test_a_server_that_is_told_to_stop_does_not_wait_for_open_pages(
    trial: PostgresStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_settings.dspy.proxy, "spool_folder", str(tmp_path))
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    served = asyncio.create_task(serve(host="127.0.0.1", port=0, started=address.set_result, app=create_app()))
    async with httpx.AsyncClient(base_url=await address) as http:
        params = {"agent": AGENT}
        async with http.stream("GET", ADDRESS, params=params) as one, http.stream("GET", ADDRESS, params=params) as two:
            told = [Told(one), Told(two)]
            assert [(await each.next())[0] for each in told] == ["pulse"] * 2
            began = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)
            for each in told:
                assert await each.next() == ("ending", {})
                with pytest.raises(StopAsyncIteration):
                    await each.next()
            assert await served == signal.SIGINT
            assert time.monotonic() - began < 2
