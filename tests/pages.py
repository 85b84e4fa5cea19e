"""The dashboard as people see it: ``bindu serve`` as a process, and tabs of a browser that notice what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.storage import use_storage
from bindu.settings import StorageSettings
from browsing import CHROMIUM, FLAGS

AXE = Path(__file__).parent / "data/vendor/axe.min.js"
NARROW = {"width": 360, "height": 740}
WIDE = {"width": 1200, "height": 900}

T = TypeVar("T")


def on(url: str, work: Callable[[PostgresStorage], Awaitable[T]], *, seconds: float = 60) -> T:
    """Do something on a database, in a thread of its own: Playwright's loop runs in this one."""

    async def worked() -> T:
        storage = await PostgresStorage.connect(url, StorageSettings())
        try:
            with use_storage(storage):
                return await work(storage)
        finally:
            await storage.close()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, worked()).result(seconds)


@contextmanager
def serve_pages(url: str, folder: Path, port: int = 0, **settings: str) -> Iterator[Site]:
    """``bindu serve`` on that database; keywords are further variables of its environment."""
    environment = {"PATH": os.environ["PATH"], "NO_COLOR": "1", "STORAGE__POSTGRES_URL": url}
    process = subprocess.Popen(
        [sys.executable, "-m", "bindu.dspy.cli.app", "serve", "--port", str(port), "--json"],
        cwd=folder,
        env=environment | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        site = Site(json.loads(process.stdout.readline())["url"])
        with site.http:
            yield site
    finally:
        process.terminate()
        process.communicate(timeout=20)


class Site:
    """A dashboard's origin, and the addresses of its pages."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.http = httpx.Client(base_url=origin, trust_env=False)

    def page(self, agent: str, path: str = "", **query: object) -> str:
        return f"{self.origin}/dashboard{path}?{urlencode({'agent': agent, **query})}"

    def vote(self, agent: str, task_id: object, **said: Any) -> None:
        """What an application sends when somebody presses a thumb."""
        sent = {"agent": agent, **said}
        self.http.post(f"/v1/tasks/{task_id}/feedback", json=sent).raise_for_status()


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


class Tab:
    """A page of its own context. ``wrong`` is whatever no page of ours may do."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(6_000)
        self.wrong: list[str] = []
        self.is_scripted = True
        self.is_refused = False  # whether the server may say no to it, which browsers write on their console
        self._host = urlsplit(origin).netloc
        self.page.on("pageerror", lambda error: self.wrong.append(f"thrown: {error}"))
        self.page.on("console", lambda said: self._heard(said.type, said.text))
        self.page.on("request", self._asked)
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("popup", lambda other: self.wrong.append(f"popup: {other.url}"))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not (self.is_refused and "the server responded with a status of 4" in text):
            self.wrong.append(f"console: {text}")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "about") and parts.netloc != self._host:
            self.wrong.append(f"request: {request.url}")


@contextmanager
def open_tab(browser: Browser, site: Site, **how: Any) -> Iterator[Tab]:
    """A tab in a fresh context; whatever was wrong in it fails the test when it is closed."""
    context = browser.new_context(**{"viewport": WIDE, **how})
    tab = Tab(context, site.origin)
    yield tab
    context.close()
    assert not tab.wrong, "\n".join(tab.wrong)


def violations(page: Page) -> list[str]:
    """What axe has to say of the page as it is, one line for each element."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{urlsplit(page.url).path}: {one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


def overflow(page: Page) -> int:
    """How many pixels the page can be scrolled sideways."""
    return int(page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"))
