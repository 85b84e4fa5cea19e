"""``bindu`` in the test's own process: quicker than a subprocess, for what does not depend on being one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import typer.main
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from bindu.dspy.cli.app import app
from bindu.settings import app_settings

__all__ = ["PATHS", "PROGRAM", "Run", "in_process"]

PROGRAM = typer.main.get_command(app)


def _walked(command: Any, path: str = "") -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children is None or getattr(command, "invoke_without_command", False):
        yield path
    for name, child in (children or {}).items():
        yield from _walked(child, f"{path} {name}".strip())


PATHS = tuple(_walked(PROGRAM))  # every command, such as "canary run"

Run = Callable[..., Result]


@contextmanager
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """What runs a command on the database of a URL; "" is none."""
    monkeypatch.setattr("typer.testing._get_command", lambda _: PROGRAM)  # which takes longer than most commands
    bindu, root = logging.getLogger("bindu"), logging.getLogger()
    level, handlers = bindu.level, list(root.handlers)

    def run(url: str, path: str, *words: str, stdin: str = "") -> Result:
        monkeypatch.setattr(app_settings.storage, "postgres_url", SecretStr(url) if url else None)
        return CliRunner().invoke(app, [*path.split(), *words], input=stdin)

    yield run
    bindu.setLevel(level)
    root.handlers[:] = handlers
