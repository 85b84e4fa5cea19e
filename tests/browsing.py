"""Pages of another site, and what a real browser needs to show them: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

CHROMIUM = shutil.which("chromium") or ""
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="No browser: apt-get install chromium")


@contextmanager
def listening(app: ASGIApp, lifespan: Literal["on", "off"] = "off") -> Iterator[str]:
    """An application on loopback in a thread of its own: its origin."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, interface="asgi3", log_config=None, lifespan=lifespan, ws="none", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline, "uvicorn did not start"
            time.sleep(0.002)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


class Pages:
    """Another site, which shows answers with the component and allows scripts and calls of the API's origin alone."""

    def __init__(self) -> None:
        self.body = self.api = self.also = ""
        self.app = Starlette(routes=[Route("/", self._page)])

    async def _page(self, _: Request) -> Response:
        allowed = f"script-src {self.api}; connect-src {self.api} {self.also}"
        policy = f"default-src 'none'; {allowed}; require-trusted-types-for 'script'"
        head = f'<title>Answer</title><script type="module" src="{self.api}/feedback.js"></script>'
        page = f'<!doctype html><html lang="en"><meta name="color-scheme" content="light dark">{head}{self.body}</html>'
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})
