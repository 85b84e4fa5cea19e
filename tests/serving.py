"""The application of ``bindu serve`` in this process: asked by httpx without a socket, from any address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from pydantic import BaseModel

from bindu.dspy.web.app import create_app
from bindu.settings import app_settings

HERE = ("127.0.0.1", 50_000)
STRANGER = ("203.0.113.5", 50_000)  # of RFC 5737: nobody's
OURS = "http://127.0.0.1:8080"


class Served:
    """One application, and clients of it; ``http`` is a program on this machine."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.http = self.client()

    def client(self, address: tuple[str, int] = HERE, base_url: str = OURS, **headers: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=address, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers)


@asynccontextmanager
async def serving(proxy: Mapping[str, Any] | None = None, **server: Any) -> AsyncIterator[Served]:
    """The application with its lifespan, on the storage in use; keywords are DSPY__SERVER__* settings."""
    with TemporaryDirectory() as folder:
        spool = {"spool_folder": str(Path(folder) / "spool"), **(proxy or {})}
        before = [_set(app_settings.dspy.server, server), _set(app_settings.dspy.proxy, spool)]
        try:
            app = create_app()
            async with app.router.lifespan_context(app):
                yield Served(app)
        finally:
            _set(app_settings.dspy.server, before[0])
            _set(app_settings.dspy.proxy, before[1])


def _set(section: BaseModel, values: Mapping[str, Any]) -> dict[str, Any]:
    """Change a section of the settings and return what it said before."""
    before = {name: getattr(section, name) for name in values}
    for name, value in values.items():
        setattr(section, name, value)
    return before
