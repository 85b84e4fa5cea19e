"""Whether a run goes on where an earlier process of it left off."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from bindu.dspy.errors import TrainingRefusedError
from bindu.dspy.training.folder import RunFolder
from bindu.dspy.training.job import Case

__all__ = ["enter_folder"]

SILENT: Final = timedelta(minutes=10)  # without a sign of life, after which a run on another machine counts as gone
_GONE: Final = "Its process was gone. Run the same command to go on."


async def enter_folder(case: Case, run_id: UUID) -> tuple[RunFolder, UUID | None]:
    """The folder that the run works in, and the earlier run whose work it goes on with, if there is one.

    Raises TrainingRefusedError when there has to be one and is none.
    """
    job, storage = case.job, case.storage
    root, fingerprint = Path(job.settings.training.runs_folder), case.fingerprint()
    await storage.end_lost_runs(job.agent_id, silent_for=SILENT, reason=_GONE, now=job.now)
    left = None
    if job.resume is not False:
        left = RunFolder.left(root, job.agent_id, fingerprint, lapsed=job.resume is True)
    if left is not None and not await _may_go_on(case, left):
        left.remove()
        left = None
    if left is None and job.resume is True:
        raise TrainingRefusedError(
            f"There is no run of this command to go on with: none was left unfinished in {root}, or the active prompt, "
            "the settings or the version changed since. Leave --resume out to begin anew.",
            cause="nothing_to_resume",
        )
    folder = left or RunFolder.begin(root, job.agent_id, fingerprint, run_id)
    before = folder.last_run
    folder.enter(run_id)
    if before is not None:
        await _end(case, before)
    return folder, before


async def _may_go_on(case: Case, left: RunFolder) -> bool:
    """Not when it came to its end unseen, or when others have asked its conversations meanwhile."""
    job, storage = case.job, case.storage
    last = None if left.last_run is None else await storage.run(job.agent_id, left.last_run)
    if last is not None and last.outcome not in (None, "aborted"):
        return False
    work = left.work()
    if work is None or left.asked:
        return True
    names = {name for one in work.split.accept for name in one.names}
    return not names & await storage.spent_conversations(job.agent_id)


async def _end(case: Case, run_id: UUID) -> None:
    """The folder was free, so whoever worked in it is gone."""
    last = await case.storage.run(case.job.agent_id, run_id)
    if last is not None and last.state == "running":
        ended = replace(last, state="ended", outcome="aborted", reason=_GONE, step=None)
        await case.storage.save_run(ended, now=case.job.now)
