"""The OpenAPI document against the server itself, asked by Schemathesis with whatever the document allows and forbids.

``MAX_EXAMPLES=1000 SEED=7`` in the environment makes it a long one.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.storage import close_storage
from bindu.dspy.web.app import create_app
from bindu.settings import app_settings
from browsing import listening
from commands import BIN
from conftest import value
from samples import TALK

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",  # the opposite cannot be asked for: no schema says that a task must be known
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.fixture
def origin(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the application listens; its agent has a prompt and a rated task."""
    monkeypatch.setattr(app_settings.storage, "postgres_url", postgres_url)
    monkeypatch.setattr(app_settings.dspy.proxy, "spool_folder", str(tmp_path / "spool"))
    monkeypatch.setattr(app_settings.dspy.proxy, "upstream", "http://127.0.0.1:9/v1")  # nobody
    monkeypatch.setattr(app_settings.dspy.server, "rate_limit", "100000/second")

    async def begin() -> None:
        await bootstrap_prompt("You help.")
        await record_feedback(await record_task(TALK, task_id="0", context_id="0"), {"rating": 4})
        await close_storage()

    asyncio.run(begin())
    with listening(create_app(), "on") as started:
        yield started


async def test_the_server_does_what_its_document_says(origin: str, postgres_url: str, tmp_path: Path) -> None:
    phases = "examples,coverage,fuzzing,stateful"
    words = [
        "--phases",
        phases,
        "--checks",
        ",".join(CHECKS),
        "--continue-on-failure",
        "--no-color",
        "--warnings",
        "off",
    ]
    chance = ["--max-examples", os.environ.get("MAX_EXAMPLES", "12"), "--seed", os.environ.get("SEED", "1")]
    ended = await asyncio.to_thread(
        subprocess.run,
        [str(BIN / "st"), "run", f"{origin}/openapi.json", *words, *chance, "--generation-database", "none"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Tested: 10" in ended.stdout
    assert await value(postgres_url, "SELECT count(*) FROM bindu_dspy.tasks") > 1
    async with httpx.AsyncClient(base_url=origin) as http:
        assert (await http.get("/readyz")).json()["problem"] is None
