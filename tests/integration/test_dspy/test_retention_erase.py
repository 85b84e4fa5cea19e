"""One person's data goes: no table holds it any more, and what experiments have counted still agrees."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from bindu.dspy.canary.checking import check_experiment
from bindu.dspy.canary.looking import look
from bindu.dspy.dataset import build_dataset
from bindu.dspy.errors import BinduError, InvalidArgumentError, RunActiveError, StaleRolloutError, UnknownTaskError
from bindu.dspy.housekeeping import Erased
from bindu.dspy.models import Dataset, Remark
from bindu.dspy.postgres import retention
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.retention import erase_person
from bindu.dspy.rubric import RubricRule
from bindu.dspy.splits import Split, conversations_of
from bindu.dspy.storage import Storage
from bindu.dspy.training.folder import RunFolder, Work, remove_folders
from conftest import fetch
from faults import break_writes, mend_writes
from samples import AGENT, a_run, a_task, a_vote, id_at
from trials import START, RunningTrial, at, running_trial

SECRET = "My zebra ate the wheel of my violet bicycle in Utrecht"
COMMENT = "The zebra is called Bartholomew and is sorry about the wheel"
PERSON = ("zebra", "violet", "Bartholomew", "person-7", "talk-of-person-7", "order-of-person-7")


async def dump(url: str) -> str:
    """Every row of every table, as text."""
    tables = await fetch(
        url,
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'bindu_dspy'::regnamespace AND relkind IN ('r', 'p') "
        "AND NOT relispartition ORDER BY 1",
    )
    found = [
        f"{table} {row['text']}"
        for [table] in tables
        for row in await fetch(url, f"SELECT to_jsonb(t)::text AS text FROM bindu_dspy.{table} AS t ORDER BY 1")
    ]
    return "\n".join(found)


async def erase(**given: Any) -> Erased:
    return await erase_person(**{"reason": "They asked us to.", "actor": "ann", **given})


def said(text: str, answer: str = "I am sorry.") -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]


async def counted_trial(storage: PostgresStorage, *, person: str = "person-7", rater: str = "") -> RunningTrial:
    """An experiment with two closed windows of 25 units each; the person's unit is in the first, and rated."""
    desk = await running_trial(storage)
    await desk.ask(person, "candidate", 0.2, context_id=f"talk-of-{person}", history=said(SECRET))
    await desk.rate(person, 0.0, 0.3, rater=rater, comment=COMMENT, data={"thumbs_up": False, "comment": COMMENT})
    for hours in (0.5, 1.5):
        await desk.serve(hours, active=[1, 0, 1] * 4, candidate=[1, 1, 0] * 4)
        await desk.look(hours + 0.5)
    return desk


async def grown(desk: RunningTrial, hours: float = 3) -> None:
    """One more window."""
    await desk.serve(hours - 0.5, active=[1, 0, 1] * 4, candidate=[1, 1, 0] * 4)
    await desk.look(hours)


async def agrees(*, edited: int) -> None:
    found = await check_experiment()
    assert (found.differences, found.edited) == ((), edited), found.sentence


async def test_no_row_of_any_table_holds_what_an_erased_unit_said_or_was_called(
    storage: PostgresStorage, postgres_url: str
) -> None:
    desk = await counted_trial(storage, rater="person-7")
    await storage.add_tasks(
        [
            a_task(
                unit_id="person-7",
                context_id="talk-of-person-7",
                external_id="order-of-person-7",
                history=said(f"Again: {SECRET}"),
            )
        ]
    )
    first = desk.tasks["person-7"][0]
    await storage.add_feedback(
        [Remark(agent_id=AGENT, task_id=first, id=id_at(START), rater_id="bob", correction="Say sorry to the zebra.")]
    )
    details = {
        "accept": ["person-7", "talk-of-person-7", "somebody else"],
        "rubric": {"instructions": "Be kind.", "rules": [{"rule": f"Know this: {SECRET}!", "task_ids": [str(first)]}]},
        "lineage": [{"line": "Be sorry.", "task_ids": [f"{first}#2"], "comments": [COMMENT]}],
        "prompt_refusals": [{"rule": "private", "offending": "Bartholomew", "reason": "It names a customer."}],
        "gate": {"gain": 0.25},
    }
    run = await storage.save_run(a_run(details=details, reason=f"It copies: {COMMENT}", state="ended", outcome="worse"))
    rules = [RubricRule("Say sorry.", (str(first), "0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f"))]
    await storage.save_rubric(AGENT, rules, origin="edited", actor="ann", reason="Manners.")
    preview = await erase(unit_id="person-7", rater_id="person-7", dry_run=True)
    before = await dump(postgres_url)
    assert [word for word in (*PERSON, str(first)) if word not in before] == []
    erased = await erase(unit_id="person-7", rater_id="person-7")
    assert erased == preview
    assert (erased.tasks, erased.votes, erased.remarks, erased.task_keys, erased.units, erased.runs) == (
        2,
        1,
        1,
        1,
        1,
        1,
    )
    assert (erased.other_raters, erased.quoted_in) == (("bob",), ())
    left = await dump(postgres_url)
    assert [word for word in (*PERSON, str(first)) if word in left] == []
    again = await storage.run(AGENT, run.id)
    assert again is not None
    assert (again.details["gate"], again.details["accept"][2]) == ({"gain": 0.25}, "somebody else")
    assert (await storage.rubrics(AGENT))[0].rules[0].task_ids == ("0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f",)
    await agrees(edited=1)
    await grown(desk)
    await agrees(edited=1)


