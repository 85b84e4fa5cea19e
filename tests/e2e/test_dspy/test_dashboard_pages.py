"""What the dashboard's pages show, in a real browser, with JavaScript and without: light, dark, wide and narrow."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from bindu.dspy.storage import Storage
from browsing import needs_chromium
from pages import NARROW, WIDE, Site, Tab, on, open_tab, overflow, violations
from showcase import ANSWER, COMMENT, HOURS, QUESTION, SHOP, UNITS, Show, lay_down

pytestmark = needs_chromium

MOST_BYTES = 60_000
RUN = "simba, last_turn"


@pytest.fixture(scope="module", autouse=True)
def shown(module_url: str) -> Show:
    async def work(storage: Storage) -> Show:
        await storage.bootstrap("another", "You help.")
        return await lay_down(storage)

    return on(module_url, work)


@pytest.fixture(params=[True, False], ids=["with-javascript", "without-javascript"])
def tab(request: pytest.FixtureRequest, browser: Browser, site: Site) -> Iterator[Tab]:
    with open_tab(browser, site, java_script_enabled=request.param) as opened:
        opened.is_scripted = request.param
        yield opened


@pytest.fixture
def page(tab: Tab) -> Page:
    return tab.page


def every_page(site: Site, shown: Show) -> dict[str, str]:
    """The addresses of all kinds of pages, by their headings."""
    [run] = {run["id"] for run in site.http.get("/v1/runs", params={"agent": SHOP}).json()["runs"] if run["outcome"]}
    [last, *_] = site.http.get("/v1/decisions", params={"agent": SHOP}).json()["decisions"]
    return {
        SHOP: site.page(SHOP),
        "Agents": f"{site.origin}/dashboard",
        "Decisions": site.page(SHOP, "/log"),
        f"Decision {last['id'] - 2}": site.page(SHOP, f"/log/{last['id'] - 2}"),
        "Prompts": site.page(SHOP, "/prompts"),
        "Feedback": site.page(SHOP, "/feedback"),
        "Conversation": site.page(SHOP, f"/tasks/{shown.task_id}"),
        "What training would learn from": site.page(SHOP, "/dataset"),
        "Training": site.page(SHOP, "/runs"),
        "Training run": site.page(SHOP, f"/runs/{run}"),
        "What people did": site.page(SHOP, "/audit"),
        "Sign in": f"{site.origin}/dashboard/sign-in",
        "That did not work": site.page("nobody-knows-it", "/log/999"),
    }


def section(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=name, exact=True)


def test_an_agents_page_says_the_verdict_first(page: Page, site: Site) -> None:
    page.goto(site.page(SHOP))
    said = page.locator("main > *, main [role=status], main .sentence").all_inner_texts()
    assert said[0] == SHOP
    assert page.locator("h1").count() == 1
    verdict = page.locator("main .sentence").first
    expect(verdict).to_contain_text(re.compile(r"Candidate 2 is .*[+-]0\.\d+ \(95 % .* rated of \d+"))
    assert page.locator("main h1, main h2, main .sentence").nth(1).inner_text() == verdict.inner_text()


def test_traffic_now_is_that_of_both_prompts(page: Page, site: Site) -> None:
    page.goto(site.page(SHOP))
    rows = section(page, "Traffic now").get_by_role("row")
    expect(rows).to_have_count(3)
    shares = [int(re.search(r"(\d+)%", text)[1]) for text in rows.all_inner_texts()[1:]]  # type: ignore[index]
    assert sum(shares) == 100
    assert 0 < shares[1] < 100


def test_the_band_has_a_mark_for_each_kind_of_decision_and_says_itself_in_words(page: Page, site: Site) -> None:
    page.goto(site.page(SHOP))
    figures = section(page, "The difference over time").locator("figure.chart")
    expect(figures).to_have_count(2)
    for figure in figures.all():
        drawing = figure.get_by_role("img").first
        expect(drawing).to_be_attached()
        assert drawing.evaluate("svg => svg.querySelector('title').textContent.length") > 5
        assert len(figure.locator("figcaption").inner_text()) > 30
    marks = figures.first.locator("ul")
    for word in ("share rises", "paused", "resumed"):
        expect(marks).to_contain_text(word)


def test_what_the_candidate_says_differently_is_told_word_by_word(page: Page, site: Site) -> None:
    for address in (site.page(SHOP), site.page(SHOP, "/prompts"), site.page(SHOP, "/prompts", old=1, new=2)):
        page.goto(address)
        diff = page.locator(".diff")
        assert "very brief" in " ".join(diff.locator("del").all_inner_texts())
        added = " ".join(diff.locator("ins").all_inner_texts())
        assert "kind" in added
        assert "document" in added
        assert "You answer customers" not in added
        assert "Never promise a refund." in " ".join(diff.locator(".kept").all_inner_texts())


def test_a_decision_opens_to_its_inputs_and_is_taken_again(tab: Tab, page: Page, site: Site) -> None:
    page.goto(site.page(SHOP))
    rows = page.locator(".log > li")
    assert rows.count() == HOURS + 3  # it was opened, paused and resumed
    row = rows.filter(has_text="controller").first
    row.locator("summary").click()
    if not tab.is_scripted:
        row.get_by_role("link", name="taken again").click()
    opened = row if tab.is_scripted else page.get_by_role("main")
    expect(opened.locator(".same")).to_be_visible()
    expect(opened.get_by_role("table").first).to_contain_text("the candidate is better")
    expect(opened).to_contain_text("rule evidence version")


def test_health_says_what_is_wrong_and_what_to_do(page: Page, site: Site) -> None:
    page.goto(site.page(SHOP))
    lines = section(page, "Health").locator("dl.health > div")
    assert lines.locator("dt").all_inner_texts() == [
        *("What this server serves", "Feedback", "Controller", "Traffic split", "Who votes"),
    ]
    expect(lines.filter(has_text="Traffic split")).to_contain_text("ok")
    expect(lines.filter(has_text="Who votes")).to_contain_text(re.compile(r"Rated: active \d+% of \d+ units"))
    section(page, "Health").get_by_text("Every test with its evidence").click()
    expect(section(page, "Health").get_by_role("table")).to_contain_text("units were not assigned by the shares")


def test_a_vote_leads_to_its_conversation(page: Page, site: Site) -> None:
    page.goto(site.page(SHOP))
    votes = section(page, "Live feedback").locator("li")
    assert votes.count() == 10
    complaint = votes.filter(has_text=COMMENT).first
    expect(complaint).to_contain_text("thumbs down")
    complaint.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Conversation")
    for said in (QUESTION, ANSWER):
        expect(page.get_by_role("main")).to_contain_text(said)


def test_older_feedback_is_a_page_away(page: Page, site: Site) -> None:
    page.goto(site.page(SHOP))
    page.get_by_role("link", name="All feedback").click()
    first = page.locator(".votes > li").first.get_attribute("id")
    assert page.locator(".votes > li").count() == 50
    page.get_by_role("link", name="Older feedback").click()
    assert page.locator(".votes > li").first.get_attribute("id") != first


def test_the_funnel_accounts_for_every_task(tab: Tab, page: Page, site: Site) -> None:
    page.goto(site.page(SHOP))
    funnel = section(page, "What training would learn from")
    if tab.is_scripted:
        expect(funnel.get_by_role("table")).to_have_count(0)  # it is read when somebody looks
        funnel.scroll_into_view_if_needed()
        expect(funnel.get_by_role("table")).to_contain_text("golden examples")
    funnel.get_by_role("link").click()
    rows = page.get_by_role("table").get_by_role("row").all_inner_texts()
    counts = {name: int(count.replace(",", "")) for name, count in (row.split("\t") for row in rows[1:])}
    assert counts.pop("completed, pending and failed tasks") == HOURS * UNITS
    counts.pop("failures (score below .5)")
    assert sum(counts.values()) >= HOURS * UNITS
    expect(page.get_by_role("article").first).to_contain_text(QUESTION)
    page.get_by_role("combobox", name="Strategy").fill("last_n:3")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("table")).to_contain_text("last_n:3")


def test_training_shows_progress_cost_and_proof(page: Page, site: Site) -> None:
    page.goto(site.page(SHOP))
    runs = section(page, "Training").locator("li")
    expect(runs).to_have_count(2)
    running, ended = runs.first, runs.last
    expect(running.get_by_role("progressbar")).to_have_js_property("position", 0.25)
    expect(running).to_contain_text("searching for a better prompt")
    expect(ended).to_contain_text("1,234 calls, $0.42")
    ended.get_by_role("link", name=RUN).click()
    for part in ("Name the document that proves it.", "Gate, on unseen conversations", "Be kind."):
        expect(page.get_by_role("main")).to_contain_text(part)


def test_the_trail_says_who_did_what_and_why(page: Page, site: Site) -> None:
    page.goto(site.page(SHOP, "/audit"))
    row = page.get_by_role("row").filter(has_text="A sale begins.")
    expect(row).to_contain_text("ann")
    expect(row).to_contain_text("pause")


def test_the_menu_leads_everywhere(page: Page, site: Site) -> None:
    page.goto(f"{site.origin}/")
    page.get_by_role("link", name=SHOP).click()
    for name in ("Decisions", "Prompts", "Feedback", "Dataset", "Training", "Audit", "Overview"):
        menu = page.get_by_role("navigation")
        menu.get_by_role("link", name=name).click()
        expect(menu.locator("[aria-current=page]")).to_have_text(name)


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", WIDE), ("dark", NARROW)], ids=["light-and-wide", "dark-and-narrow"]
)
def test_axe_has_nothing_to_say_and_nothing_is_scrolled_sideways(
    browser: Browser, site: Site, shown: Show, scheme: str, viewport: dict[str, int]
) -> None:
    found: list[str] = []
    with open_tab(browser, site, color_scheme=scheme, viewport=viewport) as tab:
        tab.is_refused = True  # on the page that says what is wrong
        for heading, address in every_page(site, shown).items():
            tab.page.goto(address)
            expect(tab.page.get_by_role("heading", level=1)).to_have_text(heading)
            if heading == SHOP:
                open_everything(tab.page)
            found += violations(tab.page)
            if (pixels := overflow(tab.page)) > 0:
                found.append(f"{heading}: {pixels} px too wide")
    assert found == []


def open_everything(page: Page) -> None:
    """All that a page hides until somebody asks for it."""
    page.locator("#funnel").scroll_into_view_if_needed()
    expect(page.get_by_role("table").filter(has_text="golden examples")).to_be_visible()
    page.get_by_text("Every test with its evidence").click()
    page.locator(".log summary").nth(3).click()
    expect(page.locator(".log details[open] .same")).to_be_visible()


def test_a_page_with_all_it_loads_is_light(site: Site, shown: Show) -> None:
    for heading, address in every_page(site, shown).items():
        answer = site.http.get(address)
        size = len(gzip.compress(answer.content))
        for asset in set(re.findall(r'(?:src|href)="(/dashboard/static/[^"]+)"', answer.text)):
            loaded = site.http.get(asset)
            assert loaded.headers["content-encoding"] == "gzip"
            size += int(loaded.headers["content-length"])
        assert size <= MOST_BYTES, heading
