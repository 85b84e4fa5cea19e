"""The files of others are those that were published, with their licences, and go into what is installed."""

from __future__ import annotations

import re
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import pytest

from bindu.dspy.web.dashboard.assets import ASSETS

SHIPPED = files("bindu.dspy.web.dashboard") / "static" / "vendor"
FOR_TESTS = Path(__file__).parents[2] / "data" / "vendor"
ENTRY = re.compile(r"([0-9a-f]{64}) (\S+) (\S+)@\d+\.\d+\.\d+ \S+ (0BSD|MIT|MPL-2\.0)\n|#.*\n")


def entries(folder: Traversable) -> list[tuple[str, ...]]:
    text = (folder / "CHECKSUMS").read_text()
    assert ENTRY.sub("", text) == ""
    return [entry for entry in ENTRY.findall(text) if entry[0]]


@pytest.mark.parametrize("folder", [SHIPPED, FOR_TESTS])
def test_they_are_what_their_checksums_say_and_there_are_no_others(folder: Traversable) -> None:
    found = {name: digest for digest, name, *_ in entries(folder)}
    assert {one.name for one in folder.iterdir()} == {*found, "CHECKSUMS"}
    for name, digest in found.items():
        assert sha256((folder / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("folder", [SHIPPED, FOR_TESTS])
def test_each_package_has_its_licence_beside_it(folder: Traversable) -> None:
    licensed = {package for _, name, package, _ in entries(folder) if name.startswith("LICENSE.")}
    assert {package for *_, package, _ in entries(folder)} == licensed


def test_nothing_for_tests_alone_is_shipped() -> None:
    assert {f"vendor/{name}" for _, name, *_ in entries(SHIPPED) if not name.startswith("LICENSE.")} == {
        name for name in ASSETS if name.startswith("vendor/")
    }
    assert all(licence != "MPL-2.0" for *_, licence in entries(SHIPPED))
