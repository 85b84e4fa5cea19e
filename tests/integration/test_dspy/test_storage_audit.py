"""The audit trail: what a person does and the row that tells of it stand or fall together; no row can be changed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from bindu.dspy.access import create_key, revoke_key
from bindu.dspy.canary.verbs import carry_out
from bindu.dspy.errors import BinduError
from bindu.dspy.housekeeping import AuditEntry
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt, update_prompt_status
from bindu.dspy.rubric import RubricRule
from bindu.dspy.storage import Storage
from conftest import execute, value
from faults import break_writes, mend_writes
from plans import plan_of, rows_read
from samples import AGENT, a_rollout, a_run, open_trial

TUESDAY = datetime(2026, 3, 3, 9, tzinfo=UTC)


async def told(storage: Storage, agent_id: str = AGENT) -> list[tuple[str, str, str, str]]:
    return [(one.action, one.subject, one.actor, one.reason) for one in reversed(await storage.audit(agent_id))]


async def test_every_deed_of_a_person_is_in_the_trail_and_none_of_a_machine(storage: Storage) -> None:
    await open_trial(storage)  # by the trainer
    await storage.apply(await a_rollout(storage))  # by the controller
    await carry_out("pause", reason="A release.", actor="ann")
    await carry_out("rollback", reason="It promises \x00 discounts.", actor="ben")
    await update_prompt_status(2, "deprecated")
    await insert_prompt("Be kindest.", "candidate", 0.1)
    await insert_prompt("Be rude.", "rolled_back", 0, actor="ben")
    run = await storage.save_run(a_run())
    await storage.cancel_run(AGENT, run.id, "Too dear.", actor="ann")
    await storage.save_rubric(AGENT, [RubricRule("Be short.")], origin="edited", actor="ann", reason="They rush.")
    await storage.save_rubric(AGENT, [], origin="induced", actor="trainer", reason="It learned.")
    key, _ = await create_key("shop", ["select"], actor="ann", reason="The new shop.")
    await revoke_key(key.id, actor="ben", reason="It leaked.")
    assert [(action, subject, actor) for action, subject, actor, _ in await told(storage)] == [
        ("bootstrap", "prompt 1", "application"),
        ("pause", "experiment 1", "ann"),
        ("roll_back", "experiment 1", "ben"),
        ("deprecated", "prompt 2", "person"),
        ("open", "experiment 2", "person"),
        ("add_prompt", "prompt 4", "ben"),
        ("cancel", f"run {run.id}", "ann"),
        ("edited", "rubric 1", "ann"),
        ("add_key", f"key {key.id}", "ann"),
        ("revoke_key", f"key {key.id}", "ben"),
    ]
    reasons = [reason for *_, reason in await told(storage)]
    assert reasons[2] == "It promises \ufffd discounts."
    assert (await storage.audit_trail(AGENT)).broken is None


async def test_whoever_gives_an_agent_its_first_prompt_is_named(storage: Storage) -> None:
    await bootstrap_prompt("Be kind.", actor="ann")
    await bootstrap_prompt("Be kinder.", actor="ben")
    await insert_prompt("Be kind.", "active", 1, agent_id="another", actor="ben")
    for agent_id, actor in ((AGENT, "ann"), ("another", "ben")):
        assert [one[:3] for one in await told(storage, agent_id)] == [("bootstrap", "prompt 1", actor)]


async def test_what_was_so_already_is_not_told_again(storage: Storage) -> None:
    run = await storage.save_run(a_run())
    key, _ = await create_key("shop", ["select"])
    for _ in range(2):
        await storage.cancel_run(AGENT, run.id, "Too dear.")
        await revoke_key(key.id)
    assert [action for action, *_ in await told(storage)] == ["add_key", "cancel", "revoke_key"]


async def test_a_deed_whose_row_cannot_be_written_is_not_done(storage: PostgresStorage, postgres_url: str) -> None:
    await open_trial(storage)
    await break_writes(postgres_url, ("audit", "INSERT"), moment="before", manner="refuse")
    for deed in (
        carry_out("promote", reason="Now."),
        create_key("shop", ["select"]),
        storage.bootstrap("another", "Be kind."),
    ):
        with pytest.raises(BinduError):
            await deed
    serving = await storage.serving(AGENT)
    assert serving is not None
    assert serving.share == 0.1
    assert await storage.keys(AGENT) == []
    assert await storage.serving("another") is None
    await mend_writes(postgres_url)
    await carry_out("promote", reason="Now.")
    assert (await storage.audit_trail(AGENT)).broken is None


async def test_many_at_once_make_one_chain_per_agent(storage: Storage) -> None:
    await asyncio.gather(
        *(create_key(f"key {number}", ["select"], agent_id=agent) for number in range(20) for agent in ("a", "b", "*"))
    )
    for agent in ("a", "b", "*"):
        trail = await storage.audit_trail(agent)
        assert (trail.entries, trail.last_id, trail.broken) == (20, 20, None)
        assert trail.digest == (await storage.audit(agent, limit=1))[0].digest


@pytest.mark.parametrize(
    "change",
    [
        "SET reason = 'Another.'",
        "SET actor = 'nobody'",
        "SET action = 'abort'",
        "SET subject = 'experiment 9'",
        "SET details = '{}'",
        "SET at = at + interval '1 microsecond'",
        "SET digest = sha256('')",
    ],
)
async def test_a_changed_row_breaks_the_chain_there(storage: Storage, postgres_url: str, change: str) -> None:
    for number in range(5):
        await create_key(f"key {number}", ["select"], reason="Because.")
    await execute(postgres_url, f"UPDATE bindu_dspy.audit {change} WHERE id = 3")
    broken = (await storage.audit_trail(AGENT)).broken
    assert broken == 3


@pytest.mark.parametrize(("gone", "broken"), [(1, 2), (3, 4), (5, None)])
async def test_a_missing_row_breaks_the_chain_behind_it_and_the_last_one_is_told_by_the_head(
    storage: Storage, postgres_url: str, gone: int, broken: int | None
) -> None:
    for number in range(5):
        await create_key(f"key {number}", ["select"])
    before = await storage.audit_trail(AGENT)
    await execute(postgres_url, f"DELETE FROM bindu_dspy.audit WHERE id = {gone}")
    after = await storage.audit_trail(AGENT)
    assert after.broken == broken
    assert broken or after.digest != before.digest


async def test_a_chain_made_anew_is_told_by_a_digest_that_was_kept(storage: Storage, postgres_url: str) -> None:
    for number in range(3):
        await create_key(f"key {number}", ["select"], reason="Because.")
    kept = (await storage.audit(AGENT, limit=1))[0]
    await execute(
        postgres_url,
        "DELETE FROM bindu_dspy.audit WHERE id = 3",
    )
    await create_key("another", ["admin"])
    assert (await storage.audit_trail(AGENT)).broken is None
    found = await storage.audit_entry(AGENT, kept.id)
    assert found is not None
    assert found.digest != kept.digest


async def test_the_trail_is_read_page_by_page(storage: Storage) -> None:
    for number in range(5):
        await create_key(f"key {number}", ["select"], now=TUESDAY)
    newest = await storage.audit(AGENT, limit=2)
    older = await storage.audit(AGENT, before=newest[-1].id, limit=10)
    assert [one.id for one in (*newest, *older)] == [5, 4, 3, 2, 1]
    assert all(isinstance(one, AuditEntry) and one.at == TUESDAY for one in newest)
    assert await storage.audit(AGENT, before=2**31) == await storage.audit(AGENT, before=0) == []
    assert await storage.audit_entry(AGENT, 99) is None
    empty = await storage.audit_trail("another")
    assert (empty.entries, empty.last_id, empty.digest, empty.broken) == (0, 0, None, None)


async def test_the_next_row_costs_the_same_however_long_the_trail(storage: Storage, postgres_url: str) -> None:
    await create_key("first", ["select"])
    await execute(
        postgres_url,
        """INSERT INTO bindu_dspy.audit
        SELECT agent_id, n, action, subject, actor, reason, details, at, digest
        FROM bindu_dspy.audit, generate_series(2, 20000) AS n""",
        "ANALYZE bindu_dspy.audit",
    )
    values = {"agent_id": AGENT, "action": "a", "subject": "s", "actor": "a", "reason": "r", "details": "{}"}
    plan = await plan_of(postgres_url, "add_audit", {**values, "now": None})
    assert rows_read(plan, "audit") <= 4
    assert await value(postgres_url, "SELECT count(*) FROM bindu_dspy.audit") == 20_000
