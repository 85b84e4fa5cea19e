"""A newcomer at the demo's desk: asks, rates blindly, and counts like any customer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from bindu.dspy.insights import newest_votes, recorded_task
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt
from bindu.dspy.simulation import chat
from bindu.dspy.simulation.chat import SAMPLES, Chat
from bindu.dspy.simulation.desk import IDEAL_PROMPT, START_PROMPT, Desk
from bindu.dspy.simulation.story import Clock, Stage
from bindu.dspy.web.app import create_app
from bindu.settings import app_settings
from serving import OURS, STRANGER, Served

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FROM_OURS = {"origin": OURS, "sec-fetch-site": "same-origin"}


@pytest.fixture
async def stage(storage: PostgresStorage) -> Stage:
    await bootstrap_prompt(START_PROMPT, agent_id="desk", now=NOW)
    await insert_prompt(IDEAL_PROMPT, "candidate", 0.5, agent_id="desk", now=NOW)
    return Stage(Desk(seed=0, agent_id="desk"), Clock(NOW + timedelta(minutes=5)))


@pytest.fixture
async def served(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(app_settings.dspy.proxy, "spool_folder", str(tmp_path / "spool"))
    app = create_app(clock=lambda: stage.clock.now, also=Chat(stage).routes())
    async with app.router.lifespan_context(app):
        yield Served(app)


async def sent(http: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    return await http.post(path, data=fields, headers=FROM_OURS)


async def asked(http: httpx.AsyncClient, question: str = SAMPLES[0]) -> str:
    """The path of the conversation."""
    answer = await sent(http, "/chat", question=question)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def test_a_vote_counts_for_the_prompt_that_answered_at_the_time_of_the_desk_and_without_a_rater(
    stage: Stage, served: Served
) -> None:
    path = await asked(served.http)
    stage.clock.tick(timedelta(minutes=10))
    assert (await sent(served.http, path, vote="up", comment="so\r\nfriendly")).headers["location"] == path
    [vote] = await newest_votes("desk")
    task = await recorded_task(vote.task_id, agent_id="desk")
    assert (vote.score, vote.comment, vote.rater_id, vote.created_at) == (1.0, "so\nfriendly", "", stage.clock.now)
    assert (task.created_at, task.experiment_id) == (NOW + timedelta(minutes=5), 1)
    assert task.history[0]["content"] == SAMPLES[0]
    told = (await served.http.get(path)).text
    assert f"prompt {task.prompt_id}, the {'active' if task.prompt_id == 1 else 'candidate'} one" in told
    assert "/dashboard?agent=desk#votes" in told


async def test_each_conversation_is_a_unit_of_its_own_so_that_each_vote_counts(served: Served) -> None:
    for number in range(24):  # of which a half, by chance, met the candidate
        await sent(served.http, await asked(served.http), vote="down" if number % 2 else "up")
    votes = await newest_votes("desk", limit=50)
    assert len({vote.unit_id for vote in votes}) == 24
    assert all(vote.counts for vote in votes)
    assert {vote.prompt_id for vote in votes} == {1, 2}


async def test_nothing_on_the_page_or_in_its_address_tells_the_prompt_before_the_vote(served: Served) -> None:
    pages = [await served.http.get(await asked(served.http)) for _ in range(6)]
    frames = {re.sub(r"<dd>.*?</dd>|/chat/[\w-]+", "", page.text, flags=re.DOTALL) for page in pages}
    assert len({page.text for page in pages}) == 6
    assert len(frames) == 1


async def test_whoever_knows_the_prompt_cannot_change_the_vote_any_more(served: Served) -> None:
    path = await asked(served.http)
    for vote in ("down", "up"):
        assert (await sent(served.http, path, vote=vote)).status_code == 303
    assert [vote.score for vote in await newest_votes("desk")] == [0.0]
    page = (await served.http.get(path)).text
    assert "You found it bad" in page
    assert 'name="vote"' not in page


@pytest.mark.parametrize("name", ["question", "comment"])
async def test_hostile_text_is_shown_and_does_nothing(served: Served, name: str) -> None:
    hostile = "<script>alert(1)</script>\u202e{{ 7 * 7 }}\x00'\""
    path = await asked(served.http, hostile if name == "question" else "Where is it?")
    await sent(served.http, path, vote="down", comment=hostile if name == "comment" else "")
    page = await served.http.get(path)
    assert page.status_code == 200
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<script" not in page.text
    assert "\u202e" not in page.text
    assert "{{ 7 * 7 }}" in page.text


async def test_pages_allow_no_script_or_style_but_the_servers_own_and_hold_none(served: Served) -> None:
    for path in ("/chat", await asked(served.http)):
        page = await served.http.get(path)
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert not re.search(r"<style|style=|<script|\son\w+=", page.text)


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://elsewhere.example"}, {"sec-fetch-site": "cross-site"}, {"host": "rebound.example:8080"}],
)
async def test_a_page_of_another_site_can_neither_ask_nor_vote(served: Served, headers: dict[str, str]) -> None:
    path = await asked(served.http)
    for where, fields in (("/chat", {"question": "x"}), (path, {"vote": "up"})):
        assert (await served.http.post(where, data=fields, headers=headers)).status_code == 403
    assert await newest_votes("desk") == []


async def test_other_machines_are_refused(served: Served) -> None:
    async with served.client(STRANGER) as http:
        assert (await http.get("/chat")).status_code == 403
        assert (await sent(http, "/chat", question="x")).status_code == 403


@pytest.mark.parametrize(
    ("question", "why"), [("", "Type a question"), (" \r\n", "Type a question"), ("<" * 2_001, "2,001 characters")]
)
async def test_a_question_that_cannot_be_asked_is_refused_with_a_sentence_and_kept(
    served: Served, question: str, why: str
) -> None:
    refused = await sent(served.http, "/chat", question=question)
    assert refused.status_code == 422
    assert why in refused.text
    assert ("&lt;" * 2_001 in refused.text) == (len(question) > 2_000)


async def test_a_vote_that_says_nothing_is_refused_and_what_was_typed_is_kept(served: Served) -> None:
    path = await asked(served.http)
    refused = await sent(served.http, path, vote="perhaps", comment="well <b>")
    assert refused.status_code == 422
    assert "well &lt;b&gt;" in refused.text
    assert await newest_votes("desk") == []


async def test_a_conversation_that_is_not_here_is_a_page_that_says_so(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "_MOST", 2)
    first, *_ = [await asked(served.http) for _ in range(3)]
    for path in (first, "/chat/none"):
        page = await served.http.get(path)
        assert (page.status_code, "not here any more" in page.text) == (404, True)
        assert (await sent(served.http, path, vote="up")).status_code == 404


async def test_a_vote_that_could_not_be_stored_can_be_sent_again(
    served: Served, storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await asked(served.http)
    with monkeypatch.context() as patched:
        patched.setattr(storage, "add_feedback", _refuse)
        assert (await sent(served.http, path, vote="up")).status_code == 500
    assert "You found it" not in (await served.http.get(path)).text
    assert (await sent(served.http, path, vote="up")).status_code == 303
    assert [vote.score for vote in await newest_votes("desk")] == [1.0]


async def _refuse(*_: object) -> None:
    raise RuntimeError("A disk is full.")
