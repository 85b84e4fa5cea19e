"""The specification's verbs: whatever is asked, shares sum to 1 and at most two prompts are live."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bindu.dspy.decision import replay
from bindu.dspy.errors import (
    BinduError,
    ExperimentActiveError,
    InvalidArgumentError,
    InvalidPromptError,
    NoActivePromptError,
    StorageNotConfiguredError,
    UnknownPromptError,
)
from bindu.dspy.guard import ensure_system_stable
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import (
    bootstrap_prompt,
    get_active_prompt,
    get_candidate_prompt,
    insert_prompt,
    update_prompt_status,
    update_prompt_traffic,
    zero_out_all_except,
)
from bindu.dspy.storage import use_storage
from bindu.settings import StorageSettings, app_settings

KEYS = {"id", "prompt_text", "status", "traffic", "num_interactions", "average_feedback_score"}


async def live(agent_id: str | None = None) -> list[tuple[int, str, float]]:
    found = [await get_active_prompt(agent_id=agent_id), await get_candidate_prompt(agent_id=agent_id)]
    return [(prompt["id"], prompt["status"], prompt["traffic"]) for prompt in found if prompt is not None]


async def on_trial(share: float = 0.1) -> int:
    await bootstrap_prompt("You help.")
    return await insert_prompt("You help well.", "candidate", share)


@pytest.mark.usefixtures("storage")
async def test_before_bootstrap_there_is_nothing() -> None:
    assert await live() == []
    with pytest.raises(NoActivePromptError):
        await insert_prompt("You help.", "candidate", 0.1)
    with pytest.raises(NoActivePromptError):
        await update_prompt_traffic(1, 0.5)


@pytest.mark.usefixtures("storage")
async def test_the_first_prompt_takes_all_traffic_and_later_starts_change_nothing() -> None:
    first = await bootstrap_prompt("  You help.\n")
    again = await bootstrap_prompt("You help otherwise.")
    assert first == again
    assert set(first) == KEYS
    assert (first["prompt_text"], first["status"], first["traffic"]) == ("You help.", "active", 1.0)
    assert (first["num_interactions"], first["average_feedback_score"]) == (0, None)


@pytest.mark.usefixtures("storage")
async def test_of_eight_bootstraps_one_makes_the_prompt() -> None:
    found = await asyncio.gather(*(bootstrap_prompt(f"You help, {number}.") for number in range(8)))
    assert len({(prompt["id"], prompt["prompt_text"]) for prompt in found}) == 1


@pytest.mark.usefixtures("storage")
async def test_inserting_a_candidate_begins_a_trial_with_the_rest_for_the_active() -> None:
    candidate = await on_trial(0.1)
    assert await live() == [(1, "active", 0.9), (candidate, "candidate", 0.1)]
    with pytest.raises(ExperimentActiveError):
        await insert_prompt("You help best.", "candidate", 0.1)
    with pytest.raises(RuntimeError, match="still on trial"):
        await ensure_system_stable()


@pytest.mark.usefixtures("storage")
async def test_the_system_is_stable_before_and_after_a_trial() -> None:
    await ensure_system_stable()
    candidate = await on_trial()
    await update_prompt_status(candidate, "rolled_back")
    await ensure_system_stable()


@pytest.mark.usefixtures("storage")
async def test_active_is_inserted_only_once_and_with_all_traffic() -> None:
    with pytest.raises(InvalidPromptError, match="all traffic"):
        await insert_prompt("You help.", "active", 0.5)
    assert await insert_prompt("You help.", "active", 1.0) == 1
    with pytest.raises(InvalidPromptError, match="already has active prompt 1"):
        await insert_prompt("You help well.", "active", 1.0)


@pytest.mark.usefixtures("storage")
async def test_retired_texts_are_stored_without_traffic() -> None:
    await bootstrap_prompt("You help.")
    assert await insert_prompt("You sell.", "deprecated", 0.0) == 2
    with pytest.raises(InvalidPromptError, match="takes no traffic"):
        await insert_prompt("You sell.", "rolled_back", 0.1)
    assert await live() == [(1, "active", 1.0)]


@pytest.mark.parametrize(
    ("text", "status", "traffic"),
    [
        (" \n", "candidate", 0.1),
        ("You help.", "candidat", 0.1),
        ("You help.", "candidate", 0.0),
        ("You help.", "candidate", 1.0),
        ("You help.", "candidate", 1.1),
        ("You help.", "candidate", -0.1),
        ("You help.", "candidate", float("nan")),
        ("You help.", "candidate", True),
    ],
)
@pytest.mark.usefixtures("storage")
async def test_a_prompt_that_cannot_be_is_refused(text: str, status: str, traffic: float) -> None:
    with pytest.raises(InvalidPromptError):
        await insert_prompt(text, status, traffic)


@pytest.mark.usefixtures("storage")
async def test_no_agent_is_called_every_agent() -> None:
    with pytest.raises(InvalidArgumentError, match="means every agent"):
        await bootstrap_prompt("You help.", agent_id="*")
    for status, share in (("active", 1), ("candidate", 0.1), ("deprecated", 0)):
        with pytest.raises(InvalidArgumentError, match="means every agent"):
            await insert_prompt("You help.", status, share, agent_id="*")


@pytest.mark.usefixtures("storage")
async def test_setting_one_share_sets_the_other() -> None:
    candidate = await on_trial()
    await update_prompt_traffic(candidate, 0.3)
    assert await live() == [(1, "active", 0.7), (candidate, "candidate", 0.3)]
    await update_prompt_traffic(1, 0.6)
    assert await live() == [(1, "active", 0.6), (candidate, "candidate", 0.4)]


@pytest.mark.usefixtures("storage")
async def test_the_old_way_of_starting_a_trial_ends_in_the_same_place() -> None:
    candidate = await on_trial()
    await update_prompt_traffic(1, 0.9)
    await zero_out_all_except([1, candidate])
    assert await live() == [(1, "active", 0.9), (candidate, "candidate", 0.1)]


@pytest.mark.parametrize("by", ["traffic", "active's traffic", "status", "zero"])
async def test_a_candidate_is_promoted_by_traffic_or_status(storage: PostgresStorage, by: str) -> None:
    candidate = await on_trial()
    match by:
        case "traffic":
            await update_prompt_traffic(candidate, 1.0)
        case "active's traffic":
            await update_prompt_traffic(1, 0.0)
        case "status":
            await update_prompt_status(candidate, "active")
        case _:
            await zero_out_all_except([candidate])
    assert await live() == [(candidate, "active", 1.0)]
    assert [(prompt.id, prompt.status) for prompt in await storage.prompts("default")] == [
        (1, "deprecated"),
        (candidate, "active"),
    ]
    await update_prompt_status(candidate, "active")
    await update_prompt_status(1, "deprecated")
    assert await live() == [(candidate, "active", 1.0)]


@pytest.mark.parametrize("by", ["traffic", "active's traffic", "status", "zero"])
async def test_a_candidate_is_rolled_back_by_traffic_or_status(storage: PostgresStorage, by: str) -> None:
    candidate = await on_trial()
    match by:
        case "traffic":
            await update_prompt_traffic(candidate, 0.0)
        case "active's traffic":
            await update_prompt_traffic(1, 1.0)
        case "status":
            await update_prompt_status(candidate, "rolled_back")
        case _:
            await zero_out_all_except([1])
    assert await live() == [(1, "active", 1.0)]
    assert [(prompt.id, prompt.status) for prompt in await storage.prompts("default")] == [
        (1, "active"),
        (candidate, "rolled_back"),
    ]


@pytest.mark.usefixtures("storage")
async def test_what_would_leave_nobody_answering_is_refused() -> None:
    await bootstrap_prompt("You help.")
    retired = await insert_prompt("You sell.", "deprecated", 0.0)
    with pytest.raises(ValueError, match="only live prompt"):
        await update_prompt_traffic(1, 0.9)
    with pytest.raises(ValueError, match="is retired"):
        await update_prompt_traffic(retired, 0.1)
    with pytest.raises(ValueError, match="somebody has to answer"):
        await zero_out_all_except([retired])
    with pytest.raises(ValueError, match="somebody has to answer"):
        await zero_out_all_except([])
    with pytest.raises(ValueError, match="Promote a candidate instead"):
        await update_prompt_status(1, "deprecated")
    with pytest.raises(ValueError, match="Insert its text as a new candidate"):
        await update_prompt_status(retired, "active")
    await update_prompt_traffic(retired, 0.0)
    await update_prompt_status(retired, "rolled_back")
    await zero_out_all_except([1, retired])
    assert await live() == [(1, "active", 1.0)]


@pytest.mark.usefixtures("storage")
async def test_a_candidate_is_not_deprecated() -> None:
    candidate = await on_trial()
    with pytest.raises(ValueError, match="End its trial"):
        await update_prompt_status(candidate, "deprecated")


@pytest.mark.usefixtures("storage")
async def test_a_prompt_nobody_has_is_refused_by_number() -> None:
    await bootstrap_prompt("You help.")
    for ask in (update_prompt_traffic(7, 0.0), update_prompt_status(7, "active"), zero_out_all_except([1, 7])):
        with pytest.raises(UnknownPromptError, match="no prompt 7"):
            await ask


async def test_a_persons_move_is_logged_and_can_be_recomputed(storage: PostgresStorage) -> None:
    candidate = await on_trial()
    await update_prompt_traffic(candidate, 0.35)
    newest, _ = await storage.decisions("default")
    assert (newest.verdict, newest.actor, newest.share_before, newest.share_after) == ("step_up", "person", 0.1, 0.35)
    assert replay(newest).verdict == "step_up"


async def test_setting_what_is_already_so_writes_nothing(storage: PostgresStorage) -> None:
    candidate = await on_trial()
    before = await storage.serving_versions(["default"])
    await update_prompt_traffic(candidate, 0.1)
    await update_prompt_status(candidate, "candidate")
    assert (await storage.serving_versions(["default"])) == before


@pytest.mark.usefixtures("storage")
async def test_two_agents_do_not_see_each_other() -> None:
    await bootstrap_prompt("You help.", agent_id="support")
    await bootstrap_prompt("You sell.", agent_id="sales")
    await insert_prompt("You sell well.", "candidate", 0.2, agent_id="sales")
    assert await live("support") == [(1, "active", 1.0)]
    assert await live("sales") == [(1, "active", 0.8), (2, "candidate", 0.2)]


async def test_without_a_database_the_error_is_the_promised_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.storage, "postgres_url", None)
    with pytest.raises(StorageNotConfiguredError, match="STORAGE__POSTGRES_URL"):
        await get_active_prompt()


ids = st.integers(1, 6)
traffic = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.7, 0.9, 1.0, -1.0, 2.0])
status = st.sampled_from(["active", "candidate", "deprecated", "rolled_back", "nonsense"])
calls = st.one_of(
    st.tuples(st.just(insert_prompt), st.just("You help."), status, traffic),
    st.tuples(st.just(update_prompt_traffic), ids, traffic),
    st.tuples(st.just(update_prompt_status), ids, status),
    st.tuples(st.just(zero_out_all_except), st.lists(ids, max_size=3)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_sequence_of_verbs_keeps_the_invariants(postgres_url: str, data: st.DataObject) -> None:
    steps: list[Any] = data.draw(st.lists(calls, max_size=12))
    asyncio.run(walk(postgres_url, steps))


@pytest.mark.parametrize("traffic", [None, "0.1", 10**400, float("nan"), True])
async def test_what_is_no_share_is_refused_in_a_sentence(storage: PostgresStorage, traffic: Any) -> None:
    await bootstrap_prompt("You help.")
    with pytest.raises(InvalidPromptError, match="a share between 0 and 1"):
        await insert_prompt("You help well.", "candidate", traffic)
    with pytest.raises(InvalidPromptError, match="a share between 0 and 1"):
        await update_prompt_traffic(1, traffic)
    assert len(await storage.prompts("default")) == 1


@pytest.mark.parametrize("text", [None, 5, b"You help."])
async def test_what_is_no_text_is_no_prompt(storage: PostgresStorage, text: Any) -> None:
    with pytest.raises(InvalidPromptError, match="A prompt is a text"):
        await bootstrap_prompt(text)
    with pytest.raises(InvalidPromptError, match="A prompt is a text"):
        await insert_prompt(text, "deprecated", 0)
    assert await storage.prompts("default") == []


@pytest.mark.usefixtures("storage")
async def test_shares_are_stored_with_nine_decimals() -> None:
    await bootstrap_prompt("You help.")
    number = await insert_prompt("You help well.", "candidate", 1 / 3)
    candidate = await get_candidate_prompt()
    assert candidate is not None
    assert candidate["traffic"] == 0.333333333
    await update_prompt_traffic(number, 2 / 3)
    await update_prompt_traffic(number, 2 / 3 + 1e-12)
    candidate = await get_candidate_prompt()
    assert candidate is not None
    assert candidate["traffic"] == 0.666666667


async def walk(url: str, steps: list[Any]) -> None:
    agent = uuid4().hex
    storage = await PostgresStorage.connect(url, StorageSettings(pool_size=1))
    try:
        with use_storage(storage):
            await bootstrap_prompt("You help.", agent_id=agent)
            for number, (verb, *arguments) in enumerate(steps):
                if verb is insert_prompt:
                    arguments[0] = f"You help, {number}."
                try:
                    await verb(*arguments, agent_id=agent)
                except BinduError as error:
                    assert isinstance(error, ValueError | RuntimeError)  # noqa: PT017 - refused, never broken
                shares = [prompt.traffic for prompt in await storage.prompts(agent)]
                now_live = await live(agent)
                assert sum(shares) == pytest.approx(1.0, abs=1e-9), json.dumps(shares)
                assert sum(share for *_, share in now_live) == pytest.approx(1.0, abs=1e-9)
                assert sum(share > 0 for share in shares) == len(now_live) <= 2
    finally:
        await storage.close()
