"""Overruling the controller in a real browser: with JavaScript and without, by mouse and by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from bindu.dspy.access import create_key
from bindu.dspy.canary.verbs import carry_out
from bindu.dspy.storage import Storage
from browsing import needs_chromium
from pages import Site, Tab, on, open_tab, serve_pages
from samples import open_trial
from showcase import lay_down_little

pytestmark = needs_chromium

WHY = "It fixes the refund policy."
DONE = {
    "Pause": "The experiment is paused",
    "Resume": "The experiment is not paused",
    "Promote prompt 2": "The candidate is the active prompt now.",
    "Roll prompt 2 back": "The candidate is rolled back",
    "End without a judgement": "over without a judgement",
}
_numbers = count(1)


@pytest.fixture(scope="module")
def guarded(module_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Which takes nobody without a key."""
    with serve_pages(module_url, tmp_path_factory.mktemp("guarded"), DSPY__SERVER__REQUIRE_KEY="true") as served:
        yield served


@pytest.fixture
def agent(module_url: str) -> str:
    """A fresh one with a candidate on trial, prompt 2."""
    name = f"agent {next(_numbers)}"

    async def work(storage: Storage) -> None:
        await lay_down_little(storage, name)

    on(module_url, work)
    return name


@pytest.fixture(params=[True, False], ids=["with-javascript", "without-javascript"])
def page(request: pytest.FixtureRequest, browser: Browser, site: Site) -> Iterator[Page]:
    with open_tab(browser, site, java_script_enabled=request.param) as tab:
        yield tab.page


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[Tab]:
    with open_tab(browser, site) as opened:
        yield opened


def say(page: Page, button: str, why: str = WHY) -> None:
    page.get_by_label("Why?").fill(why)
    page.get_by_role("button", name=button).click()


def expect_done(page: Page, button: str) -> None:
    expect(page.get_by_role("status").filter(has_text=DONE[button])).to_be_visible()


def expect_kept(page: Page, *, verdict: str, action: str, who: str = "local") -> None:
    """The last word in the decision log and in the trail."""
    row = page.locator(".log > li").first
    for said in (verdict, WHY, who):
        expect(row.locator("summary")).to_contain_text(said)
    page.get_by_role("navigation").get_by_role("link", name="Audit").click()
    entry = page.get_by_role("row").nth(1)
    for said in (action, WHY, who):
        expect(entry).to_contain_text(said)


def test_pause_and_resume(page: Page, site: Site, agent: str) -> None:
    page.goto(site.page(agent))
    say(page, "Pause")
    expect_done(page, "Pause")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    say(page, "Resume")
    expect_done(page, "Resume")
    expect_kept(page, verdict="resume", action="resume")
    expect(page.get_by_role("row").nth(2)).to_contain_text("pause")


@pytest.mark.parametrize(
    ("button", "verdict"),
    [("Promote prompt 2", "promote"), ("Roll prompt 2 back", "roll back"), ("End without a judgement", "roll back")],
)
def test_the_end_of_a_trial(page: Page, site: Site, agent: str, button: str, verdict: str) -> None:
    page.goto(site.page(agent))
    say(page, button)
    expect_done(page, button)
    served = site.http.post("/v1/select", json={"agent": agent, "unit_id": "somebody"}).raise_for_status().json()
    assert served["prompt"]["id"] == (2 if verdict == "promote" else 1)
    expect(page.get_by_text("nothing to overrule")).to_be_visible()
    expect(page.get_by_label("Why?")).to_have_count(0)
    expect_kept(page, verdict=verdict, action=verdict)


def test_without_a_reason_nothing_is_done(tab: Tab, site: Site, agent: str) -> None:
    page, tab.is_refused = tab.page, True
    page.goto(site.page(agent))
    decisions = page.locator(".log > li").count()
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_label("Why?")).to_be_focused()  # by the browser itself
    say(page, "Promote", "   ")
    expect(page.get_by_role("alert")).to_contain_text("Say why")
    expect(page.get_by_label("Why?")).to_have_attribute("aria-invalid", "true")
    page.goto(site.page(agent))
    expect(page.locator(".log > li")).to_have_count(decisions)


def test_nobody_promotes_a_candidate_that_they_did_not_look_at(
    tab: Tab, site: Site, agent: str, module_url: str
) -> None:
    page, tab.is_refused = tab.page, True

    async def work(storage: Storage) -> None:
        await carry_out("rollback", reason="It is rude.", agent_id=agent)
        await open_trial(storage, agent, text="Something else.")

    page.goto(site.page(agent))
    page.get_by_label("Why?").fill(WHY)
    on(module_url, work)
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_role("status").filter(has_text="nothing was")).to_be_visible()
    expect(page.get_by_role("button", name="Promote prompt 3")).to_be_visible()
    expect(page.get_by_label("Why?")).to_have_value(WHY)


