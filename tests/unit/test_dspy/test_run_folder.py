"""A run's folder belongs to one process, survives its death, and is gone when nobody needs it."""

from __future__ import annotations

import os
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from bindu.dspy.errors import BinduError
from bindu.dspy.models import Interaction
from bindu.dspy.splits import Conversation, Split
from bindu.dspy.training.folder import FORGOTTEN, LAPSES, RunFolder, Work, remove_folders

ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))


def begun(root: Path, run_id: UUID = ONE, *, agent_id: str = "support", fingerprint: str = "f") -> RunFolder:
    folder = RunFolder.begin(root, agent_id, fingerprint, run_id)
    folder.enter(run_id)
    return folder


def aged(folder: RunFolder, seconds: float) -> None:
    then = time.time() - seconds
    for path in folder.path.iterdir():
        os.utime(path, (then, then))


def a_split() -> Split:
    row = Interaction(
        id=ONE,
        user_input="Where?\nI am \u2028 lost",
        agent_output="Here.",
        feedback_score=0.4,
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
        raters=("r",),
        comments=("No.",),
    )
    one = Conversation("c", (row,))
    return Split((one,), (), (one, one), True)


def test_work_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    with begun(tmp_path) as folder:
        assert folder.work() is None
        work = Work(a_split(), {"funnel": {"tasks": 3}})
        folder.store_work(work)
        assert folder.work() == work


def test_what_is_being_worked_in_is_nobody_elses(tmp_path: Path) -> None:
    with begun(tmp_path):
        assert RunFolder.left(tmp_path, "support", "f") is None


def test_what_was_left_is_found_by_the_same_command_alone(tmp_path: Path) -> None:
    with begun(tmp_path):
        pass
    assert RunFolder.left(tmp_path, "support", "another") is None
    assert RunFolder.left(tmp_path, "sales", "f") is None
    found = RunFolder.left(tmp_path, "support", "f")
    assert found is not None
    with found:
        assert found.last_run == ONE


def test_what_came_to_its_end_is_not_gone_on_with_and_removed_by_the_next_run(tmp_path: Path) -> None:
    with begun(tmp_path) as first:
        first.finish()
    assert RunFolder.left(tmp_path, "support", "f") is None
    with begun(tmp_path, TWO) as second:
        assert not first.path.exists()
        assert second.path.exists()


def test_what_was_left_long_ago_is_gone_on_with_only_when_asked_and_then_forgotten(tmp_path: Path) -> None:
    with begun(tmp_path) as first:
        pass
    aged(first, LAPSES + 60)
    assert RunFolder.left(tmp_path, "support", "f") is None
    found = RunFolder.left(tmp_path, "support", "f", lapsed=True)
    assert found is not None
    with found:
        pass
    aged(first, FORGOTTEN + 60)
    with begun(tmp_path, TWO):
        assert not first.path.exists()


def test_what_another_process_works_in_is_not_removed_however_old(tmp_path: Path) -> None:
    with begun(tmp_path) as first:
        aged(first, FORGOTTEN + 60)
        with begun(tmp_path, TWO):
            assert first.path.exists()


def test_it_is_readable_by_its_owner_alone_and_no_agents_name_leads_out_of_it(tmp_path: Path) -> None:
    with begun(tmp_path, agent_id="../../etc") as folder:
        assert folder.path.parent.parent == tmp_path
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"", b"{", b'{"split": 3}', b"\x00\xff"])
def test_damaged_work_counts_as_none(tmp_path: Path, damage: bytes) -> None:
    with begun(tmp_path) as folder:
        (folder.path / "work.json").write_bytes(damage)
        assert folder.work() is None


def test_the_runs_that_worked_in_it_are_remembered_in_order(tmp_path: Path) -> None:
    with begun(tmp_path) as folder:
        folder.enter(TWO)
    found = RunFolder.left(tmp_path, "support", "f")
    assert found is not None
    with found:
        assert found.last_run == TWO
        assert not found.asked
        found.mark_asked()
        assert found.asked


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(BinduError, match="DSPY__TRAINING__RUNS_FOLDER"):
        RunFolder.begin(tmp_path / "file", "support", "f", ONE)


def test_of_folders_with_somebodys_rows_all_that_can_go_and_each_other_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [begun(tmp_path, run_id) for run_id in (ONE, TWO, THREE)]
    for folder in folders:
        with folder:
            folder.store_work(Work(a_split(), {}))
            folder.calls.write_text("{}")
    unlink = Path.unlink

    def broken(path: Path, missing_ok: bool = False) -> None:
        if path == folders[1].calls:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", broken)
    told = (f"{folders[1].path} (Operation not permitted)",)
    assert remove_folders(tmp_path, "support", ["c"]) == (2, (), told)
    assert [folder.path.exists() for folder in folders] == [False, True, False]
    assert remove_folders(tmp_path, "support", ["c"]) == (0, (), told)  # its rows are there still to find it by


def test_folders_that_cannot_be_listed_are_told(tmp_path: Path) -> None:
    home = begun(tmp_path).path.parent
    home.rename(tmp_path / "elsewhere")
    assert remove_folders(tmp_path, "support", ["c"]) == (0, (), ())
    home.write_text("")
    assert remove_folders(tmp_path, "support", ["c"]) == (0, (), (f"{home} (Not a directory)",))
