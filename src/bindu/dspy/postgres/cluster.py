"""What a server of our own is made of: its data folder, its socket, its settings."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.postgres.binaries import Account
from bindu.dspy.postgres.supervisor import PORT, data_path, socket_folder

__all__ = ["ENVIRONMENT", "create_data", "place_socket", "server_command"]

# The server outlives the program that started it: it gets none of its secrets, and no PGPORT or LANG to trip over.
ENVIRONMENT = {key: os.environ[key] for key in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if key in os.environ} | {
    "PATH": os.defpath,
    "LC_ALL": "C",
    "TZ": "UTC",
}

# Written into postgresql.conf once, where the owner of the data may change them.
_TUNING = {
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    "huge_pages": "off",  # containers that forbid them kill the server
    "dynamic_shared_memory_type": "mmap",  # /dev/shm is 64 MB in Docker and emptied by systemd at logout
    "io_method": "sync",  # three processes less
    "max_logical_replication_workers": "0",  # one more
    "log_min_messages": "log",  # no refused statements: their values are conversations
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}

_INITDB = [
    "--username=bindu",
    "--auth=trust",  # of the one account that may enter the socket's folder
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",  # the same order and case on every system
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
    *(argument for key, value in _TUNING.items() for argument in ("--set", f"{key}={value}")),
]
_SYNC = ["--sync-method=syncfs"] if sys.platform.startswith("linux") else []  # at once, not file by file

# Not for anybody to change: the socket is the only door, and what was committed stays.
_FIXED = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "full_page_writes": "on",
    "logging_collector": "off",
    "log_destination": "stderr",
}

_LONGEST_SOCKET_PATH = 103  # bytes, on macOS; Linux allows four more


def create_data(folder: Path, binaries: Path, account: Account | None, server_lock: int) -> None:
    """Make ``data`` with its database ``bindu``, or nothing: it gets its name when it is complete and on disk.

    The caller holds ``server.lock``, and so do the processes here: killed with us or not, nobody meets them.
    """
    if account is None:
        _check_we_have_a_name(folder)
    new = folder / "data.new"
    if new.exists():  # of somebody who was killed
        shutil.rmtree(new)
    new.mkdir(mode=0o700)
    descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if account is not None:
            os.fchown(descriptor, account.uid, account.gid)
        data = data_path(str(new), descriptor, -1 if account is None else account.uid)
        run = partial(_run, folder=folder, account=account, descriptors=(descriptor, server_lock))
        initdb, postgres = str(binaries / "initdb"), str(binaries / "postgres")
        run([initdb, "-D", data, "--no-sync", *_INITDB])
        # Renaming is instant; creating another database would copy one.
        run([postgres, "--single", "-F", "-D", data, "template1"], text="ALTER DATABASE postgres RENAME TO bindu\n")
        run([initdb, "-D", data, "--sync-only", *_SYNC])
    finally:
        os.close(descriptor)
    new.rename(folder / "data")
    _sync_folder(folder)


def _check_we_have_a_name(folder: Path) -> None:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise StorageUnavailableError(
            f"embedded:{folder}",
            f"PostgreSQL refuses user number {os.geteuid()}, which has no name; add it to /etc/passwd or name a server",
        ) from None


def _run(
    command: Sequence[str], *, folder: Path, account: Account | None, descriptors: Sequence[int], text: str = ""
) -> None:
    done = subprocess.run(  # noqa: S603 - our own arguments
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=ENVIRONMENT,
        pass_fds=descriptors,
        start_new_session=True,  # Ctrl-C is for the program
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        said = words[-1] if words else f"exit code {done.returncode}"
        raise StorageUnavailableError(f"embedded:{folder}", f"{Path(command[0]).name} failed: {said}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def place_socket(folder: Path, account: Account | None) -> None:
    """Decide where the socket goes: into the data folder, or into a short private one when that path is too long."""
    link, data = folder / "socket", folder / "data"
    longest = os.fsencode(data / f".s.PGSQL.{PORT}.lock")
    if len(longest) <= _LONGEST_SOCKET_PATH and b"," not in longest:  # a comma separates hosts in a URL
        link.unlink(missing_ok=True)
        return
    owner = os.geteuid() if account is None else account.uid
    if link.is_symlink():
        if _is_private(Path(os.readlink(link)), owner):
            return
        link.unlink()
    short = tempfile.mkdtemp(prefix="bindu-", dir=Path("/", "tmp"))  # TMPDIR may be long or closed
    if account is not None:
        os.chown(short, account.uid, account.gid)
    link.symlink_to(short)


def _is_private(place: Path, owner: int) -> bool:
    try:
        there = place.lstat()
    except FileNotFoundError:
        return False
    return stat.filemode(there.st_mode) == "drwx------" and there.st_uid == owner


def server_command(folder: Path, binaries: Path) -> list[str]:
    """The postgres command but for its data folder, which the supervisor adds."""
    sockets = socket_folder(str(folder))
    fixed = _FIXED | {"unix_socket_directories": "." if sockets == str(folder / "data") else sockets}
    return [str(binaries / "postgres"), *(part for key, value in fixed.items() for part in ("-c", f"{key}={value}"))]
