"""Real frameworks, each in an environment of its own: ``make test-integrations``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attribution import ACTIVE, CANDIDATE, Stored
from pydantic import SecretStr

from bindu.dspy.integrations.background import background, end_background
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt
from bindu.settings import app_settings
from fake_model import FakeModel


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModel]:
    with FakeModel() as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture
def stored(postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stored]:
    """A database in which the two prompts share the traffic, and what handles recorded in it."""
    monkeypatch.setattr(app_settings.storage, "postgres_url", SecretStr(postgres_url))
    monkeypatch.setattr(app_settings.dspy.proxy, "spool_folder", str(tmp_path / "spool"))
    background().submit(_both_live()).result(10)
    yield Stored(postgres_url)
    end_background()


async def _both_live() -> None:
    await bootstrap_prompt(ACTIVE, agent_id="support")
    await insert_prompt(CANDIDATE, "candidate", 0.5, agent_id="support")
