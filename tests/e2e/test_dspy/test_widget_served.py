"""``<bindu-feedback>`` against the server itself."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import async_playwright, expect

from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.storage import close_storage
from bindu.dspy.web.app import create_app
from bindu.settings import app_settings
from browsing import CHROMIUM, FLAGS, Pages, listening, needs_chromium
from conftest import fetch


@pytest.fixture
def served(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its origin; its agent has a prompt."""
    monkeypatch.setattr(app_settings.storage, "postgres_url", postgres_url)
    monkeypatch.setattr(app_settings.dspy.proxy, "spool_folder", str(tmp_path))

    async def begin() -> None:
        await bootstrap_prompt("You help.")
        await close_storage()

    asyncio.run(begin())
    with listening(create_app(), "on") as origin:
        yield origin


@needs_chromium
async def test_its_votes_are_stored_and_its_refusals_are_read(served: str, postgres_url: str) -> None:
    async with httpx.AsyncClient(base_url=served) as http:
        talk = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "On its way."}]
        task = (await http.post("/v1/tasks", json={"history": talk})).raise_for_status().json()["id"]

        async def token(**more: Any) -> str:
            asked = {"task_id": task, "rater_id": "alice", **more}
            return str((await http.post("/v1/tokens", json=asked)).raise_for_status().json()["token"])

        good, late = await token(), await token(hours=1e-6)
    pages = Pages()
    pages.api, pages.body = served, f'<bindu-feedback token="{good}"></bindu-feedback>'
    with listening(pages.app) as site:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            page = await browser.new_page()
            await page.goto(site)
            widget = page.locator("bindu-feedback")
            for name in ("Good answer", "Bad answer"):
                await widget.get_by_role("button", name=name).click()
                await expect(widget.get_by_role("status")).to_have_text("Thank you.")
            await widget.get_by_role("textbox").fill("It was lost.")
            await widget.get_by_role("button", name="Send").click()
            await expect(widget.get_by_role("status")).to_have_text("Thank you.")
            for bad, sentence in ((late, "token has expired"), ("fbt_forged", "is not one of ours")):
                await widget.evaluate("(widget, token) => widget.setAttribute('token', token)", bad)
                await widget.get_by_role("button", name="Good answer").click()
                await expect(widget.get_by_role("status")).to_contain_text(sentence)
            await browser.close()
    columns = "rater_id, score, comment, superseded_by IS NULL AS current"
    votes = await fetch(postgres_url, f"SELECT {columns} FROM bindu_dspy.task_feedback ORDER BY created_at, id")
    assert [tuple(vote) for vote in votes] == [
        ("alice", 1.0, None, False),
        ("alice", 0.0, None, False),
        ("alice", 0.0, "It was lost.", True),
    ]