async def test_the_trail_keeps_what_was_done_and_not_to_whom(storage: PostgresStorage) -> None:
    await counted_trial(storage, rater="person-7")
    await erase(unit_id="person-7")
    [entry] = await storage.audit(AGENT, limit=1)
    assert (entry.action, entry.subject, entry.actor, entry.reason) == ("erase", "a unit", "ann", "They asked us to.")
    assert entry.details == {"tasks": 1, "votes": 1, "remarks": 0, "task_keys": 0, "units": 1, "runs": 0}
    assert not (await erase(unit_id="person-7")).anything
    assert len([one for one in await storage.audit(AGENT) if one.action == "erase"]) == 1


async def test_every_unit_of_an_experiment_can_go_and_its_evidence_stays_to_the_last_digit(
    storage: PostgresStorage,
) -> None:
    desk = await counted_trial(storage)
    evidence = await storage.evidence(AGENT, desk.experiment.id)
    units = list(desk.tasks)
    for unit in units:
        await erase(unit_id=unit)
    await agrees(edited=len(units))
    assert await storage.evidence(AGENT, desk.experiment.id) == evidence
    await grown(desk)
    await agrees(edited=len(units))


async def test_a_rater_who_counted_stays_one_person_under_another_name(
    storage: PostgresStorage, postgres_url: str
) -> None:
    desk = await running_trial(storage)
    for day in range(3):
        await desk.ask(f"unit of {day}", "active", 24 * day + 0.1)
        await desk.rate(f"unit of {day}", 1.0, 24 * day + 0.2, rater="person-7", comment=SECRET)
        await desk.look(24 * day + 1)
    await desk.ask("late", "candidate", 50)
    await desk.rate("late", 0.0, 50.1, rater="person-7")
    await desk.rate("late", 1.0, 50.2, rater="ben")
    erased = await erase(rater_id="person-7")
    assert (erased.tasks, erased.votes, erased.units) == (0, 4, 3)
    assert "person-7" not in await dump(postgres_url)
    counted = await storage.counted_units(AGENT, desk.experiment.id)
    [name] = {unit.rater_id for unit in counted}
    assert name.startswith("erased-")
    await desk.look(51)
    late = {unit.unit_id: unit for unit in await storage.counted_units(AGENT, desk.experiment.id)}["late"]
    assert (late.rater_id, late.score) == ("ben", 1.0)
    await agrees(edited=3)


async def test_a_unit_whose_votes_are_gone_before_a_window_counted_them_counts_unrated(
    storage: PostgresStorage,
) -> None:
    desk = await running_trial(storage)
    await desk.ask("person-7", "active", 0.1)
    await desk.rate("person-7", 1.0, 0.2, rater="person-7")
    await desk.serve(0.5, active=[1] * 3, candidate=[0] * 3)
    await erase(unit_id="person-7", rater_id="person-7")
    await desk.look(1)
    assert len(await storage.first_requests(AGENT, desk.experiment.id)) == 7
    assert len(await storage.counted_units(AGENT, desk.experiment.id)) == 6
    await agrees(edited=0)


async def test_a_controller_that_looked_before_looks_again(storage: PostgresStorage) -> None:
    desk = await running_trial(storage)
    await desk.ask("person-7", "active", 0.1)
    await desk.rate("person-7", 1.0, 0.2, rater="person-7")
    serving = await storage.serving(AGENT)
    assert serving is not None
    looked = await look(storage, serving, desk.experiment, at(1))
    assert looked is not None
    await erase(unit_id="person-7")
    with pytest.raises(StaleRolloutError):
        await storage.apply(looked.rollout, closing=looked.closing, now=at(1))
    await desk.look(1)
    await agrees(edited=0)


