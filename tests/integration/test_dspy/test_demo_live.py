"""The demo's third act: hours pass, customers come, the controller looks, and drafts follow one another."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from bindu.dspy.canary.verbs import carry_out
from bindu.dspy.insights import decision_log
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import stop_prompt_refresh
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.simulation import live
from bindu.dspy.simulation.desk import START_PROMPT
from bindu.dspy.simulation.live import go_on, serve_live
from bindu.dspy.simulation.story import DESK_AGENT, Stage, open_stage
from bindu.dspy.storage import use_storage
from bindu.settings import StorageSettings, app_settings
from conftest import fetch, value
from relay import Relay


@pytest.fixture
async def stage(storage: PostgresStorage) -> Stage:
    opened = await open_stage(0)
    await bootstrap_prompt(START_PROMPT, agent_id=DESK_AGENT, now=opened.clock.now)
    yield opened
    await stop_prompt_refresh()


class Said(list[str]):
    """What was told, and waiting until it was."""

    def __init__(self) -> None:
        self._more = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.append(line)
        self._more.set()

    async def until(self, words: str) -> None:
        async with asyncio.timeout(20):
            while not any(words in line for line in self):
                self._more.clear()
                await self._more.wait()


async def test_customers_come_all_through_every_hour_and_the_controller_decides_on_each_window(
    stage: Stage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_HOURS", 26)  # the first window without a past is a day
    began = stage.clock.now
    await go_on(stage, hour_seconds=0, say=print)
    assert (stage.clock.now - began).total_seconds() == 26 * 3600
    hours = "SELECT count(DISTINCT date_bin('1 hour', created_at, $1)) FROM bindu_dspy.tasks WHERE created_at < $2"
    assert await fetch(postgres_url, hours, began, stage.clock.now) == [(26,)]
    conversations = await value(postgres_url, "SELECT count(DISTINCT context_id) FROM bindu_dspy.tasks")
    assert conversations == stage.desk.visits.conversations == 26 * 18
    ahead = "SELECT count(*) FROM bindu_dspy.task_feedback WHERE created_at > $1"
    assert await fetch(postgres_url, ahead, stage.clock.now) == [(0,)]
    opened, first = reversed(await decision_log(DESK_AGENT))
    assert (opened.verdict, opened.at, first.closed_window) == ("open", began, 1)
    assert first.at <= stage.clock.now


async def test_a_person_who_ends_a_trial_makes_room_for_the_next_draft_and_after_the_last_the_desk_is_quiet(
    stage: Stage, storage: PostgresStorage
) -> None:
    said = Said()
    going = asyncio.create_task(go_on(stage, hour_seconds=0.06, say=said))
    for words in ("a shorter version goes on trial", "all that customers want goes on trial"):
        await said.until(words)
        await carry_out("rollback", reason="Enough.", actor="local", agent_id=DESK_AGENT, now=stage.clock.now)
    await asyncio.wait_for(going, 20)
    assert [line.split(":")[0].strip() for line in said if "true quality" in line] == ["true quality"] * 2
    assert "time stands still" in said[-1]
    assert [prompt.status for prompt in await storage.prompts(DESK_AGENT)] == ["active", "rolled_back", "rolled_back"]


async def test_an_hour_without_the_database_is_told_and_the_next_ones_are_as_ever(
    stage: Stage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_HOURS", 15)
    said = Said()
    with Relay(postgres_url) as relay:
        away = await PostgresStorage.connect(relay.url, StorageSettings())
        with use_storage(away):
            going = asyncio.create_task(go_on(stage, hour_seconds=0.06, say=said))
            await said.until("goes on trial")
            relay.cut()
            await said.until("cannot be used")
            relay.restore()
            came = stage.desk.visits.conversations
            await asyncio.wait_for(going, 20)
            await stop_prompt_refresh()
        await away.close()
    assert stage.desk.visits.conversations > came + 18


async def test_while_it_is_served_the_dashboard_is_at_the_desks_time_and_a_signal_ends_both(
    stage: Stage, own_spool: None
) -> None:
    address = asyncio.get_running_loop().create_future()
    said = Said()
    serving = asyncio.create_task(serve_live(stage, port=0, hour_seconds=0.06, say=said, started=address.set_result))
    async with httpx.AsyncClient(base_url=await asyncio.wait_for(address, 20)) as http:
        await said.until("goes on trial")
        page = (await http.get("/dashboard", params={"agent": DESK_AGENT})).raise_for_status()
        assert "candidate" in page.text
        assert f"{stage.clock.now:%Y-%m-}" in page.text
        assert (await http.get("/chat")).status_code == 200
    signal.raise_signal(signal.SIGTERM)
    assert await asyncio.wait_for(serving, 20) == signal.SIGTERM
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_breaks_the_desk_ends_the_server_and_is_raised(
    stage: Stage, own_spool: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "run_step", _break)
    with pytest.raises(RuntimeError, match="A rule is broken"):
        await asyncio.wait_for(serve_live(stage, port=0, hour_seconds=0, say=print, started=print), 20)


async def _break(**_: object) -> None:
    raise RuntimeError("A rule is broken.")


@pytest.fixture
def own_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.dspy.proxy, "spool_folder", str(tmp_path / "spool"))
