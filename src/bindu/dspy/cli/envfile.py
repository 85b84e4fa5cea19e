"""The ``.env`` that ``bindu init`` writes: what a new user sets, then all else as comments. Pure."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from bindu.dspy.errors import InvalidArgumentError
from bindu.setting_texts import MEANINGS, meaning_of

__all__ = ["env_text", "foreign_lines", "gitignore_lines"]

_PLAIN: Final = re.compile(r"[\w.:/@%+,=?&~-]*")
_ASSIGNMENT: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=")
_IGNORED: Final = {".env": {".env", "/.env", ".env*", "*.env"}, ".bindu/": {".bindu", ".bindu/", "/.bindu", "/.bindu/"}}

_SECTIONS: Final = {"DSPY", "STORAGE"}  # which take a whole section as JSON

_HEAD: Final = """\
# Settings of bindu-dspy. The environment wins over this file; 'bindu config show --origin' tells who said what.
# It may hold passwords: keep it out of version control.
"""
_FIRST: Final = {
    "STORAGE__POSTGRES_URL": "Where the data lives: postgresql://user:password@host/database, or 'embedded:' for a "
    "PostgreSQL of its own under .bindu/.",
    "DSPY__AGENT_ID": "Whose prompt this is, when a command or a call names none.",
    "DSPY__DEFAULT_MODEL": "The model that training answers with, as provider/name.",
}
_UNSET: Final = {
    "DSPY__API_KEY": "The provider's key, for training; without it the provider's own variable is read, such as "
    "OPENAI_API_KEY.",
    "DSPY__API_BASE": "An OpenAI-compatible server instead of the provider's own.",
}


def env_text(values: Mapping[str, str], others: Mapping[str, str], foreign: Iterable[str] = ()) -> str:
    """The whole file. ``values`` are what it sets, ``others`` the defaults of all settings as texts.

    Raises InvalidArgumentError for a value that no such file can hold.
    """
    parts = [_HEAD]
    parts += [_entry(_FIRST[key], f"{key}={_quoted(key, values[key])}") for key in _FIRST if key in values]
    parts += [_entry(f"{_FIRST[key]} The environment sets it.", f"#{key}=") for key in _FIRST if key not in values]
    parts += [_entry(what, f"#{key}=") for key, what in _UNSET.items()]
    kept = list(foreign)
    if kept:
        parts.append("\n".join(["# Of other programs, as they were here before.", *kept]) + "\n")
    parts.append("# Everything else, with its default. Take the '#' away from the lines that you change.\n")
    rest = (key for key in others if key not in _FIRST and key not in _UNSET)
    parts += [_entry(meaning_of(key), f"#{key}={others[key]}") for key in rest]
    return "\n".join(parts)


def foreign_lines(text: str) -> list[str]:
    """What an earlier file says that is not ours, each value whole: all but comments and what sets our settings.

    What no reader understands becomes a comment: an open quote would take in what follows.
    """
    said = (one for one in parse_stream(io.StringIO(text)) if one.key is not None or one.error)
    return [_kept(one) for one in said if not _is_ours(_key(one))]


def gitignore_lines(text: str, *, also: Iterable[str] = (), is_ignored: Callable[[str], bool]) -> list[str]:
    """What must not be committed, and neither the folder's own ignore file names nor ``is_ignored`` knows."""
    said = {line.strip() for line in text.splitlines()}
    wanted: dict[str, Any] = _IGNORED | {one: {one} for one in also}
    return [name for name, ways in wanted.items() if not said & ways and not is_ignored(name)]


def _key(one: Binding) -> str:
    found = _ASSIGNMENT.match(one.original.string)
    return (one.key or (found[1] if found else "")).upper()


def _is_ours(key: str) -> bool:
    return key in MEANINGS or key in _SECTIONS or key.startswith("DSPY__")


def _kept(one: Binding) -> str:
    text = one.original.string.strip()
    return "\n".join(f"# {line}" for line in text.splitlines()) if one.error else text


def _entry(what: str, line: str) -> str:
    return "\n".join([*textwrap.wrap(what, 116, initial_indent="# ", subsequent_indent="# "), line]) + "\n"


def _quoted(key: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    text = value if _PLAIN.fullmatch(value) else f"'{escaped}'"
    read = dotenv_values(stream=io.StringIO(f"{key}={text}\n"))
    if dict(read) != {key: value} or "\n" in value:
        raise InvalidArgumentError(f"The value of {key} cannot be written into a .env file. Set it in the environment.")
    return text
