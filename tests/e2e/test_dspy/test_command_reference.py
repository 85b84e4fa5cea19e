"""The reference of the commands and the table of the settings say what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from bindu.setting_texts import MEANINGS
from scripted import script

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/reference/commands.md"
SETTINGS = ROOT / "docs/reference/settings.md"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return script("commands_reference")


def test_the_page_is_what_the_commands_say_now(generator: ModuleType) -> None:
    assert PAGE.read_text(encoding="utf-8") == generator.reference(), "run 'make docs'"


def test_every_command_has_its_section(generator: ModuleType) -> None:
    sections = re.findall(r"^## (bindu .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == [f"bindu {path}" for path, _ in generator.commands()]
    assert len(sections) > 40


def test_every_example_is_of_its_own_command() -> None:
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    names = [section.partition("\n")[0] for section in sections]
    examples = re.findall(r"^Example: `(.+)`$", "\n".join(sections), re.MULTILINE)
    assert len(examples) == len(names)
    assert [name for name, example in zip(names, examples, strict=True) if name not in example] == []


def test_the_settings_table_says_what_the_commands_say(generator: ModuleType) -> None:
    text = SETTINGS.read_text(encoding="utf-8")
    assert generator.settings_page(text) == text, "run 'make docs'; meanings are in src/bindu/setting_texts.py"


def test_every_setting_has_a_meaning_and_no_meaning_is_left_over(generator: ModuleType) -> None:
    assert set(MEANINGS) == set(generator.setting_kinds())