async def test_whoever_shares_a_conversation_loses_its_tasks_too_and_nothing_else(
    storage: PostgresStorage, postgres_url: str
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    shared = [
        a_task(unit_id="person-7", context_id="group", history=said(SECRET)),
        a_task(unit_id="ben", context_id="group", history=[*said(SECRET), *said("And me?")]),
        a_task(unit_id="ben", context_id="alone", history=said("Only me.")),
        a_task(unit_id="ben", history=said("Without a context.")),
    ]
    await storage.add_tasks(shared)
    await storage.add_feedback([a_vote(task.id, rater_id="ben") for task in shared])
    erased = await erase(unit_id="person-7")
    assert (erased.tasks, erased.votes, erased.other_units, erased.other_raters) == (2, 2, 1, ("ben",))
    left = await dump(postgres_url)
    assert ("zebra" in left, "Only me." in left, "Without a context." in left) == (False, True, True)


async def test_another_agents_person_of_the_same_name_is_somebody_else(
    storage: PostgresStorage, postgres_url: str
) -> None:
    for agent_id in (AGENT, "another"):
        await storage.bootstrap(agent_id, "Be kind.")
        await storage.add_tasks([a_task(agent_id=agent_id, unit_id="person-7", history=said(SECRET))])
    await erase(unit_id="person-7")
    assert [task["agent_id"] for task in await fetch(postgres_url, "SELECT agent_id FROM bindu_dspy.tasks")] == [
        "another"
    ]


async def test_prompts_and_rubrics_that_repeat_the_persons_words_stay_and_are_told(storage: PostgresStorage) -> None:
    await storage.bootstrap(AGENT, f"Be kind. Do not be like this: {SECRET}.")
    await storage.save_rubric(AGENT, [RubricRule(SECRET)], origin="edited", actor="ann", reason="")
    await storage.add_tasks([a_task(unit_id="person-7", history=said(SECRET))])
    assert (await erase(unit_id="person-7", dry_run=True)).quoted_in == ("prompt 1", "rubric 1")


@pytest.mark.parametrize("write", [("units", "UPDATE"), ("training_runs", "UPDATE"), ("audit", "INSERT")])
async def test_an_erasure_that_dies_in_the_middle_erases_nothing(
    storage: PostgresStorage, postgres_url: str, write: Any
) -> None:
    await counted_trial(storage, rater="person-7")
    await storage.save_run(a_run(details={"accept": ["person-7"]}, state="ended", outcome="worse", reason="Worse."))
    before = await dump(postgres_url)
    await break_writes(postgres_url, write, moment="before", manner="terminate")
    with pytest.raises(BinduError):
        await erase(unit_id="person-7", rater_id="person-7")
    await mend_writes(postgres_url)
    assert await dump(postgres_url) == before
    assert (await erase(unit_id="person-7", rater_id="person-7")).runs == 1


async def test_while_a_training_is_at_work_nothing_is_erased_but_may_be_looked_for(
    storage: PostgresStorage, postgres_url: str
) -> None:
    await counted_trial(storage)
    await storage.save_run(a_run(agent_id="another"))
    run = await storage.save_run(a_run(details={"accept": ["person-7"]}))
    before = await dump(postgres_url)
    preview = await erase(unit_id="person-7", dry_run=True)
    assert (preview.tasks, preview.runs, preview.live_runs) == (1, 1, 1)
    with pytest.raises(RunActiveError, match=f"bindu runs cancel {run.id}"):
        await erase(unit_id="person-7")
    assert await dump(postgres_url) == before
    await storage.save_run(replace(run, state="ended", outcome="aborted", reason="By hand."))
    assert (await erase(unit_id="person-7")).tasks == 1


async def test_a_training_that_begins_meanwhile_takes_it_all_back(
    storage: PostgresStorage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await counted_trial(storage)
    without_traces = retention._without_traces

    async def slowly(*given: Any) -> Erased:
        await storage.save_run(a_run())
        return await without_traces(*given)

    monkeypatch.setattr(retention, "_without_traces", slowly)
    with pytest.raises(RunActiveError):
        await erase(unit_id="person-7")
    assert "zebra" in await dump(postgres_url)


@pytest.mark.parametrize(("unit_id", "dry_run"), [("person-7", True), ("nobody", True), ("nobody", False)])
async def test_looking_and_an_unknown_person_neither_wait_for_the_canary_nor_hold_it_up(
    storage: PostgresStorage, postgres_url: str, unit_id: str, dry_run: bool
) -> None:
    await counted_trial(storage)
    serving = await storage.serving(AGENT)
    assert serving is not None
    mover = await asyncpg.connect(postgres_url)
    try:
        async with mover.transaction():
            await mover.execute("SELECT FROM bindu_dspy.serving FOR UPDATE")
            async with asyncio.timeout(10):
                found = await erase(unit_id=unit_id, dry_run=dry_run)
    finally:
        await mover.close()
    assert found.anything == (unit_id == "person-7")
    after = await storage.serving(AGENT)
    assert after is not None
    assert after.version == serving.version


async def test_a_prompt_that_names_the_persons_address_is_told_however_it_is_written(storage: PostgresStorage) -> None:
    await storage.bootstrap(AGENT, "Be kind, as Zoe (zoe.zebra @ example.org) is.")
    await storage.add_tasks([a_task(unit_id="person-7", history=said("I am zoe.zebra@example.org, where is it?"))])
    assert (await erase(unit_id="person-7", dry_run=True)).quoted_in == ("prompt 1",)


async def test_what_is_voted_meanwhile_is_stored_before_or_refused_and_never_left_without_its_task(
    storage: PostgresStorage, postgres_url: str
) -> None:
    desk = await running_trial(storage)
    task_ids = [await desk.ask("person-7", "active", 0.1) for _ in range(20)]

    async def vote(task_id: UUID, number: int) -> bool:
        try:
            await storage.add_feedback([a_vote(task_id, rater_id=f"rater {number}")])
        except UnknownTaskError:
            return False
        return True

    votes = [vote(task_id, number) for number, task_id in enumerate(task_ids)]
    erased, *stored = await asyncio.gather(erase(unit_id="person-7"), *votes)
    assert erased.tasks == 20
    assert erased.votes == sum(stored)
    assert await fetch(postgres_url, "SELECT FROM bindu_dspy.task_feedback") == []


async def test_what_comes_later_is_stored_again(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    for _ in range(2):
        await storage.add_tasks([a_task(unit_id="person-7", external_id="x", history=said(SECRET))])
        assert (await erase(unit_id="person-7")).tasks == 1


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"unit_id": ""},
        {"rater_id": ""},
        {"unit_id": "a\x00"},
        {"unit_id": "person-7", "reason": " "},
        {"unit_id": "person-7", "reason": "Because person-7 asked."},
        {"unit_id": "anna", "reason": "Because anna asked."},
    ],
)
async def test_nobody_everybody_and_reasons_that_name_the_person_are_refused(
    storage: Storage, given: dict[str, Any]
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    with pytest.raises(InvalidArgumentError):
        await erase(**given)


async def test_an_id_as_short_as_a_word_may_stand_in_a_reason(storage: Storage) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    assert (await erase(unit_id="3", reason="A request of 3 March.")).tasks == 0


async def test_training_folders_that_hold_the_persons_rows_are_removed_unless_one_is_in_use(
    storage: Storage, tmp_path: Path
) -> None:
    await storage.bootstrap(AGENT, "Be kind.")
    [task_id] = await storage.add_tasks([a_task(unit_id="person-7", history=said(SECRET))])
    await storage.add_feedback([a_vote(task_id, rater_id="rater-7")])
    dataset: Dataset = await build_dataset(None)
    rows = conversations_of(dataset.golden)
    for number, split in enumerate(
        [Split(tuple(rows), (), (), raters_whole=True), Split((), (), (), raters_whole=True)]
    ):
        with RunFolder.begin(tmp_path, AGENT, f"print {number}", id_at(at(number))) as folder:
            folder.store_work(Work(split, {}))
            if rows and split.train:
                assert remove_folders(tmp_path, AGENT, ["person-7"]) == (0, (str(folder.path),), ())
    assert remove_folders(tmp_path, "another", ["person-7"]) == (0, (), ())
    for names in (["rater-7"], [str(task_id)], ["person-7"]):
        assert remove_folders(tmp_path, AGENT, names, dry_run=True) == (1, (), ())
    assert remove_folders(tmp_path, AGENT, ["person-7"]) == (1, (), ())
    assert remove_folders(tmp_path, AGENT, ["person-7"]) == (0, (), ())
    other = RunFolder.left(tmp_path, AGENT, "print 1", lapsed=True)
    assert other is not None
    other.remove()
