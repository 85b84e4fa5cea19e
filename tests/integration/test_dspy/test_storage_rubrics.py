"""Rubrics: numbered in order, never changed; a person's is kept until somebody lets it go."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from bindu.dspy.errors import BinduError, InvalidArgumentError, UnknownPromptError, UnknownRunError
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.rubric import RubricOrigin, RubricRule, StoredRubric
from bindu.dspy.storage import Storage
from bindu.settings import StorageSettings
from conftest import everything
from faults import break_writes, mend_writes
from samples import AGENT, a_run

TUESDAY = datetime(2026, 3, 3, 9, tzinfo=UTC)
RULES = (RubricRule("Say when it arrives.", ("a", "b#1")), RubricRule("Name a person."))


async def save(
    storage: Storage,
    origin: RubricOrigin = "induced",
    rules: tuple[RubricRule, ...] = RULES,
    *,
    agent_id: str = AGENT,
    now: datetime | None = None,
) -> StoredRubric:
    return await storage.save_rubric(agent_id, rules, origin=origin, actor="ann", reason="Why not.", now=now)


async def test_a_rubric_is_stored_with_where_it_comes_from(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    run = await storage.save_run(a_run())
    by = {"prompt_id": 1, "run_id": run.id, "actor": "trainer", "reason": "It read \x00 comments."}
    stored = await storage.save_rubric(AGENT, iter(RULES), origin="induced", **by, now=TUESDAY)  # type: ignore[arg-type]
    expected = {**by, "reason": "It read \ufffd comments.", "rules": RULES, "created_at": TUESDAY}
    assert stored == StoredRubric(agent_id=AGENT, id=1, origin="induced", **expected)  # type: ignore[arg-type]
    assert await storage.rubrics(AGENT) == [stored]
    assert await storage.rubrics("another") == []


async def test_what_no_database_takes_is_replaced_in_a_rule(storage: Storage) -> None:
    stored = await save(storage, rules=(RubricRule("Say \x00 \ud800.", ("\x00",)),))
    assert stored.rules == (RubricRule("Say \ufffd \ufffd.", ("\ufffd",)),)


async def test_rubrics_come_newest_first_and_by_origin(storage: Storage) -> None:
    for day, origin in enumerate(("induced", "edited", "released", "induced"), 1):
        await save(storage, origin, now=datetime(2026, 3, 9 - day, tzinfo=UTC))  # type: ignore[arg-type]
    assert [(one.id, one.origin) for one in await storage.rubrics(AGENT, limit=3)] == [
        (4, "induced"),
        (3, "released"),
        (2, "edited"),
    ]
    assert [one.id for one in await storage.rubrics(AGENT, origin="induced")] == [4, 1]
    assert [one.id for one in await storage.rubrics(AGENT, origin="induced", limit=1)] == [4]
    with pytest.raises(InvalidArgumentError):
        await storage.rubrics(AGENT, limit=-1)


@pytest.mark.parametrize("prompt_id", [2, 0, 2**40])
async def test_a_rubric_of_an_unknown_prompt_or_run_is_not_stored(storage: Storage, prompt_id: int) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    with pytest.raises(UnknownPromptError):
        await storage.save_rubric(AGENT, RULES, origin="edited", prompt_id=prompt_id, actor="ann", reason="")
    with pytest.raises(UnknownRunError, match="bindu runs list"):
        await storage.save_rubric(AGENT, RULES, origin="edited", run_id=uuid7(), actor="ann", reason="")
    assert await storage.rubrics(AGENT) == []


async def test_an_origin_that_does_not_exist_is_refused(storage: Storage) -> None:
    with pytest.raises(BinduError):
        await save(storage, "guessed")  # type: ignore[arg-type]
    assert await storage.rubrics(AGENT) == []


async def test_of_many_that_are_stored_at_once_each_has_a_number_of_its_own(
    storage: Storage, postgres_url: str
) -> None:
    other = await PostgresStorage.connect(postgres_url, StorageSettings())
    stored = await asyncio.gather(*(save(place, agent_id="new") for place in (storage, other) for _ in range(12)))
    assert sorted(one.id for one in stored) == list(range(1, 25))
    assert await storage.rubrics("new") == sorted(stored, key=lambda one: one.id, reverse=True)
    await other.close()


@pytest.mark.parametrize("moment", ["before", "after", "commit"])
async def test_a_rubric_is_stored_whole_or_not_at_all(storage: Storage, postgres_url: str, moment: str) -> None:
    before = await everything(postgres_url)
    await break_writes(postgres_url, ("rubrics", "INSERT"), moment=moment, manner="refuse")  # type: ignore[arg-type]
    with pytest.raises(BinduError):
        await save(storage)
    assert await everything(postgres_url) == before
    await mend_writes(postgres_url)
    assert (await save(storage)).id == 1


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sequence=st.lists(
        st.tuples(
            st.sampled_from(["induced", "edited", "released"]),
            st.lists(st.builds(RubricRule, st.text(max_size=9), st.lists(st.text(max_size=4)).map(tuple)), max_size=3),
        ),
        max_size=8,
    )
)
async def test_an_edited_rubric_stands_until_the_next_edit_or_its_release(
    storage: Storage, sequence: list[tuple[RubricOrigin, list[RubricRule]]]
) -> None:
    agent = str(uuid7())
    stands: StoredRubric | None = None
    for number, (origin, rules) in enumerate(sequence, 1):
        stored = await save(storage, origin, tuple(rules), agent_id=agent)
        assert (stored.id, stored.origin, len(stored.rules)) == (number, origin, len(rules))
        match origin:
            case "edited":
                stands = stored
            case "released":
                stands = None
        assert await storage.standing_rubric(agent) == stands
    assert [one.id for one in await storage.rubrics(agent)] == list(range(len(sequence), 0, -1))
