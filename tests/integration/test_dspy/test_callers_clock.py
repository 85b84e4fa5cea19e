"""Every service that takes ``now`` refuses a time without a zone, in the same words, and changes nothing."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from bindu.dspy.canary.controller import promote_step, rollback_step, run_canary_controller, run_step
from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.insights import agent_status
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import (
    bootstrap_prompt,
    insert_prompt,
    update_prompt_status,
    update_prompt_traffic,
    zero_out_all_except,
)
from bindu.dspy.runs import cancel_run, run_report

TALK = [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "On its way."}]


@pytest.mark.parametrize(
    ("service", "arguments"),
    [
        (bootstrap_prompt, ("You help.",)),
        (insert_prompt, ("You help best.", "deprecated", 0.0)),
        (update_prompt_traffic, (2, 0.5)),
        (update_prompt_status, (2, "active")),
        (zero_out_all_except, ([1],)),
        (record_task, (TALK,)),
        (record_feedback, ("task", {"rating": 5})),
        (promote_step, ({"id": 1}, {"id": 2})),
        (rollback_step, ({"id": 1}, {"id": 2})),
        (run_step, ()),
        (run_canary_controller, ()),
        (agent_status, ()),
        (run_report, ()),
        (cancel_run, ("0",)),
    ],
)
async def test_a_time_without_a_zone_is_refused_before_anything_happens(
    storage: PostgresStorage, service: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...]
) -> None:
    await bootstrap_prompt("You help.")
    await insert_prompt("You help well.", "candidate", 0.2)
    await record_task(TALK, task_id="task")
    before = await storage.prompts("default"), await storage.decisions("default")
    with pytest.raises(ValueError, match="has no time zone"):
        await service(*arguments, now=datetime(2026, 3, 1, 12))  # noqa: DTZ001 - that is the mistake
    assert (await storage.prompts("default"), await storage.decisions("default")) == before
