"""``<bindu-feedback>`` in a real browser, on a page with a strict policy, against a loopback stand-in for the API."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import bindu.dspy.web
from browsing import CHROMIUM, FLAGS, Pages, listening, needs_chromium

pytestmark = needs_chromium

SCRIPT = Path(bindu.dspy.web.__file__).parent / "static/feedback.js"


class Api:
    """Stands in for ``POST /v1/feedback``: keeps what came and gives the answers that a test lays down."""

    def __init__(self) -> None:
        self.came: list[tuple[str, Any]]
        self.answers: list[Response]
        self.open = threading.Event()  # answers wait for it
        self.asked = threading.Event()  # the question that browsers ask before they post came,
        self.allowed = threading.Event()  # and its answer waits for this
        self.arrived = threading.Event()
        routes = [Route("/v1/feedback", self._feedback, methods=["POST"]), Route("/feedback.js", self._script)]
        self._inner = Starlette(
            routes=routes,
            middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["POST"], allow_headers=["*"])],
        )
        self.reset()

    def reset(self) -> None:
        self.came, self.answers = [], []
        for event in (self.open, self.allowed):
            event.set()
        for event in (self.asked, self.arrived):
            event.clear()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            self.asked.set()
            await asyncio.to_thread(self.allowed.wait, 10)
        await self._inner(scope, receive, send)

    async def _script(self, _: Request) -> Response:
        return FileResponse(SCRIPT)

    async def _feedback(self, request: Request) -> Response:
        self.came.append((request.headers["authorization"], await request.json()))
        self.arrived.set()
        await asyncio.to_thread(self.open.wait, 10)
        return self.answers.pop(0) if self.answers else JSONResponse({"id": "1"}, 201)

    @property
    def votes(self) -> list[bool]:
        return [said["thumbs_up"] for _, said in self.came]


def refusal(status: int, sentence: str) -> Response:
    return JSONResponse({"error": {"message": sentence, "type": "refused"}}, status)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh tab; whatever the page's policy stopped and whatever a script threw fails the test."""
    wrong: list[str] = []
    context = browser.new_context()
    tab = context.new_page()
    tab.set_default_timeout(5_000)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    yield tab
    context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def sites() -> Iterator[tuple[Api, str, Pages, str]]:
    """The stand-in and the other site, with their origins."""
    api, pages = Api(), Pages()
    with listening(api.app) as origin, listening(pages.app) as site:
        yield api, origin, pages, site


@pytest.fixture
def api(sites: tuple[Api, str, Pages, str]) -> Api:
    sites[0].reset()
    return sites[0]


@pytest.fixture
def show(page: Page, api: Api, sites: tuple[Api, str, Pages, str]) -> Callable[..., Locator]:
    """Opens a page with the component, its attributes as given, against the stand-in."""
    _, origin, pages, site = sites

    def shown(attributes: str = 'token="fbt_one"', body: str = "{}", also: str = "") -> Locator:
        pages.api, pages.also = origin, also
        pages.body = body.replace("{}", f"<bindu-feedback {attributes}></bindu-feedback>")
        page.goto(site)
        return page.locator("bindu-feedback").first

    return shown


Show = Callable[..., Locator]


def thumb(widget: Locator, name: str) -> Locator:
    return widget.get_by_role("button", name=name)


def expect_pressed(widget: Locator, up: bool, down: bool) -> None:
    expect(thumb(widget, "Good answer")).to_have_attribute("aria-pressed", str(up).lower())
    expect(thumb(widget, "Bad answer")).to_have_attribute("aria-pressed", str(down).lower())


def listen(page: Page) -> None:
    """Keep in ``heard`` and ``seen`` what the component's events say, and what it shows then."""
    page.evaluate(
        "window.heard = []; window.seen = []; addEventListener('bindu-feedback', event => {"
        "heard.push(event.detail); seen.push(event.target.status.textContent) })"
    )


def wait_for_events(page: Page, number: int) -> None:
    page.evaluate(
        "number => new Promise(done => { const look = () => heard.length >= number ? done()"
        " : addEventListener('bindu-feedback', look, {once: true}); look() })",
        number,
    )


