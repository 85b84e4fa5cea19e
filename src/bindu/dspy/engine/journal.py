"""What a run has asked its models and what they answered, kept so that a killed run does not pay twice."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final

import msgspec

from bindu.dspy.errors import BinduError

__all__ = ["Journal", "Remembered"]

_PRIVATE: Final = 0o600  # answers are made of customers' words


class Remembered(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer as it came."""

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str = "stop"


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event: ``begin`` is written before a call is sent, ``end`` after it came back."""

    event: str
    key: str
    role: str
    dollars: float = 0.0  # begin: the most it can cost, end: what it did
    answer: Remembered | None = None
    fault: str | None = None
    seconds: float = 0.0


class Journal:
    """Answers by the digest of their request, in memory and, given a path, in a file of lines, one a call.

    A line goes to the operating system before its answer is used, so that the death of the process loses only what
    was in flight. Calls that began and never ended count as made and as costing the most they could. A line that was
    cut off is skipped. Writing raises OSError.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Raises BinduError when the file cannot be used."""
        self.answers: dict[str, Remembered] = {}
        self.calls: Counter[str] = Counter()  # by role, those of earlier processes only
        self.tokens: Counter[str] = Counter()
        self.cost = 0.0  # US dollars
        self._lock = threading.Lock()
        self._encode = msgspec.json.Encoder().encode
        self._file: int | None = None
        self._closed = False
        self._torn = False  # the file's last line was cut off
        if path is not None:
            try:
                self._load(path)
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE)
            except OSError as error:
                raise BinduError(
                    f"The run's record of its calls cannot be used: {error}. Make {path} a file that you may read and "
                    "write, then run the same command."
                ) from error

    def begin(self, key: str, role: str, worst: float) -> None:
        """Note that a call is about to be sent."""
        self._write(_Line("begin", key, role, worst))

    def end(
        self, key: str, role: str, spent: float, *, answer: Remembered | None = None, fault: str | None = None,
        seconds: float = 0.0,
    ) -> None:  # fmt: skip
        """Note what came of it; an answer is remembered from here on."""
        self._write(_Line("end", key, role, spent, answer, fault, seconds))
        if answer is not None:
            self.answers[key] = answer

    def close(self) -> None:
        """Give the file back; what would be written from here on raises OSError."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _write(self, line: _Line) -> None:
        """Append a line at once and whole: other processes may write, too."""
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "the run's record of its calls was closed")
            if self._file is None:
                return
            data = (b"\n" if self._torn else b"") + self._encode(line) + b"\n"
            written = os.write(self._file, data)
            self._torn = written < len(data)
            if self._torn:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _load(self, path: Path) -> None:
        """Recall every line that is whole."""
        if not path.exists():
            return
        decode = msgspec.json.Decoder(_Line).decode
        data = path.read_bytes()
        self._torn = not data.endswith(b"\n") and bool(data)
        begun: dict[str, list[float]] = defaultdict(list)
        for written in data.splitlines():
            try:
                self._recall(decode(written), begun)
            except msgspec.DecodeError:
                continue

    def _recall(self, line: _Line, begun: dict[str, list[float]]) -> None:
        """Count one event; ``begun`` holds the most that calls may cost whose end was not read yet."""
        if line.event == "begin":
            self.calls[line.role] += 1
            self.cost += line.dollars
            begun[line.key].append(line.dollars)
            return
        if begun[line.key]:
            self.cost += line.dollars - begun[line.key].pop()
        else:  # its beginning cannot be read
            self.calls[line.role] += 1
            self.cost += line.dollars
        if line.answer is not None:
            self.answers[line.key] = line.answer
            self.tokens["input"] += line.answer.input_tokens or 0
            self.tokens["output"] += line.answer.output_tokens or 0
