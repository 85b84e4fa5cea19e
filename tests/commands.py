"""The installed ``bindu`` as a subprocess, in a folder and an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent

Bindu = Callable[..., subprocess.CompletedProcess[str]]


def bindu_at(folder: Path, postgres_url: str) -> Bindu:
    """What runs a command there; keywords are further variables of its environment."""

    def call(*words: str, stdin: str = "", program: tuple[str, ...] = (str(BIN / "bindu"),), **extra: str) -> Any:
        environment = {"PATH": os.environ["PATH"], "STORAGE__POSTGRES_URL": postgres_url, "NO_COLOR": "1"}
        return subprocess.run(
            [*program, *words],
            cwd=folder,
            env=environment | extra,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return call