def test_the_script_as_served_is_under_3000_bytes() -> None:
    assert len(SCRIPT.read_bytes()) < 3_000


def test_a_click_sends_the_vote_with_the_token_and_says_thanks(show: Show, api: Api) -> None:
    widget = show()
    expect_pressed(widget, False, False)
    expect(widget.get_by_role("textbox")).to_be_hidden()
    api.open.clear()
    thumb(widget, "Good answer").click()
    expect(widget.get_by_role("status")).to_have_text("Sending…")
    api.open.set()
    expect(widget.get_by_role("status")).to_have_text("Thank you.")
    expect_pressed(widget, True, False)
    assert api.came == [("Bearer fbt_one", {"thumbs_up": True, "comment": ""})]


def test_the_keyboard_alone_is_enough(show: Show, page: Page, api: Api) -> None:
    widget = show()
    page.keyboard.press("Tab")
    expect(thumb(widget, "Good answer")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(widget.get_by_role("status")).to_have_text("Thank you.")
    page.keyboard.press("Tab")
    page.keyboard.type("It was about last year.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(widget.get_by_role("status")).to_have_text("Thank you.")
    assert [said for _, said in api.came] == [
        {"thumbs_up": False, "comment": ""},
        {"thumbs_up": False, "comment": "It was about last year."},
    ]


def test_who_changes_their_mind_is_heard_in_the_order_of_the_clicks(show: Show, page: Page, api: Api) -> None:
    widget = show()
    api.open.clear()
    thumb(widget, "Good answer").click()
    thumb(widget, "Bad answer").click()
    expect_pressed(widget, False, True)
    script = page.evaluate("document.querySelector('script').src")
    for _ in range(3):  # time enough for a second request, if there were one
        page.evaluate("script => fetch(script, {cache: 'no-store'}).then(reply => reply.text())", script)
    assert api.votes == [True]
    api.open.set()
    expect(widget.get_by_role("status")).to_have_text("Thank you.")
    expect_pressed(widget, False, True)
    assert api.votes == [True, False]


@pytest.mark.parametrize(
    ("answer", "attributes", "sentence"),
    [
        (refusal(401, "The feedback token has expired."), "", "The feedback token has expired."),
        (refusal(401, "The feedback token has expired."), 'expired="Seite neu laden."', "Seite neu laden."),
        (refusal(429, "More than 60 per minute."), 'expired="Seite neu laden."', "More than 60 per minute."),
        (refusal(422, "<b>No</b><img src=x onerror=alert(1)>"), "", "<b>No</b><img src=x onerror=alert(1)>"),
        (refusal(503, "The database is away."), 'failed="Nicht gespeichert."', "Nicht gespeichert."),
        (refusal(401, ""), 'failed=""', "Not saved. Try again."),
        (HTMLResponse("<h1>Bad gateway</h1>", 502), "", "Not saved. Try again."),
    ],
)
def test_what_went_wrong_is_a_sentence_and_the_vote_is_taken_back(
    show: Show, api: Api, answer: Response, attributes: str, sentence: str
) -> None:
    widget = show(f'token="t" {attributes}')
    thumb(widget, "Good answer").click()
    expect(widget.get_by_role("status")).to_have_text("Thank you.")
    api.answers = [answer]
    thumb(widget, "Bad answer").click()
    expect(widget.get_by_role("status")).to_have_text(sentence)
    expect_pressed(widget, True, False)
    assert widget.locator("img, b").count() == 0


def test_a_server_that_is_away_is_said_and_the_next_click_tries_again(show: Show, page: Page, api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    widget = show(f'token="t" src="{nowhere}/"', also=nowhere)
    api_origin = page.evaluate("document.querySelector('script').src.replace('/feedback.js', '')")
    thumb(widget, "Good answer").click()
    expect(widget.get_by_role("status")).to_have_text("Not saved. Try again.")
    expect_pressed(widget, False, False)
    widget.evaluate("(widget, origin) => widget.setAttribute('src', origin + '/')", api_origin)
    thumb(widget, "Good answer").click()
    expect(widget.get_by_role("status")).to_have_text("Thank you.")
    assert api.votes == [True]


def test_another_token_is_another_answer_even_while_a_vote_on_the_first_is_on_its_way(
    show: Show, page: Page, api: Api
) -> None:
    widget = show()
    thumb(widget, "Good answer").click()
    expect(widget.get_by_role("textbox")).to_be_visible()
    listen(page)
    api.open.clear()
    thumb(widget, "Bad answer").click()
    widget.evaluate("widget => widget.setAttribute('token', 'fbt_two')")
    api.open.set()
    wait_for_events(page, 1)
    expect(widget.get_by_role("status")).to_have_text("")
    expect(widget.get_by_role("textbox")).to_be_hidden()
    expect_pressed(widget, False, False)
    thumb(widget, "Bad answer").click()
    expect(widget.get_by_role("status")).to_have_text("Thank you.")
    assert [(token, said["thumbs_up"]) for token, said in api.came] == [
        ("Bearer fbt_one", True),
        ("Bearer fbt_one", False),
        ("Bearer fbt_two", False),
    ]


def test_an_earlier_click_that_failed_says_nothing_while_a_later_one_is_on_its_way(
    show: Show, page: Page, api: Api
) -> None:
    widget = show()
    listen(page)
    api.open.clear()
    api.answers = [refusal(429, "Slower."), refusal(429, "Slower still.")]
    thumb(widget, "Good answer").click()
    thumb(widget, "Bad answer").click()
    api.open.set()
    wait_for_events(page, 2)
    assert page.evaluate("seen") == ["Sending…", "Slower still."]
    expect_pressed(widget, False, False)


def test_a_reader_who_leaves_at_once_is_heard(show: Show, page: Page, api: Api) -> None:
    widget = show()
    api.allowed.clear()
    thumb(widget, "Bad answer").click()
    assert api.asked.wait(5)
    page.goto("about:blank")
    api.allowed.set()
    assert api.arrived.wait(5)
    assert api.votes == [False]


def test_the_page_hears_of_every_vote(show: Show, page: Page, api: Api) -> None:
    widget = show()
    listen(page)
    thumb(widget, "Good answer").click()
    expect(widget.get_by_role("status")).to_have_text("Thank you.")
    api.answers = [refusal(429, "Slower.")]
    thumb(widget, "Bad answer").click()
    expect(widget.get_by_role("status")).to_have_text("Slower.")
    assert page.evaluate("heard") == [
        {"thumbs_up": True, "comment": "", "error": ""},
        {"thumbs_up": False, "comment": "", "error": "Slower."},
    ]


def test_its_texts_can_be_translated_and_its_parts_styled(show: Show, page: Page) -> None:
    texts = 'thumbs="Rückmeldung" up="Gut" down="Schlecht" comment="Mehr dazu" send="Senden" thanks="Danke."'
    widget = show(f'token="t" {texts}')
    expect(widget.get_by_role("group", name="Rückmeldung")).to_be_visible()
    page.evaluate(
        "const sheet = new CSSStyleSheet(); sheet.replaceSync('bindu-feedback::part(up) { color: rgb(1, 2, 3) }');"
        "document.adoptedStyleSheets = [sheet]"
    )
    expect(thumb(widget, "Gut")).to_have_css("color", "rgb(1, 2, 3)")
    thumb(widget, "Schlecht").click()
    expect(widget.get_by_role("status")).to_have_text("Danke.")
    expect(widget.get_by_role("textbox", name="Mehr dazu")).to_be_visible()
    expect(thumb(widget, "Senden")).to_be_visible()


def test_it_follows_the_pages_light_and_dark(show: Show, page: Page) -> None:
    widget = show()
    seen = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        seen.add(thumb(widget, "Good answer").evaluate("thumb => getComputedStyle(thumb).backgroundColor"))
    assert len(seen) == 2


def test_it_lives_through_being_moved_and_leaves_a_form_around_it_alone(show: Show, page: Page, api: Api) -> None:
    widget = show(body='<form action="/elsewhere">{}</form><main></main>')
    thumb(widget, "Good answer").click()
    expect(widget.get_by_role("status")).to_have_text("Thank you.")
    widget.evaluate("widget => document.querySelector('main').append(widget)")
    expect_pressed(widget, True, False)
    assert "/elsewhere" not in page.url
    assert api.votes == [True]
