"""The specification's promises on a real database: dictionary keys, results and exceptions, walked one by one."""

import inspect
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import dspy
import pytest
from dspy.teleprompt import SIMBA, BootstrapFewShot
from pydantic import SecretStr

from bindu.dspy import train_async
from bindu.dspy.canary.controller import compare_metrics, promote_step, rollback_step, run_canary_controller
from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.dataset import build_golden_dataset
from bindu.dspy.guard import ensure_system_stable
from bindu.dspy.models import Interaction
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import select_prompt_with_canary, stop_prompt_refresh
from bindu.dspy.prompts import (
    bootstrap_prompt,
    get_active_prompt,
    get_candidate_prompt,
    insert_prompt,
    update_prompt_status,
    update_prompt_traffic,
    zero_out_all_except,
)
from bindu.dspy.strategies import LastTurnStrategy
from bindu.dspy.train import train
from bindu.settings import app_settings

PROMPT_KEYS = {"id", "prompt_text", "status", "traffic", "num_interactions", "average_feedback_score"}
TALK = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "On its way."}]


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    """Name another database, or none, for the length of a test."""
    before = app_settings.storage.postgres_url

    def name(url: str | None) -> None:
        app_settings.storage.postgres_url = None if url is None else SecretStr(url)

    yield name
    app_settings.storage.postgres_url = before


@pytest.mark.usefixtures("storage")
async def test_select_returns_the_specified_keys_of_the_active_or_the_candidate_prompt() -> None:
    assert await select_prompt_with_canary() is None
    await stop_prompt_refresh()
    await bootstrap_prompt("You help.")
    await insert_prompt("You help a lot.", "candidate", 0.4)
    seen = [await select_prompt_with_canary() for _ in range(200)]
    await stop_prompt_refresh()
    assert all(prompt is not None and set(prompt) >= PROMPT_KEYS for prompt in seen)
    assert {(p["status"], p["traffic"]) for p in seen if p} == {("active", 0.6), ("candidate", 0.4)}


@pytest.mark.usefixtures("storage")
async def test_the_prompt_manager_does_what_each_name_says() -> None:
    assert await get_active_prompt() is None
    assert await get_candidate_prompt() is None
    first = await insert_prompt("You help.", "active", 1.0)
    second = await insert_prompt("You help a lot.", "candidate", 0.1)
    active, candidate = await get_active_prompt(), await get_candidate_prompt()
    assert active is not None
    assert candidate is not None
    assert set(active) == set(candidate) == PROMPT_KEYS
    assert (active["id"], active["traffic"], candidate["id"], candidate["traffic"]) == (first, 0.9, second, 0.1)
    await update_prompt_traffic(second, 0.3)
    assert (await get_active_prompt() or {})["traffic"] == 0.7
    await update_prompt_status(second, "rolled_back")
    assert await get_candidate_prompt() is None
    third = await insert_prompt("You help quickly.", "candidate", 0.1)
    await zero_out_all_except([first])
    assert (await get_active_prompt() or {})["traffic"] == 1.0
    assert third == second + 1


@pytest.mark.usefixtures("storage")
async def test_metrics_are_all_tasks_of_a_prompt_and_the_mean_of_their_normalised_feedback() -> None:
    await bootstrap_prompt("You help.")
    tasks = [await record_task(TALK) for _ in range(3)]
    await record_feedback(tasks[0], {"rating": 4})
    await record_feedback(tasks[1], {"thumbs_up": False})
    active = await get_active_prompt()
    assert active is not None
    assert (active["num_interactions"], active["average_feedback_score"]) == (3, pytest.approx(0.4))


@pytest.mark.usefixtures("storage")
async def test_the_guard_and_training_raise_runtime_error_during_an_experiment() -> None:
    await ensure_system_stable()
    await bootstrap_prompt("You help.")
    await insert_prompt("You help a lot.", "candidate", 0.1)
    with pytest.raises(RuntimeError, match="on trial"):
        await ensure_system_stable()
    with pytest.raises(RuntimeError, match="on trial"):
        await train_async(optimizer=SIMBA, strategy=LastTurnStrategy(), require_feedback=True)
    await ensure_system_stable("somebody-else")


@pytest.mark.usefixtures("storage")
async def test_training_raises_value_error_without_an_active_prompt() -> None:
    with pytest.raises(ValueError, match="no active prompt"):
        await train_async(SIMBA)


@pytest.mark.parametrize("optimizer", [BootstrapFewShot, BootstrapFewShot(), "bootstrap", None, object()])
async def test_training_raises_value_error_for_what_cannot_rewrite_instructions(optimizer: Any) -> None:
    with pytest.raises(ValueError, match="not supported"):
        await train_async(optimizer)


