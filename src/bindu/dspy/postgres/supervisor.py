"""Runs the one PostgreSQL of a folder for as long as some program wants it.

A script of its own, standard library only and started without site-packages, so that it stays small:
``python -I -S supervisor.py FOLDER UID GID POSTGRES ARGUMENT...`` (UID and GID ``-1``: stay who we are).

What lives is told by locks (``flock``), never by process numbers, which containers reuse:

- ``clients.lock``     shared: one hold per program that uses the server; here exclusive, to stop it when none is left
- ``supervisor.lock``  exclusive, by this process for as long as it lives
- ``server.lock``      exclusive, inherited by every postgres process: who gets it knows that none lives
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

TYPE_CHECKING = False  # typing itself would cost memory
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PORT", "data_path", "main", "socket_folder", "try_lock"]

PORT = 5432  # only part of the socket's name: nothing listens on the network
_TICK = 0.5  # seconds between two looks at the clients; so long may a next program take to come
_PR_SET_PDEATHSIG = 1
_YOUNG = 1.0  # seconds; a server that dies younger than this would die again


def try_lock(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    """Take the lock if nobody holds it."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def socket_folder(folder: str) -> str:
    """Where the socket is: the data folder, or what the link ``socket`` says when that path is too long."""
    link = os.path.join(folder, "socket")
    return os.readlink(link) if os.path.islink(link) else os.path.join(folder, "data")


def data_path(path: str, descriptor: int, uid: int) -> str:
    """How a process of another user names a folder that lies under a home closed to it: by the open folder itself."""
    if uid < 0 or not sys.platform.startswith("linux"):
        return path
    return f"/proc/self/fd/{descriptor}"


def _open_lock(folder: str, name: str) -> int:
    return os.open(os.path.join(folder, name), os.O_RDWR)


def _launch(folder: str, identity: tuple[int, int], command: list[str], server_lock: int) -> int:
    """Start postgres, as another user if asked, holding ``server_lock``; returns its process number."""
    us = os.getpid()
    postmaster = os.fork()
    if postmaster == 0:
        _become_postgres(folder, identity, command, server_lock, parent=us)
    return postmaster


def _become_postgres(
    folder: str, identity: tuple[int, int], command: list[str], server_lock: int, *, parent: int
) -> None:
    prctl = _prctl()  # before the standard library may be out of this user's reach
    data = os.path.join(folder, "data")
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    for inherited in (descriptor, server_lock):
        os.set_inheritable(inherited, True)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, on its own behalf
        signal.signal(ignored, signal.SIG_DFL)
    uid, gid = identity
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    prctl(_PR_SET_PDEATHSIG, signal.SIGINT)  # a fast shutdown when the supervisor is killed
    if os.getppid() == parent:
        os.execv(command[0], [*command, "-D", data_path(data, descriptor, uid)])  # noqa: S606 - our own arguments
    os._exit(1)


def _prctl() -> Callable[[int, int], int]:
    if not sys.platform.startswith("linux"):
        return lambda *_: 0
    import ctypes  # noqa: PLC0415 - in the child only, to keep the parent small

    function: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    return function


def _remove_stale_files(folder: str) -> None:
    """Only with ``server.lock`` in hand: postgres itself would ask whether the number in them is alive."""
    sockets = socket_folder(folder)
    for place, name in (
        (os.path.join(folder, "data"), "postmaster.pid"),
        (sockets, f".s.PGSQL.{PORT}"),
        (sockets, f".s.PGSQL.{PORT}.lock"),
    ):
        path = os.path.join(place, name)
        if os.path.lexists(path):
            os.unlink(path)


def _remove_short_socket_folder(folder: str) -> None:
    link = os.path.join(folder, "socket")
    if os.path.islink(link):
        target = os.readlink(link)
        if os.path.isdir(target) and not os.listdir(target):
            os.rmdir(target)
        os.unlink(link)


def _watch(postmaster: int, clients: int) -> int:
    """Wait for the end of the server and return its status; stop it when no client is left."""
    stopping = False
    while True:
        ended, status = os.waitpid(postmaster, os.WNOHANG)
        if ended:
            return status
        if not stopping and try_lock(clients):
            stopping = True
            os.kill(postmaster, signal.SIGINT)
        time.sleep(0.01 if stopping else _TICK)


def _supervise(folder: str, identity: tuple[int, int], command: list[str], server_lock: int) -> int:
    clients = _open_lock(folder, "clients.lock")
    while True:
        _remove_stale_files(folder)
        began = time.monotonic()
        postmaster = _launch(folder, identity, command, server_lock)
        os.close(server_lock)
        status = _watch(postmaster, clients)
        killed = os.WIFSIGNALED(status) and time.monotonic() - began > _YOUNG
        if not killed:  # stopped by us or by hand, or it cannot start at all: then its log says why
            _remove_short_socket_folder(folder)
            return os.waitstatus_to_exitcode(status)
        server_lock = _open_lock(folder, "server.lock")
        fcntl.flock(server_lock, fcntl.LOCK_EX)  # until the last orphan of the killed server is gone


def main(arguments: list[str]) -> int:
    """Take the locks, let go of the caller, run the server; 1 when there is a supervisor already."""
    folder, uid, gid, *command = arguments
    held = _open_lock(folder, "supervisor.lock")
    server_lock = _open_lock(folder, "server.lock")
    if not (try_lock(held) and try_lock(server_lock)):
        return 1
    if os.fork():
        return 0
    os.chdir("/")
    return _supervise(folder, (int(uid), int(gid)), command, server_lock)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
