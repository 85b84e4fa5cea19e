"""An open page hears what happens, also after the database or the server was away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from bindu.dspy.access import create_key
from bindu.dspy.canary.verbs import Verb, carry_out
from bindu.dspy.models import Decision
from bindu.dspy.storage import Storage
from bindu.dspy.web.dashboard.events import MOST_OF_ONE
from browsing import needs_chromium
from pages import Site, Tab, on, open_tab, serve_pages
from relay import Relay
from samples import a_run
from showcase import SHOP, lay_down_little

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def relay(module_url: str) -> Iterator[Relay]:
    async def work(storage: Storage) -> None:
        await lay_down_little(storage, SHOP)

    on(module_url, work)
    with Relay(module_url) as between:
        yield between


@pytest.fixture(scope="module")
def site(relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve_pages(relay.url, tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[Tab]:
    with open_tab(browser, site) as opened:
        opened.page.goto(site.page(SHOP))
        opened.page.evaluate("window.isTheSame = true")
        yield opened
        assert opened.page.evaluate("window.isTheSame")  # it was never loaded again


@pytest.fixture
def page(tab: Tab) -> Page:
    return tab.page


def a_task(site: Site, question: str) -> str:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": "Soon."}]
    answer = site.http.post("/v1/tasks", json={"agent": SHOP, "history": said})
    return str(answer.raise_for_status().json()["id"])


def decide(url: str, verb: Verb, reason: str) -> None:
    async def work(_: Storage) -> Decision | None:
        return await carry_out(verb, reason=reason, actor="ben", agent_id=SHOP)

    on(url, work)


def test_a_vote_appears_by_itself(page: Page, site: Site) -> None:
    site.vote(SHOP, a_task(site, "Is it blue?"), thumbs_up=False, comment="No idea.", rater_id="ann")
    newest = page.locator(".votes > li").first
    expect(newest).to_contain_text("Is it blue?")
    expect(newest).to_contain_text("No idea.")
    expect(newest).to_contain_text("thumbs down")
    expect(page.locator(".votes > li")).to_have_count(10)


def test_what_somebody_else_decides_appears_by_itself(page: Page, module_url: str) -> None:
    decide(module_url, "pause", "We look into it.")
    expect(page.locator(".log > li").first).to_contain_text("We look into it.")
    expect(page.locator("dl.health")).to_contain_text("Paused")
    expect(page.locator("figure.chart .marks").first).to_contain_text("paused")


def test_the_form_follows_what_somebody_else_decides_and_keeps_what_is_being_written(
    page: Page, module_url: str
) -> None:
    reason, outdated = page.locator("#reason"), "The experiment has changed: load the page again to act."
    decide(module_url, "pause", "We look.")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    decide(module_url, "resume", "We looked.")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    reason.fill("I have")
    decide(module_url, "pause", "We look again.")
    expect(page.locator("#live-status")).to_have_text(outdated)
    expect(reason).to_have_value("I have")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    reason.fill("")
    decide(module_url, "resume", "We looked again.")
    expect(page.locator("#live-status")).to_be_empty()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_who_has_too_many_pages_open_is_told_so(browser: Browser, site: Site) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_OF_ONE):
            stack.enter_context(site.http.stream("GET", "/dashboard/events", params={"agent": SHOP})).raise_for_status()
        with open_tab(browser, site) as tab:
            tab.is_refused = True
            tab.page.goto(site.page(SHOP))
            expect(tab.page.locator("#live-status")).to_contain_text("You have too many pages open for live news")


def test_who_is_signed_out_meanwhile_is_asked_to_sign_in(browser: Browser, module_url: str, tmp_path: Path) -> None:
    async def work(_: Storage) -> str:
        return (await create_key("gil", ["view"], agent_id=SHOP))[1]

    key = on(module_url, work)
    with (
        serve_pages(module_url, tmp_path, DSPY__SERVER__REQUIRE_KEY="true") as guarded,
        open_tab(browser, guarded) as tab,
    ):
        tab.is_refused = True
        tab.page.goto(guarded.page(SHOP))
        tab.page.get_by_label("API key").fill(key)
        tab.page.get_by_role("button", name="Sign in").click()
        expect(tab.page.locator("#live-status")).to_be_empty()
        tab.page.context.clear_cookies()
        tab.page.evaluate("for (const name of ['pagehide', 'pageshow']) dispatchEvent(new Event(name))")
        expect(tab.page.get_by_label("API key")).to_be_visible()


def test_a_training_run_shows_its_progress_by_itself(page: Page, module_url: str) -> None:
    run = a_run(agent_id=SHOP, details={"progress": {"calls_done": 1, "calls_expected": 4}}, step="reading")

    async def work(storage: Storage) -> None:
        await storage.save_run(run)

    on(module_url, work)
    expect(page.get_by_role("progressbar")).to_have_js_property("position", 0.25)
    expect(page.locator(".runs > li").first).to_contain_text("reading")


def test_a_page_outlives_its_database(tab: Tab, site: Site, relay: Relay) -> None:
    page, task = tab.page, a_task(site, "Are you there?")
    expect(page.locator("#live-status")).to_be_empty()
    relay.cut()
    expect(page.locator("#live-status")).to_contain_text("The database does not answer.")
    expect(page.locator(".votes > li")).to_have_count(10)  # what was known stays
    relay.restore()
    expect(page.locator("#live-status")).to_be_empty(timeout=20_000)
    site.vote(SHOP, task, thumbs_up=True, rater_id="carl")
    expect(page.locator(".votes > li").first).to_contain_text("Are you there?")


def test_a_vote_that_was_stored_while_nobody_could_read_is_told_afterwards(
    tab: Tab, site: Site, relay: Relay, module_url: str, tmp_path: Path
) -> None:
    page, task = tab.page, a_task(site, "Who else?")
    expect(page.locator("#live-status")).to_be_empty()
    relay.cut()
    with serve_pages(module_url, tmp_path) as other:
        other.vote(SHOP, task, thumbs_up=True, rater_id="dora")
    relay.restore()
    expect(page.locator(".votes > li").first).to_contain_text("Who else?", timeout=20_000)


def test_a_page_outlives_its_server(browser: Browser, module_url: str, tmp_path: Path) -> None:
    with serve_pages(module_url, tmp_path) as first:
        port = int(first.origin.rsplit(":", 1)[1])
        context = browser.new_context()
        page = context.new_page()
        page.goto(first.page(SHOP))
    expect(page.locator("#live-status")).to_contain_text("The connection is lost.", timeout=10_000)
    with serve_pages(module_url, tmp_path, port) as again:
        again.vote(SHOP, a_task(again, "Back again?"), thumbs_up=True, rater_id="emil")
        expect(page.locator(".votes > li").first).to_contain_text("Back again?", timeout=20_000)
        expect(page.locator("#live-status")).to_be_empty()
    context.close()


def test_a_page_that_somebody_comes_back_to_is_live_again(tab: Tab, site: Site) -> None:
    page = tab.page
    page.goto("about:blank")
    page.go_back()
    page.evaluate("window.isTheSame = true")
    site.vote(SHOP, a_task(site, "And now?"), thumbs_up=True, rater_id="fay")
    expect(page.locator(".votes > li").first).to_contain_text("And now?")
