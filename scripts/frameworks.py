"""The frameworks that we work with, and what their tests and examples need besides."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

Needs = tuple[str, ...]

ROOT: Final = Path(__file__).parents[1]
FRAMEWORKS: Final[dict[str, Needs]] = {  # the package whose version counts comes first
    "agno": ("agno", "openai"),
    "pydantic_ai": ("pydantic-ai-slim[openai]",),
    "openai_agents": ("openai-agents",),
    "google_adk": ("google-adk", "litellm"),
    "langchain": ("langchain", "langchain-openai"),
    "crewai": ("crewai",),
    "dspy": ("dspy",),
    "openfeature": ("openfeature-sdk", "openai"),
    "asgi": ("starlette", "httpx", "openai"),
}
BINDU: Final[dict[str, Needs]] = {
    "bindu": ("bindu>=2026.36",)
}  # cannot be beside us: both distributions own the package bindu
BINDU_NEEDS_PYTHON: Final = "3.12"


def chosen(arguments: list[str], known: Mapping[str, Needs] = FRAMEWORKS) -> dict[str, Needs]:
    """Those that were asked for, else all; ends the program for a name that is none."""
    unknown = set(arguments) - known.keys()
    if unknown:
        sys.exit(f"error: {', '.join(sorted(unknown))}: not one of {', '.join(known)}")
    return {name: needs for name, needs in known.items() if not arguments or name in arguments}


def package(requirement: str) -> str:
    """A requirement's package, without extras and bounds."""
    return re.split(r"[\[<>=]", requirement, maxsplit=1)[0]


def uv() -> str:
    """Where uv is: on the path, or where make puts it."""
    found = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    if not os.access(found, os.X_OK):
        sys.exit("error: uv is missing. Run 'make check' once, which installs it.")
    return found
