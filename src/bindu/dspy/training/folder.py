"""A run's folder: the rows it works on and every answer it paid for, so that a killed run goes on where it was."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from bindu.dspy.errors import BinduError
from bindu.dspy.models import JsonObject
from bindu.dspy.splits import Split

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Removal", "RunFolder", "Work", "remove_folders"]

LAPSES: Final = (
    20 * 3_600
)  # seconds after which a run that was left is not gone on with unasked: tonight has newer rows
FORGOTTEN: Final = 7 * 86_400  # seconds after which what was left is removed
_PRIVATE: Final = 0o700  # it holds customers' words

Kind = TypeVar("Kind")


class Work(msgspec.Struct, frozen=True):
    """What a run works on, frozen when it first began."""

    split: Split
    details: JsonObject  # funnel, counts


class _Job(msgspec.Struct, frozen=True):
    fingerprint: str
    runs: tuple[UUID, ...] = ()  # those that worked in here, oldest first


class RunFolder:
    """Belongs to one process at a time, by a lock that its death releases."""

    def __init__(self, path: Path, lock: int, job: _Job) -> None:
        self.path = path
        self._lock = lock
        self._job = job

    @classmethod
    def begin(cls, root: Path, agent_id: str, fingerprint: str, run_id: UUID) -> RunFolder:
        """A new folder, after those of the agent that nobody needs any more were removed. Raises BinduError."""
        home = _home(root, agent_id)
        try:
            home.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            _tidy(home)
            path = home / str(run_id)
            path.mkdir(mode=_PRIVATE)
            lock = _take(path)
            if lock is None:
                raise BlockingIOError("its lock is taken")
            made = cls(path, lock, _Job(fingerprint))
            made._store_job()
        except OSError as error:
            raise BinduError(
                f"The run's folder under {root} cannot be made: {error}. Set DSPY__TRAINING__RUNS_FOLDER to a folder "
                "that may be written."
            ) from error
        return made

    @classmethod
    def left(cls, root: Path, agent_id: str, fingerprint: str, *, lapsed: bool = False) -> RunFolder | None:
        """The newest folder that a run of the same fingerprint left unfinished and that no process works in.

        ``lapsed`` takes old ones too.
        """
        for path in sorted(_folders(_home(root, agent_id)), reverse=True):
            lock = _take(path)
            if lock is None:
                continue
            job = _read(path / "job.json", _Job)
            young = lapsed or _age(path) < LAPSES
            if job is not None and job.fingerprint == fingerprint and young and not (path / "finished").exists():
                return cls(path, lock, job)
            os.close(lock)
        return None

    @property
    def last_run(self) -> UUID | None:
        """The run that worked in here before."""
        return self._job.runs[-1] if self._job.runs else None

    @property
    def calls(self) -> Path:
        """The journal's file."""
        return self.path / "calls.jsonl"

    @property
    def asked(self) -> bool:
        """Whether conversations in *accept* have been asked."""
        return (self.path / "asked").exists()

    def enter(self, run_id: UUID) -> None:
        """Note which run works in here from now on."""
        self._job = _Job(self._job.fingerprint, (*self._job.runs, run_id))
        self._store_job()

    def work(self) -> Work | None:
        """What the run works on, None before it was decided."""
        return _read(self.path / "work.json", Work)

    def store_work(self, work: Work) -> None:
        self._write("work.json", msgspec.json.encode(work))

    def mark_asked(self) -> None:
        """Note, before it is done, that *accept* is spent."""
        self._write("asked", b"")

    def finish(self) -> None:
        """The run came to its end: nobody goes on with it."""
        with suppress(BinduError):
            self._write("finished", b"")

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let another process in."""
        os.close(self._lock)

    def remove(self) -> None:
        """And let go of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def _store_job(self) -> None:
        self._write("job.json", msgspec.json.encode(self._job))

    def _write(self, name: str, data: bytes) -> None:
        """Whole or not at all. Raises BinduError."""
        part = self.path / f"{name}.part"
        try:
            part.write_bytes(data)
            part.replace(self.path / name)
        except OSError as error:
            raise BinduError(
                f"The run's folder {self.path} cannot be written: {error}. Make room, then run again."
            ) from error


class Removal(NamedTuple):
    """What became of an agent's folders that hold some ids."""

    removed: int = 0
    used: tuple[str, ...] = ()  # in which a training is at work
    failed: tuple[str, ...] = ()  # that cannot be read or removed, each with why


def remove_folders(root: Path, agent_id: str, names: Iterable[str], *, dry_run: bool = False) -> Removal:
    """Remove an agent's folders whose rows hold one of the ids."""
    wanted = [msgspec.json.encode(name) for name in names]
    removed, used, failed = 0, [], []
    home = _home(root, agent_id)
    try:
        paths = sorted(home.iterdir())
    except FileNotFoundError:
        paths = []
    except OSError as error:
        return Removal(failed=(_told(home, error),))
    for path in paths:
        try:
            if not _holds(path, wanted):
                continue
            if _taken_away(path, dry_run=dry_run):
                removed += 1
            else:
                used.append(str(path))
        except OSError as error:
            failed.append(_told(path, error))
    return Removal(removed, tuple(used), tuple(failed))


def _holds(path: Path, wanted: list[bytes]) -> bool:
    try:
        rows = (path / "work.json").read_bytes()
    except (FileNotFoundError, NotADirectoryError):  # none were decided on yet
        return False
    return any(name in rows for name in wanted)


def _taken_away(path: Path, *, dry_run: bool) -> bool:
    """False when another process works in it. Raises OSError."""
    lock = _take(path)
    if lock is None:
        return False
    try:
        if not dry_run:
            # last the rows, by which it would be found again
            for part in sorted(path.iterdir(), key=lambda part: part.name == "work.json"):
                part.unlink()
            path.rmdir()
    finally:
        os.close(lock)
    return True


def _told(path: Path, error: OSError) -> str:
    return f"{path} ({error.strerror or error})"


def _home(root: Path, agent_id: str) -> Path:
    """An agent's id may be any text: its folder's name is a digest, which no id can make a path of."""
    return root / blake2b(agent_id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _folders(home: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (path for path in home.iterdir() if path.is_dir())


def _take(path: Path) -> int | None:
    """The lock of a folder, None when another process has it."""
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _tidy(home: Path) -> None:
    """Remove what came to its end, and what was left so long ago that its rows are history."""
    for path in _folders(home):
        if not (path / "finished").exists() and _age(path) < FORGOTTEN:
            continue
        lock = _take(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _age(path: Path) -> float:
    """Seconds since anything was written in it."""
    newest = max((one.stat().st_mtime for one in path.iterdir() if one.name != "lock"), default=path.stat().st_mtime)
    return time.time() - newest


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None
