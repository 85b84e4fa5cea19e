"""A command whose extra is not installed says which one it needs."""

from __future__ import annotations

import sys

import pytest

from commands import Bindu

BLOCKED = "import sys; sys.modules['{package}'] = None; from bindu.dspy.cli.app import main; main()"


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("serve", "uvicorn", "server"),
        ("serve", "aiohttp", "server"),
        ("serve", "limits", "server"),
        ("serve", "itsdangerous", "server"),
        ("worker", "cronsim", "worker"),
    ],
)
def test_a_missing_extra_is_named_and_exits_with_4(bindu: Bindu, command: str, package: str, extra: str) -> None:
    done = bindu(command, program=(sys.executable, "-c", BLOCKED.format(package=package)))
    assert done.returncode == 4, done.stderr
    assert f"pip install 'bindu-dspy[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
