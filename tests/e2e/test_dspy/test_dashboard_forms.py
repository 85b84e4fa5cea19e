"""The dashboard's forms in a real browser, which alone says truly where a form is from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from bindu.dspy.access import create_key
from bindu.dspy.storage import close_storage, get_storage
from bindu.dspy.web.app import create_app
from bindu.settings import app_settings
from browsing import CHROMIUM, FLAGS, listening, needs_chromium
from conftest import fetch
from samples import AGENT, open_trial

WHY = "It fixes the refund policy."


async def _begin() -> str:
    await open_trial(await get_storage())
    _, key = await create_key("ann", ["operate"])
    await close_storage()
    return key


@pytest.fixture
def key(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ann's, who is operator; a candidate is on trial."""
    monkeypatch.setattr(app_settings.storage, "postgres_url", postgres_url)
    return asyncio.run(_begin())


@pytest.fixture
def served(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The origin of a dashboard that takes nobody without a key."""
    monkeypatch.setattr(app_settings.dspy.proxy, "spool_folder", str(tmp_path))
    monkeypatch.setattr(app_settings.dspy.server, "require_key", True)
    with listening(create_app(), "on") as origin:
        yield origin


def site_with(fields: dict[str, str], action: str) -> Starlette:
    """Another site, which has the same form."""
    inputs = "".join(f'<input name="{name}" value="{escape(value)}">' for name, value in fields.items())

    async def form(_: Request) -> Response:
        return HTMLResponse(f'<!doctype html><form method="post" action="{action}">{inputs}<button>Win</button></form>')

    return Starlette(routes=[Route("/", form)])


async def form_of(page: Page) -> dict[str, str]:
    inputs = page.locator("form.override input[type=hidden]")
    found = await inputs.evaluate_all("(all) => all.map((one) => [one.name, one.value])")
    return {**dict(found), "reason": "Free money."}


@needs_chromium
async def test_only_the_page_itself_promotes_and_only_for_who_signed_in(
    served: str, key: str, postgres_url: str
) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = await (await browser.new_context()).new_page()
        await page.goto(f"{served}/dashboard?agent={AGENT}")
        await page.get_by_label("API key").fill(key)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page).to_have_url(f"{served}/dashboard?agent={AGENT}")
        stolen = await form_of(page)  # even a site that had read the form
        with listening(site_with(stolen, f"{served}/dashboard/promote")) as site:
            other = await page.context.new_page()
            for elsewhere in (site, site.replace("127.0.0.1", "localhost")):  # the same site, and another one
                await other.goto(elsewhere)
                async with other.expect_navigation() as answered:
                    await other.get_by_role("button", name="Win").click()
                answer = await answered.value
                assert answer is not None
                assert answer.status == 403
            await other.close()
        await page.get_by_label("Why?").fill(WHY)
        await page.get_by_role("button", name="Promote").click()
        await expect(page.get_by_role("status").filter(has_text="is the active prompt now")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("API key")).to_be_visible()
        await page.goto(f"{served}/dashboard?agent={AGENT}")
        await expect(page.get_by_label("API key")).to_be_visible()
        await browser.close()
    said = await fetch(postgres_url, "SELECT actor, reason FROM bindu_dspy.decisions WHERE verdict = 'promote'")
    assert [tuple(row) for row in said] == [("ann", WHY)]
