"""A bounded queue of records in files: what waits here survives the process, and comes out once, in order.

A record is one line. A file is locked by the process that appends to it, so nobody else reads it before that process
is done with it or gone; whoever has the lock reads it and then deletes it. After a crash a file is read again from its
start, so records have to be idempotent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Final

from uuid_utils.compat import uuid7

from bindu.utils.logging import get_logger

try:
    import fcntl
except ImportError:  # Windows: one process per folder
    fcntl = None  # type: ignore[assignment]

__all__ = ["Spool", "SpoolFullError"]

_FILE_BYTES: Final = 8_000_000  # after which a new file is begun
_SUFFIX: Final = ".jsonl"
_PRIVATE: Final = 0o600  # users' words

logger = get_logger("bindu.dspy.spool")


class SpoolFullError(OSError):
    """The spool has reached its limit; the records were not taken."""


class Spool:
    """One process's files in a folder that many may share. Not thread-safe; writing blocks for the disk."""

    def __init__(self, folder: str | Path, *, limit: int) -> None:
        self.folder = Path(folder)
        self.limit = limit  # bytes of all files in the folder, whoever's they are
        self._file: IO[bytes] | None = None
        self._reading: Path | None = None
        self._stored: dict[Path, int] = {}  # how many records of a file were dealt with
        self._unreadable: set[Path] = set()
        self._size = self._measure()
        self.count = sum(self._count(path) for path in self._paths())  # records that wait, as far as known

    @property
    def size(self) -> int:
        """Bytes that wait in the folder now, whoever put them there; others may have stored what we put."""
        self._size = self._measure()
        if not self._size:
            self.count = 0
        return self._size

    def put(self, records: Sequence[bytes]) -> None:
        """Append records, all or none, durable when this returns. Raises SpoolFullError, and OSError of the disk."""
        data = b"".join(record + b"\n" for record in records)
        if self._size + len(data) > self.limit:
            self._size = self._measure()
            if self._size + len(data) > self.limit:
                raise SpoolFullError(
                    f"The spool {self.folder} holds {self._size:,} bytes, its limit is {self.limit:,}."
                )
        file = self._file or self._begin()
        before = file.tell()
        try:
            _write(file, data)
            os.fsync(file.fileno())
        except BaseException:
            self._take_back(file, before)
            raise
        self._size += len(data)
        self.count += len(records)
        if file.tell() >= _FILE_BYTES:
            self.close()

    def close(self) -> None:
        """Be done with the file in use; what it holds waits."""
        file, self._file = self._file, None
        if file is not None:
            _unlock(file)
            with suppress(OSError):  # a full disk: what was not written was said to be lost
                file.close()

    def is_writable(self) -> bool:
        """Whether files can be made in the folder, as far as rights tell; the folder itself need not exist yet."""
        place = self.folder.absolute()
        while not place.exists():
            place = place.parent
        return place.is_dir() and os.access(place, os.W_OK | os.X_OK)

    def is_empty(self) -> bool:
        """Whether nothing waits, of any process."""
        return not any(self._paths())

    @contextmanager
    def oldest(self) -> Iterator[Iterator[bytes] | None]:
        """The records of the oldest file that nobody else works on, None if there is none; leaving it in peace,
        without an exception, deletes it. A half-written last record, of a process that was killed, is left out."""
        self.close()
        for path in sorted(self._paths()):
            file = self._open(path)
            if file is None:
                continue
            with file:
                if not (_is_locked(file) and path.exists()):
                    continue
                self._reading = path
                whole = (line[:-1] for line in file if line.endswith(b"\n"))
                yield islice(whole, self._stored.get(path, 0), None)
                file.seek(0)
                self.count = max(0, self.count - sum(line.endswith(b"\n") for line in file))
                if fcntl is not None:
                    path.unlink(missing_ok=True)
            path.unlink(missing_ok=True)  # on Windows only now: nobody deletes an open file there
            self._stored.pop(path, None)
            self._size = self._measure()
            return
        yield None

    def pass_over(self, count: int) -> None:
        """The next records of the file that is read were dealt with: this process does not read them again."""
        if self._reading is not None:
            self._stored[self._reading] = self._stored.get(self._reading, 0) + count

    def _begin(self) -> IO[bytes]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._size = self._measure()  # with what others wrote meanwhile
        while True:
            path = self.folder / f"{uuid7()}{_SUFFIX}"
            file = open(path, "xb", buffering=0, opener=lambda name, flags: os.open(name, flags, _PRIVATE))  # noqa: SIM115
            if _is_locked(file) and path.exists():
                self._file = file
                return file
            file.close()  # another process took it for one that was left behind

    def _take_back(self, file: IO[bytes], size: int) -> None:
        """Undo half a write, so that nothing stands in the file that was said to be lost."""
        try:
            file.truncate(size)
            file.seek(size)
        except OSError:
            self.close()

    def _open(self, path: Path) -> IO[bytes] | None:
        try:
            return path.open("r+b")  # NFS locks no file that is only read
        except FileNotFoundError:  # another process was done with it
            return None
        except OSError as error:
            if path not in self._unreadable:
                self._unreadable.add(path)
                logger.error("What waits in %s is not stored, as it cannot be read: %s", path, error)
            return None

    def _count(self, path: Path) -> int:
        file = self._open(path)
        if file is None:
            return 0
        with file:
            return sum(line.endswith(b"\n") for line in file)

    def _paths(self) -> Iterator[Path]:
        return self.folder.glob(f"*{_SUFFIX}")

    def _measure(self) -> int:
        total = 0
        for path in self._paths():
            with suppress(FileNotFoundError):  # another process was done with it
                total += path.stat().st_size
        return total


def _write(file: IO[bytes], data: bytes) -> None:
    """All of it: a disk that fills up takes a part, and refuses only the next."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _is_locked(file: IO[bytes]) -> bool:
    """Take the file's lock, which goes with the process; True where there are no such locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: one process per folder
        return True
    return True


def _unlock(file: IO[bytes]) -> None:
    """A fork has the file too, and would keep the lock for as long as it lives."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
