"""``bindu db``: the database's schema."""

from __future__ import annotations

import typer

from bindu.dspy.cli.output import DryRunOption, JsonOption, emit, run
from bindu.dspy.errors import StorageNotConfiguredError
from bindu.dspy.postgres import migrate
from bindu.settings import app_settings

__all__ = ["app"]

app = typer.Typer(help="Bring the database to this version's schema, or look at it.", no_args_is_help=True)


def _url() -> str:
    url = app_settings.storage.postgres_url
    if url is None or not url.get_secret_value():
        raise StorageNotConfiguredError
    return url.get_secret_value()