def test_a_viewer_sees_no_buttons(browser: Browser, guarded: Site, module_url: str, agent: str) -> None:
    async def work(_: Storage) -> list[str]:
        return [(await create_key(f"{scope} {agent}", [scope], agent_id=agent))[1] for scope in ("view", "operate")]

    viewer, operator = on(module_url, work)
    for key, role, buttons in ((viewer, "viewer", 0), (operator, "operator", 4)):
        with open_tab(browser, guarded) as tab:
            page = tab.page
            page.goto(guarded.page(agent))
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("heading", level=1)).to_have_text(agent)
            expect(page.get_by_role("banner")).to_contain_text(f"({role})")
            expect(page.get_by_role("main").get_by_role("button")).to_have_count(buttons)
            if role == "operator":
                say(page, "Pause")
                expect_done(page, "Pause")
                expect_kept(page, verdict="pause", action="pause", who=f"operate {agent}")
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_label("API key")).to_be_visible()


def focused(page: Page) -> Locator:
    return page.locator(":focus")


def is_focus_seen(page: Page) -> bool:
    """Whether the outline of what has the focus is drawn, and it is in sight."""
    return bool(
        page.evaluate(
            "() => { const one = document.activeElement, style = getComputedStyle(one);"
            "const box = one.getBoundingClientRect();"
            "return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2"
            " && box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth }"
        )
    )


def tab_to(page: Page, place: Locator, most: int = 80) -> int:
    """Press Tab until that has the focus, which is always seen: how often it took."""
    for pressed in range(1, most):
        page.keyboard.press("Tab")
        at = focused(page)
        if at.count() == 0 or at.evaluate("one => one === document.body"):
            continue
        assert is_focus_seen(page), at.evaluate("one => one.outerHTML")
        if place.evaluate("(one) => one === document.activeElement"):
            return pressed
    pytest.fail(f"Tab does not lead to {place}")


def test_everything_is_done_by_keyboard_alone(tab: Tab, site: Site, agent: str) -> None:
    page = tab.page
    page.goto(site.page(agent))
    page.keyboard.press("Tab")
    expect(focused(page)).to_have_text("Skip to content")
    assert is_focus_seen(page)
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    tab_to(page, page.get_by_label("Why?"))
    page.keyboard.type(WHY)
    tab_to(page, page.get_by_role("button", name="Pause"))
    page.keyboard.press("Space")
    expect_done(page, "Pause")
    summary = page.locator(".log summary").first
    tab_to(page, summary)
    page.keyboard.press("Enter")
    expect(page.locator(".log details[open] .same, .log details[open] p").first).to_be_visible()
    expect(summary).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".log details[open]")).to_have_count(0)


def test_without_javascript_a_form_is_sent_by_enter_alone(browser: Browser, site: Site, agent: str) -> None:
    with open_tab(browser, site, java_script_enabled=False) as tab:
        page = tab.page
        page.goto(site.page(agent))
        page.get_by_label("Why?").focus()
        page.keyboard.type(WHY)
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Pause")).to_be_focused()
        page.keyboard.press("Enter")
        expect_done(page, "Pause")


def test_what_somebody_does_is_not_lost_when_parts_renew_themselves(
    tab: Tab, site: Site, agent: str, module_url: str
) -> None:
    page = tab.page
    page.goto(site.page(agent))
    asked = site.http.post("/v1/tasks", json={"agent": agent, "history": [{"role": "user", "content": "Hello?"}]})
    task = asked.raise_for_status().json()["id"]
    news = page.locator(".votes").get_by_text("Hello?")
    summary = page.locator(".log summary").first
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".log details[open] p")).not_to_have_count(0)
    link = page.locator(".votes a").first
    for place, number in ((summary, 1), (link, 2), (page.get_by_label("Why?"), 3)):
        place.focus()
        held = page.evaluate_handle("document.activeElement")
        scrolled = page.evaluate("scrollY")
        if number == 3:
            page.keyboard.type("Half a sen")
        site.vote(agent, task, thumbs_up=True, rater_id=f"visitor {number}")
        expect(page.locator(".votes").get_by_text(f"by visitor {number}")).to_be_visible()
        expect(news).to_have_count(number)
        assert page.evaluate("held => held === document.activeElement && held.isConnected", held)
        assert abs(page.evaluate("scrollY") - scrolled) < 200
    expect(page.locator(".log details[open]")).to_have_count(1)
    expect(page.get_by_label("Why?")).to_have_value("Half a sen")