async def test_a_simba_instance_with_its_own_metric_is_accepted(storage: PostgresStorage) -> None:
    instance = SIMBA(metric=lambda example, prediction: 1.0)
    with pytest.raises(ValueError, match="no active prompt"):  # it came as far as the database
        await train_async(instance)


async def test_training_raises_runtime_error_without_a_database_url(elsewhere: Any) -> None:
    elsewhere(None)
    with pytest.raises(RuntimeError, match="STORAGE__POSTGRES_URL is not set"):
        await train_async(SIMBA)


async def test_training_raises_connection_error_when_the_database_is_away(elsewhere: Any) -> None:
    elsewhere("postgresql://me:hidden@127.0.0.1:9/none")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9") as raised:
        await train_async(SIMBA)
    assert "hidden" not in str(raised.value)


async def test_train_is_the_synchronous_wrapper_and_refuses_a_running_loop() -> None:
    assert not inspect.iscoroutinefunction(train)
    with pytest.raises(RuntimeError, match="await train_async"):
        train(SIMBA)


def test_train_runs_and_closes_its_own_loop(postgres_url: str, elsewhere: Any) -> None:
    elsewhere(postgres_url)
    with pytest.raises(ValueError, match="no active prompt"):
        train(SIMBA, LastTurnStrategy(), True)


@pytest.mark.usefixtures("storage")
async def test_the_golden_dataset_is_a_list_of_interactions_and_filters_as_specified() -> None:
    await bootstrap_prompt("You help.")
    ratings = [1, 3, 5]
    for rating in ratings:
        task = await record_task([{"role": "user", "content": f"Question {rating}?"}, TALK[1]])
        await record_feedback(task, {"rating": rating})
    await record_task(TALK)
    golden = await build_golden_dataset(None, LastTurnStrategy(), True, 0.0)
    assert all(isinstance(example, Interaction) for example in golden)
    assert sorted(example.feedback_score or 0 for example in golden) == [0.2, 0.6, 1.0]
    assert len(await build_golden_dataset(min_feedback_threshold=0.6)) == 2
    assert len(await build_golden_dataset(require_feedback=False)) == 4
    assert len(await build_golden_dataset(limit=2)) == 2


@pytest.mark.parametrize(
    ("active", "candidate", "count", "winner"),
    [(0.5, 0.6, 20, "candidate"), (0.6, 0.5, 20, "active"), (0.5, 0.5, 20, None), (0.1, 0.9, 19, None)],
)
def test_compare_metrics_is_the_means_rule(active: float, candidate: float, count: int, winner: str | None) -> None:
    won = compare_metrics(
        {"num_interactions": 500, "average_feedback_score": active},
        {"num_interactions": count, "average_feedback_score": candidate},
    )
    assert won == winner


@pytest.mark.usefixtures("storage")
async def test_steps_move_a_tenth_and_the_controller_returns_nothing() -> None:
    await bootstrap_prompt("You help.")
    assert await run_canary_controller() is None
    await insert_prompt("You help a lot.", "candidate", 0.1)

    async def live() -> tuple[dict[str, Any], dict[str, Any]]:
        active, candidate = await get_active_prompt(), await get_candidate_prompt()
        assert active is not None
        assert candidate is not None
        return active, candidate

    await promote_step(*await live())
    assert [prompt["traffic"] for prompt in await live()] == [0.8, 0.2]
    await rollback_step(*await live())
    assert [prompt["traffic"] for prompt in await live()] == [0.9, 0.1]
    await rollback_step(*await live())
    assert await get_candidate_prompt() is None
    assert (await get_active_prompt() or {})["traffic"] == 1.0


@pytest.mark.usefixtures("storage")
async def test_feedback_is_linked_to_the_task_and_the_task_to_its_prompt() -> None:
    await bootstrap_prompt("You help.")
    prompt = await select_prompt_with_canary()
    task = await record_task(TALK, prompt=prompt)
    await record_feedback(task, {"thumbs_up": True})
    await stop_prompt_refresh()
    [example] = await build_golden_dataset()
    assert (example.id, example.prompt_id, example.feedback_type) == (task, (prompt or {})["id"], "thumbs_up")
    with pytest.raises(LookupError, match="has no task"):
        await record_feedback(uuid4(), {"thumbs_up": True})
    with pytest.raises(ValueError, match="1 to 5"):
        await record_feedback(task, {"rating": 99})


def test_the_program_really_carries_the_prompt() -> None:
    from bindu.dspy.program import AgentProgram, prompt_of

    program = AgentProgram("You help.")
    assert isinstance(program, dspy.Module)
    assert prompt_of(program) == "You help."
