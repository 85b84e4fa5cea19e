"""Whatever anybody writes is shown as text: nothing in it is run, nothing in it hides, and no page breaks."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect
from uuid_utils.compat import uuid7

from bindu.dspy.canary.verbs import carry_out
from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.storage import Storage
from browsing import needs_chromium
from pages import NARROW, WIDE, Site, Tab, on, open_tab, overflow, violations
from samples import a_run, open_trial

pytestmark = needs_chromium

AGENT = 'a/b?c&d=1#e<f>"g"\'h%41+\u202e{{7*7}} ü'
RUN = "window.wasRun = (window.wasRun || 0) + 1"
MARKUP = (
    f"<script>{RUN}</script><img src=x onerror='{RUN}'><svg onload='{RUN}'></svg>"
    f"</bdi></p></textarea></title><style>*{{display:none}}</style><iframe src=//example.com></iframe>"
    f'"\'><b id=bold>bold</b><a href="javascript:{RUN}">link</a><base href=//example.com/>'
    f"<meta http-equiv=refresh content='0;url=//example.com'><div hx-get=/dashboard hx-trigger=load>htmx</div>"
    "{{7*7}}{% raw %}${7*7}<!--&lt;&amp;&#60;"
)
HIDDEN = "\u202egnol\u202c\u2066x\u2069\u200e\u200b\ufeff\u00ad\x1b[31m\x07\x08\x7f\x85\u2028\r\U000e0041"
SHOWN = ("U+202E", "U+2066", "U+200B", "U+FEFF", "U+00AD", "U+001B", "U+0007", "U+007F", "U+0085", "U+2028", "U+E0041")
PEOPLE = "👩‍👩‍👧 🏳️‍🌈 שלום مرحبا \u0301\u0301\u0301 Z̸̛a̷l̶g̵o"
NASTY = f"{MARKUP}\n{HIDDEN}\n{PEOPLE}"
LONG = "W" * 1_000_000  # one line, without a place to break it
MANY = "word " * 200_000
MOST_BYTES = 400_000  # of a page, before it is packed
LONGEST_ID = 1_000


@dataclass(frozen=True, slots=True)
class Laid:
    """One agent's conversation, run and trial, all full of the same text."""

    agent: str
    text: str
    task_id: UUID
    run_id: UUID


async def lay_down(storage: Storage, agent: str, text: str) -> Laid:
    """The text stands wherever somebody may write something."""
    name = text[:LONGEST_ID]
    await storage.bootstrap(agent, f"You help.\n<!-- keep -->{text}<!-- /keep -->\nBriefly.")
    await open_trial(storage, agent, text=f"You help.\n<!-- keep -->{text}<!-- /keep -->\n{text}")
    said = [{"role": role, "content": text} for role in ("system", "user", "assistant")]
    task = await record_task(said, unit_id=name, context_id=name, agent_id=agent)
    more = {"comment": text, "correction": text}
    await record_feedback(task, {"thumbs_up": False, **more}, rater_id=name, agent_id=agent)
    await record_feedback(task, {"rating": 4, **more}, rater_id="another", agent_id=agent)
    await carry_out("pause", reason=text, actor=name, agent_id=agent)
    rows = {"rule": text, "task_ids": [text]}
    run = a_run(
        agent_id=agent,
        id=uuid7(),
        optimizer=name,
        strategy=name,
        step=text,
        reason=text,
        cancel_reason=text,
        details={
            "progress": {"calls_done": 9, "calls_expected": 4, name: text},
            "rubric": {"rules": [rows]},
            "rules_dropped": [{"rule": text, "reason": text}],
            "prompt_refusals": [{"candidate": text, "rule": text, "offending": text, "reason": text}],
            "lineage": [{"line": text, **rows}],
            "gate": {"outcome": text, name: text},
            "diff": text,
        },
    )
    await storage.save_run(run)
    return Laid(agent, text, task, run.id)


@pytest.fixture(scope="module", autouse=True)
def nasty(module_url: str) -> Laid:
    async def work(storage: Storage) -> Laid:
        return await lay_down(storage, AGENT, NASTY)

    return on(module_url, work)


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[Tab]:
    with open_tab(browser, site) as opened:
        yield opened


def addresses(site: Site, laid: Laid) -> list[str]:
    paths = ("", "/log", "/prompts", "/feedback", "/dataset", "/runs", "/audit")
    pages = [site.page(laid.agent, path) for path in paths]
    return [
        *pages,
        site.page(laid.agent, f"/tasks/{laid.task_id}"),
        site.page(laid.agent, f"/runs/{laid.run_id}"),
        site.page(laid.agent, f"/log/{newest_decision(site, laid.agent)}"),
    ]


def newest_decision(site: Site, agent: str) -> int:
    found = site.http.get("/v1/decisions", params={"agent": agent}).raise_for_status().json()
    return int(found["decisions"][0]["id"])


