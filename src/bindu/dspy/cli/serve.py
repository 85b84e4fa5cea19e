"""``bindu serve``: the HTTP API, the OpenAI-compatible proxy and what monitoring asks for."""

from __future__ import annotations

import logging
import signal
import sys
from typing import Annotated, Final

import typer

from bindu.dspy.cli.output import INTERRUPTED, JsonOption, emit, run
from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.postgres.database import UNREADABLE
from bindu.dspy.storage import get_storage
from bindu.settings import app_settings
from bindu.utils.logging import get_logger
from bindu.utils.patience import within

__all__ = ["serve"]

PATIENCE: Final = 2.0  # seconds for the database, before requests are answered without it


def serve(
    host: Annotated[str | None, typer.Option(help="Default DSPY__SERVER__HOST, which is this machine only.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default DSPY__SERVER__PORT; 0 takes a free one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve prompts, record tasks and feedback, and stand between agents and their model.

    Callers from other addresses need a key: see 'bindu keys add'.

    Example: bindu serve --port 8080
    """

    def started(url: str) -> None:
        emit({"url": url}, as_json=as_json, text=lambda: f"Serving on {url}")

    async def service() -> signal.Signals | None:
        from bindu.dspy.web.server import serve as serve_http  # noqa: PLC0415 - an extra

        settings = app_settings.dspy.server
        try:
            await within(PATIENCE, _opened())
        except (StorageUnavailableError, TimeoutError) as error:  # the proxy goes on without; the rest says so
            if getattr(error, "where", None) == UNREADABLE:  # no waiting helps a URL that is misspelt
                raise
            why = str(error) or "it does not answer in time"
            get_logger("bindu.dspy.cli.serve").warning("Serving begins without the database: %s", why)
        return await serve_http(
            host=settings.host if host is None else host,
            port=settings.port if port is None else port,
            started=started,
        )

    told = run(service, level=logging.INFO)
    if told == signal.SIGINT:
        sys.stderr.write("interrupted\n")
        raise typer.Exit(INTERRUPTED)


async def _opened() -> None:
    await get_storage()
