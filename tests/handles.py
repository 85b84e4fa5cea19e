"""Prompt handles on a test's database, and what was recorded through them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bindu.dspy.integrations import flush
from bindu.dspy.integrations.background import background, end_background
from bindu.dspy.prompt_selector import refresh_prompts
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt
from bindu.settings import app_settings
from conftest import fetch

ACTIVE, CANDIDATE = "You help.", "You help well."


@contextmanager
def handles_on(url: str, folder: Path) -> Iterator[None]:
    """Every handle uses that database; the thread that they share ends with the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_settings.storage, "postgres_url", SecretStr(url))
        patch.setattr(app_settings.dspy.proxy, "spool_folder", str(folder / "spool"))
        yield
        end_background()


def begin_trial(share: float = 0.5, texts: tuple[str, str] = (ACTIVE, CANDIDATE)) -> None:
    """Two prompts share the traffic of the agent ``support``."""

    async def begin() -> None:
        await bootstrap_prompt(texts[0], agent_id="support")
        await insert_prompt(texts[1], "candidate", share, agent_id="support")
        await refresh_prompts("support")

    background().submit(begin()).result(10)


def recorded_tasks(url: str) -> list[dict[str, Any]]:
    """All tasks, oldest first, once everything is in the database."""
    flush(10)
    rows = asyncio.run(fetch(url, "SELECT * FROM bindu_dspy.tasks ORDER BY id"))
    return [{**row, "history": json.loads(row["history"])} for row in rows]


def recorded_votes(url: str) -> list[dict[str, Any]]:
    """All votes, oldest first."""
    flush(10)
    return [dict(row) for row in asyncio.run(fetch(url, "SELECT * FROM bindu_dspy.task_feedback ORDER BY id"))]
