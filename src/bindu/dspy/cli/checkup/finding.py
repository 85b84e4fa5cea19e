"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "State", "note", "ok", "problem", "warning"]

State = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How something is; ``configuration`` problems are those that keep every command from working."""

    check: str
    state: State
    text: str  # a sentence
    advice: str = ""  # what to do
    configuration: bool = False


def ok(check: str, text: str) -> Finding:
    """As it should be."""
    return Finding(check=check, state="ok", text=text)


def note(check: str, text: str, advice: str = "") -> Finding:
    """Neither good nor bad."""
    return Finding(check=check, state="note", text=text, advice=advice)


def warning(check: str, text: str, advice: str) -> Finding:
    """It works, but not as it should."""
    return Finding(check=check, state="warning", text=text, advice=advice)


def problem(check: str, text: str, advice: str, *, configuration: bool = False) -> Finding:
    """It does not work."""
    return Finding(check=check, state="problem", text=text, advice=advice, configuration=configuration)
