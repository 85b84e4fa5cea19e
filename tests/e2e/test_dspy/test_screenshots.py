"""The pictures in the documents: they are there, and ``SCREENSHOTS=1 pytest -n 0`` of this file takes them again."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from bindu.dspy.canary.controller import run_step
from bindu.dspy.prompt_selector import refresh_prompts
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.simulation import story
from bindu.dspy.simulation.desk import START_PROMPT, Desk
from bindu.dspy.storage import Storage
from bindu.dspy.train import run_training
from browsing import needs_chromium
from pages import Site, chromium, on, open_tab, serve_pages

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "docs/images"
NAMES = ("dashboard-light.png", "dashboard-dark.png", "decision.png")
MOST_BYTES = 150_000

FIRST = f"{START_PROMPT}\n<!-- keep -->Never promise a refund.<!-- /keep -->"
STEPS = 12  # of six hours


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_that_the_documents_show_is_there_and_small(name: str) -> None:
    picture = IMAGES / name
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < MOST_BYTES
    assert f"images/{name}" in (ROOT / "docs/how-to/use-the-dashboard.md").read_text()


def test_no_picture_lies_about_unused() -> None:
    assert sorted(path.name for path in IMAGES.iterdir()) == sorted(NAMES)


@needs_chromium
@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="SCREENSHOTS=1 takes them; it lasts a minute")
def test_they_are_taken(module_url: str, tmp_path: Path) -> None:
    on(module_url, _begin, seconds=300)
    with serve_pages(module_url, tmp_path) as site, chromium() as browser:
        for scheme in ("light", "dark"):
            _take(browser, site, scheme, f"dashboard-{scheme}.png", _overview)
        _take(browser, site, "light", "decision.png", _decision)
    assert all((IMAGES / name).stat().st_size < MOST_BYTES for name in NAMES)


async def _begin(storage: Storage) -> None:
    """The desk of the demo in the middle of its first trial."""
    desk = Desk(seed=0, agent_id=story.DESK_AGENT)
    clock = story.Clock(await storage.now() - timedelta(days=2, hours=6.5) - STEPS * story.STEP)
    await bootstrap_prompt(FIRST, agent_id=desk.agent_id, now=clock.now)
    await desk.converse(story.LOGGED_CONVERSATIONS, now=clock.tick(timedelta(days=2)))
    await run_training("simba", agent_id=desk.agent_id, seed=0, engine=desk.engine, now=clock.tick(story.STEP))
    for _ in range(STEPS):
        await refresh_prompts(agent_id=desk.agent_id)
        await desk.converse(story.CONVERSATIONS_A_STEP, now=clock.tick(story.STEP))
        await run_step(agent_id=desk.agent_id, now=clock.now)


def _take(browser: Browser, site: Site, scheme: str, name: str, show: Callable[[Page, Site], None]) -> None:
    height = 1200 if show is _overview else 610
    with open_tab(browser, site, color_scheme=scheme, viewport={"width": 1000, "height": height}) as tab:
        show(tab.page, site)
        tab.page.screenshot(path=IMAGES / name)


def _overview(page: Page, site: Site) -> None:
    site.http.post("/v1/select", json={"agent": story.DESK_AGENT, "unit_id": "somebody"}).raise_for_status()
    page.goto(site.page(story.DESK_AGENT))
    expect(page.locator("figure.chart canvas").first).to_be_visible()
    expect(page.locator("dl.health")).to_contain_text("As it is stored")


def _decision(page: Page, site: Site) -> None:
    page.goto(site.page(story.DESK_AGENT))
    row = page.locator(".log > li").filter(has_text="won and nothing speaks").first
    row.locator("summary").click()
    expect(row.locator("table").first).to_be_visible()
    row.evaluate("row => row.scrollIntoView()")
