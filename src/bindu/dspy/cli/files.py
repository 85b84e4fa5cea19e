"""What commands write for people to keep: whole or not at all, and for nobody else to read."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from bindu.dspy.cli.output import fail

__all__ = ["is_there", "put", "read_text", "write_file", "write_stdout"]

_PRIVATE: Final = 0o600  # users' words, and passwords


def write_file(file: Path, data: bytes, what: str, *, dry_run: bool) -> str:
    """Write it, unless it is a dry run, and say so. Leaves with a sentence where nothing can be written."""
    if dry_run:
        there = ", in place of what is there" if file.exists() else ""
        return f"Would write {what} to {file} ({len(data):,} bytes){there}."
    try:
        put(file, data)
    except OSError as error:
        fail(error)
    return f"Wrote {what} to {file} ({len(data):,} bytes)."


def is_there(file: Path) -> bool:
    """Whether there is anything of that name."""
    return file.exists()


def read_text(file: Path) -> str:
    """UTF-8. Raises OSError and UnicodeDecodeError."""
    return file.read_text(encoding="utf-8")


def put(file: Path, data: bytes) -> None:
    """Make or replace a file in one step: a reader, or a process killed on the way, leaves the old or the new one.

    What is there and no file, such as a pipe or a device, is written to.
    """
    if file.exists() and not file.is_file():
        with file.open("wb") as there:
            there.write(data)
        return
    place = file.resolve()
    beside = place.with_name(f".{place.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE), "wb") as written:
            written.write(data)
            written.flush()
            os.fsync(written.fileno())
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_stdout(data: bytes) -> None:
    """Bytes as they are, whatever the terminal's encoding."""
    try:
        sys.stdout.flush()
        binary = getattr(sys.stdout, "buffer", None)
        if binary is not None:  # closed streams are replaced by one without
            binary.write(data)
            binary.flush()
    except OSError as error:
        sys.stdout = None  # or Python tries again, and fails loudly, when it exits
        fail(error)
