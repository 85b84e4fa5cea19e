"""The reference of the Python interface says what signatures and docstrings say."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import bindu.dspy
from bindu.dspy import errors
from scripted import script

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return script("python_reference")


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_code_says_now(generator: ModuleType, page: str) -> None:
    assert page == generator.reference(), "run 'make docs'"


def test_every_public_name_is_on_the_page(page: str) -> None:
    starred = set(re.findall(r"^### (\w+) ★$", page, re.MULTILINE))
    assert starred | {"BinduError"} == set(bindu.dspy.__all__)


def test_every_error_is_on_the_page(page: str) -> None:
    assert set(re.findall(r"^[├└]── (\w+)", page, re.MULTILINE)) | {"BinduError"} == {
        name for name in errors.__all__ if name.endswith("Error")
    }


def test_everything_on_the_page_is_importable_from_where_it_says(page: str) -> None:
    found = re.findall(r"^### (\w+)(?: ★)?\n\n`([\w.]+)`$", page, re.MULTILINE)
    assert len(found) > 40
    for name, module in found:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
