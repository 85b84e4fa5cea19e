"""What ends a session, and what does not: as the threat model says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.web import tokens
from conftest import execute
from dashboards import form_on, key_for, send, sign_in, signed_in, where_to
from samples import open_trial
from serving import STRANGER, Served, serving

PAGE = {"agent": "default"}


@pytest.fixture
async def served(storage: PostgresStorage) -> AsyncIterator[Served]:
    await open_trial(storage)
    async with serving() as started:
        yield started


def a_copy(served: Served, http: httpx.AsyncClient) -> httpx.AsyncClient:
    """Another browser with the same cookie."""
    other = served.client(STRANGER)
    other.cookies.update(http.cookies)
    return other


async def test_signing_out_ends_nothing_for_a_copy_of_the_cookie(served: Served) -> None:
    ann = await signed_in(served, await key_for("ann", "view"))
    copy = a_copy(served, ann)
    assert (await send(ann, "sign-out", await form_on(ann))).status_code == 303
    assert where_to(await ann.get("/dashboard", params=PAGE))[0] == "/dashboard/sign-in"
    assert (await copy.get("/dashboard", params=PAGE)).status_code == 200


async def test_without_the_row_of_every_agent_all_have_to_sign_in_again(
    served: Served, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await key_for("ann", "view")
    ann = await signed_in(served, key)
    token, _ = await tokens.feedback_token("a task", agent_id="default")
    await execute(postgres_url, "DELETE FROM bindu_dspy.signing_keys WHERE agent_id = '*'")
    in_a_minute = tokens.monotonic() + 61
    monkeypatch.setattr(tokens, "monotonic", lambda: in_a_minute)
    assert where_to(await ann.get("/dashboard", params=PAGE))[0] == "/dashboard/sign-in"
    assert (await tokens.read_feedback_token(token)).task_id == "a task"
    assert (await sign_in(ann, key)).status_code == 303
    assert (await ann.get("/dashboard", params=PAGE)).status_code == 200
