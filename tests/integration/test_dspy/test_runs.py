"""Training runs for people: found by a piece of their id, told in a sentence, stopped by a word."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.errors import AmbiguousRunError, InvalidArgumentError, UnknownRunError
from bindu.dspy.models import TrainingRun
from bindu.dspy.runs import SILENT, _sentence, cancel_run, find_run, is_live, list_runs, run_name, run_report
from bindu.dspy.storage import Storage
from conftest import everything
from samples import a_run, open_trial

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
FIRST, SECOND = UUID("0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f"), UUID("0197f3c2-7b1f-7cc3-98c4-dc0c0c07398f")
PROGRESS = {"progress": {"calls_done": 1200, "calls_expected": 5000, "eta_seconds": 240.0}}


async def test_before_the_first_run_a_sentence_says_how_to_begin(storage: Storage) -> None:
    assert await list_runs() == []
    with pytest.raises(UnknownRunError, match=r"has not been trained yet\. Begin with 'bindu train'"):
        await find_run()
    with pytest.raises(LookupError):
        await run_report(agent_id="another")


async def test_the_newest_run_is_meant_when_none_is_named(storage: Storage) -> None:
    await storage.save_run(a_run(id=SECOND), now=NOON)
    newest = await storage.save_run(a_run(id=FIRST), now=NOON + timedelta(hours=1))
    assert await find_run() == newest
    assert [run.id for run in await list_runs(limit=1)] == [newest.id]
    assert [run.id for run in await list_runs()] == [FIRST, SECOND]


@pytest.mark.parametrize("piece", ["0197f3c2-7b1e", " 0197F3C27B1E7 ", str(FIRST), FIRST])
async def test_a_unique_piece_of_an_id_is_enough(storage: Storage, piece: UUID | str) -> None:
    run = await storage.save_run(a_run(id=FIRST))
    await storage.save_run(a_run(id=SECOND))
    await storage.save_run(a_run(agent_id="another", id=FIRST))
    assert await find_run(piece) == run
    assert run_name(run) == "0197f3c2-7b1e"
    assert await find_run(run_name(run)) == run


async def test_a_piece_that_fits_several_names_some_of_them(storage: Storage) -> None:
    for run_id in (FIRST, SECOND):
        await storage.save_run(a_run(id=run_id))
    with pytest.raises(AmbiguousRunError, match=f"{SECOND} and {FIRST}. Give more of the id") as error:
        await find_run("0197f3c2-7")
    assert error.value.run_ids == (SECOND, FIRST)


@pytest.mark.parametrize("piece", ["", " ", "-", "1", "simba", "0197f3c2-7b1e-7cc3-98c4-dc0c0c07398f0", "' OR 1=1 --"])
async def test_an_id_that_nobody_has_says_where_to_look(storage: Storage, piece: str) -> None:
    await storage.save_run(a_run(id=FIRST))
    for service in (find_run, run_report, cancel_run):
        with pytest.raises(UnknownRunError, match="'bindu runs list' shows"):
            await service(piece)


@pytest.mark.parametrize("piece", [1.5, True, "\x00", b"0"])
async def test_what_is_no_id_is_refused(storage: Storage, piece: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        await find_run(piece)


async def test_a_live_run_is_asked_to_stop_and_stays_running_until_it_does(storage: Storage) -> None:
    run = await storage.save_run(a_run(id=FIRST), now=NOON)
    done = await cancel_run("0197", reason=" Wrong data. ", now=NOON + SILENT)
    assert (done.did, done.run) == ("asked", replace(run, cancel_reason="Wrong data."))
    assert done.sentence.startswith("Asked run 0197f3c2-7b1e to stop: Wrong data. It ends within seconds")
    again = await cancel_run(FIRST, reason="Another.", now=NOON + SILENT)
    assert again == done
    report = await run_report(now=NOON + SILENT)
    assert report.sentence == "Run 0197f3c2-7b1e was asked to stop: Wrong data."


async def test_a_run_whose_process_is_gone_ends_at_once(storage: Storage) -> None:
    run = await storage.save_run(a_run(id=FIRST, calls=7), now=NOON)
    late = NOON + SILENT + timedelta(seconds=1)
    report = await run_report(now=late + timedelta(hours=3))
    assert "gave no sign of life for about 3 hours: its process is gone. 'bindu runs cancel 0197f" in report.sentence
    done = await cancel_run("0197", now=late)
    gone = "Cancelled: cancelled by hand. Its process had gone before, without a word."
    ended = {"state": "ended", "outcome": "aborted", "reason": gone, "ended_at": late}
    assert done.did == "ended"
    assert done.run == replace(run, cancel_reason="cancelled by hand", **ended)  # type: ignore[arg-type]
    assert done.sentence == "Ended run 0197f3c2-7b1e: its process was gone. Nothing was deployed."
    told = await storage.save_run(run)
    assert told == done.run


async def test_only_the_run_that_is_named_is_touched(storage: Storage) -> None:
    other = await storage.save_run(a_run(id=SECOND), now=NOON)
    await storage.save_run(a_run(id=FIRST), now=NOON)
    await cancel_run(FIRST)
    assert await find_run(SECOND) == other


async def test_a_run_that_has_ended_is_left_as_it_is(storage: Storage, postgres_url: str) -> None:
    run = await storage.save_run(a_run(id=FIRST))
    await open_trial(storage, run_id=run.id)
    before = await everything(postgres_url)
    done = await cancel_run(FIRST)
    assert done.did == "nothing"
    assert done.sentence == (
        "Nothing to cancel. Run 0197f3c2-7b1e ended improved: no reason was kept. It put prompt 2 on trial."
    )
    assert await everything(postgres_url) == before


@pytest.mark.parametrize(("seconds", "sentence"), [(60, "Would ask run"), (61, "Would end run"), (-5, "Would ask run")])
async def test_a_rehearsal_says_what_would_be_and_changes_nothing(
    storage: Storage, postgres_url: str, seconds: int, sentence: str
) -> None:
    await storage.save_run(a_run(id=FIRST), now=NOON)
    before = await everything(postgres_url)
    done = await cancel_run(FIRST, dry_run=True, now=NOON + timedelta(seconds=seconds))
    assert done.sentence.startswith(sentence)
    assert await everything(postgres_url) == before


@pytest.mark.parametrize("reason", ["", "  ", None, 7])
async def test_a_reason_is_words(storage: Storage, reason: Any) -> None:
    await storage.save_run(a_run(id=FIRST))
    with pytest.raises(InvalidArgumentError, match="Say why"):
        await cancel_run(FIRST, reason=reason)
    assert (await find_run()).cancel_reason is None


async def test_of_eight_who_cancel_a_lost_run_one_ends_it(storage: Storage) -> None:
    run = await storage.save_run(a_run(), now=NOON)
    done = await asyncio.gather(*(cancel_run(run.id, reason=f"{number}") for number in range(8)))
    assert sorted(one.did for one in done) == ["ended", *["nothing"] * 7]
    assert len({one.run.reason for one in done}) == 1


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Run 0197f3c2-7b1e is at work."),
        (
            {"step": "Judging answers.", "details": PROGRESS, "cost": 0.126},
            "Run 0197f3c2-7b1e is at work: Judging answers; 1,200 of about 5,000 calls; about 4 minutes left; "
            "$0.13 so far.",
        ),
        ({"details": {"progress": "much"}}, "Run 0197f3c2-7b1e is at work."),
        ({"details": {"progress": {"eta_seconds": 3}}}, "Run 0197f3c2-7b1e is at work; less than a minute left."),
        ({"details": {"progress": {"eta_seconds": 61}}}, "Run 0197f3c2-7b1e is at work; about 1 minute left."),
        (
            {"state": "ended", "outcome": "worse", "reason": "The candidate is worse. Nothing was deployed."},
            "Run 0197f3c2-7b1e ended worse: The candidate is worse. Nothing was deployed.",
        ),
    ],
)
def test_how_a_run_is_doing_is_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    assert _sentence(a_run(id=FIRST, seen_at=NOON, **fields), NOON) == sentence


@given(seen=st.none() | st.integers(0, 200), started=st.integers(0, 200), ended=st.booleans())
def test_a_run_is_live_for_a_minute_after_its_last_sign(seen: int | None, started: int, ended: bool) -> None:
    def before(seconds: int | None) -> datetime | None:
        return None if seconds is None else NOON - timedelta(seconds=seconds)

    run: TrainingRun = a_run(state="ended" if ended else "running", seen_at=before(seen), started_at=before(started))
    assert is_live(run, NOON) == (not ended and (started if seen is None else seen) <= 60)


async def test_another_agents_run_is_none_of_ours(storage: Storage) -> None:
    await storage.save_run(a_run(agent_id="another", id=FIRST))
    with pytest.raises(UnknownRunError):
        await cancel_run(FIRST)
    assert (await cancel_run(FIRST, agent_id="another")).did == "asked"
    assert (await find_run(agent_id="another")).cancel_reason is not None