def expect_harmless(page: Page) -> None:
    assert page.evaluate("window.wasRun") is None
    strange = page.locator("main :is(script, img, style, iframe, base, meta, #bold, [onload], [onerror])")
    assert strange.count() == 0
    assert page.locator("main [hx-trigger=load]").count() == 0
    links = "all => all.every(one => new URL(one.href ?? one.action).origin === location.origin)"
    assert page.locator("a, area, form").evaluate_all(links)
    assert page.locator("html, body, main, h1").evaluate_all(
        "all => all.every(one => getComputedStyle(one).display !== 'none')"
    )
    assert overflow(page) <= 0


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_markup_and_hidden_characters_are_shown_and_not_obeyed(
    browser: Browser, site: Site, nasty: Laid, viewport: dict[str, int]
) -> None:
    found: list[str] = []
    with open_tab(browser, site, viewport=viewport) as tab:
        for address in addresses(site, nasty):
            page = tab.page
            page.goto(address)
            expect(page.get_by_role("navigation")).to_be_visible()
            if "/log?" in address or address == site.page(AGENT):
                page.locator("summary").first.click()
            shown = page.get_by_role("main").inner_text()
            assert "<script>window.wasRun" in shown, address
            expect_harmless(page)
            if viewport is WIDE:
                found += violations(page)
    assert found == []


def test_every_hidden_character_is_shown_by_its_number(tab: Tab, site: Site, nasty: Laid) -> None:
    page = tab.page
    page.goto(site.page(AGENT, f"/tasks/{nasty.task_id}"))
    answer = page.locator(".conversation .assistant dd")
    for number in SHOWN:
        expect(answer).to_contain_text(number)
    expect(answer).to_contain_text("👩‍👩‍👧 🏳️‍🌈 שלום")
    assert answer.evaluate("one => one.querySelector('bdi') !== null")
    raw = page.get_by_role("main").inner_html()
    assert not set(raw) & set("\u202e\u2066\u200b\ufeff\x1b\x07\x7f\u2028")


def test_its_words_come_out_live_as_safe_as_they_went_in(tab: Tab, site: Site, nasty: Laid) -> None:
    page = tab.page
    page.goto(site.page(AGENT))
    site.vote(AGENT, nasty.task_id, thumbs_up=True, comment=f"Again {MARKUP}", rater_id="<i>carl</i>")
    expect(page.locator(".votes > li").first).to_contain_text("Again <script>")
    expect(page.locator(".votes > li").first).to_contain_text("<i>carl</i>")
    page.locator(".log summary").first.click()
    expect(page.locator(".log details[open]").get_by_text("by <script>")).to_be_visible()
    page.locator("#funnel").scroll_into_view_if_needed()
    expect(page.get_by_role("table").filter(has_text="golden examples")).to_be_visible()
    expect_harmless(page)


def test_an_agent_of_any_name_is_led_to_and_overruled(tab: Tab, site: Site) -> None:
    page = tab.page
    page.goto(f"{site.origin}/dashboard")
    for name in ("Decisions", "Prompts", "Feedback", "Dataset", "Training", "Audit", "Overview"):
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        expect(page.locator("[aria-current=page]")).to_have_text(name)
    expect(page.get_by_role("heading", level=1)).to_contain_text('a/b?c&d=1#e<f>"g"\'h%41+U+202E{{7*7}} ü')
    page.locator(".votes a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Conversation")
    page.go_back()
    page.get_by_label("Why?").fill(f"Because {MARKUP}")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status").filter(has_text="is not paused")).to_be_visible()
    expect(page.locator(".log > li").first).to_contain_text("Because <script>")
    page.get_by_role("navigation").get_by_role("link", name="Prompts").click()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("main")).to_contain_text("only in prompt 1")
    expect_harmless(page)


def test_what_an_address_says_is_not_believed(tab: Tab, site: Site, nasty: Laid) -> None:
    tab.is_refused = True
    for address in (
        site.page(f"nobody {MARKUP}"),
        site.page(AGENT, did=MARKUP),
        site.page(AGENT, "/dataset", strategy=MARKUP),
        site.page(AGENT, "/log", before=MARKUP),
        site.page(AGENT, f"/tasks/{'%3Cscript%3E'}"),
        site.page(AGENT, "/runs/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"),
        f"{site.origin}/dashboard/sign-in?next=javascript:{RUN}",
        f"{site.origin}/dashboard/sign-in?next=//example.com/",
    ):
        answer = tab.page.goto(address)
        assert answer is not None
        assert answer.status < 500
        expect(tab.page.get_by_role("heading", level=1)).to_be_visible()
        expect_harmless(tab.page)


@pytest.mark.parametrize("text", [LONG, MANY], ids=["one-word", "many-words"])
def test_a_megabyte_in_one_line_is_cut_and_breaks_nothing(
    browser: Browser, site: Site, module_url: str, text: str
) -> None:
    async def work(storage: Storage) -> Laid:
        return await lay_down(storage, f"long {text[:4]}", text)

    laid = on(module_url, work)
    with open_tab(browser, site, viewport=NARROW) as tab:
        page = tab.page
        for address in addresses(site, laid):
            size = len(site.http.get(address).content)
            assert size <= MOST_BYTES, address
            page.goto(address)
            expect(page.get_by_role("navigation")).to_be_visible()
            expect(page.locator(".cut").first).to_be_attached()
            assert overflow(page) <= 0, address
        page.goto(site.page(laid.agent, f"/tasks/{laid.task_id}"))
        tab.is_refused = True  # a plain text names no icon, so that browsers look for one
        with page.expect_navigation() as opened:
            page.get_by_role("link", name="All of it").click()
        whole = opened.value
        assert whole is not None
        assert whole.headers["content-type"].startswith("text/plain")
        assert text.strip() in whole.text()


def test_the_answers_are_packed_for_the_way(site: Site, nasty: Laid) -> None:
    for address in addresses(site, nasty):
        answer = site.http.get(address)
        assert answer.headers["content-encoding"] == "gzip"
        assert len(gzip.compress(answer.content)) < MOST_BYTES / 10
