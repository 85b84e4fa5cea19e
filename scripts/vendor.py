"""Compare the scripts of others that we ship with what npm has: ``python scripts/vendor.py REGISTRY_URL``.

Files that miss are written; files that differ are named and left alone. Exit code 1 when any differs.
"""

from __future__ import annotations

import io
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT / "src/bindu/dspy/web/dashboard/static/vendor", ROOT / "tests/data/vendor")


@dataclass(frozen=True)
class Vendored:
    """One line of CHECKSUMS."""

    file: Path
    digest: str
    package: str  # name@version
    path: str  # in the package


def vendored(folder: Path) -> Iterator[Vendored]:
    """What a folder's CHECKSUMS lists."""
    for line in (folder / "CHECKSUMS").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            digest, name, package, path, _licence = line.split()
            yield Vendored(folder / name, digest, package, path)


@cache
def archive(registry: str, package: str) -> bytes:
    """A package as npm's registries store it."""
    name, _, version = package.rpartition("@")
    url = f"{registry.rstrip('/')}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def original(registry: str, one: Vendored) -> bytes:
    """The file as its package has it."""
    with tarfile.open(fileobj=io.BytesIO(archive(registry, one.package))) as packed:
        found = packed.extractfile(f"package/{one.path}")
        if found is None:
            raise FileNotFoundError(f"{one.package} has no {one.path}")
        return found.read()


def main(registry: str) -> int:
    differing = 0
    for one in (one for folder in FOLDERS for one in vendored(folder)):
        data = original(registry, one)
        same = sha256(data).hexdigest() == one.digest
        if same and not one.file.exists():
            one.file.write_bytes(data)
        same = same and one.file.read_bytes() == data
        differing += not same
        print(f"{'same' if same else 'DIFFERS'}  {one.package}  {one.file.relative_to(ROOT)}")
    return int(differing > 0)


if __name__ == "__main__":
    match sys.argv:
        case [_, registry]:
            sys.exit(main(registry))
        case [name, *_]:
            sys.exit(f"usage: {name} REGISTRY_URL")
