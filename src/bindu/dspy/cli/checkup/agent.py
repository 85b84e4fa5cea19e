"""How the agent's loop does: what is served, who decides, who trains, what users say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Final

from bindu.dspy.cli.checkup.finding import Finding, note, ok, problem, warning
from bindu.dspy.cli.output import short
from bindu.dspy.housekeeping import Job
from bindu.dspy.insights import agent_status, newest_votes
from bindu.dspy.models import TrainingRun
from bindu.dspy.reports import AgentStatus
from bindu.dspy.runs import is_live, run_name
from bindu.dspy.storage import Storage, agent_named, get_storage
from bindu.settings import app_settings

__all__ = ["agent_findings"]

LATE: Final = timedelta(minutes=15)  # that a job may begin after its time
WEEK: Final = timedelta(days=7)
MOST: Final = 1_000  # votes that are counted


async def agent_findings(agent_id: str | None) -> list[Finding]:
    """Of DSPY__AGENT_ID's where none is named. Raises InvalidArgumentError, and what ``get_storage`` raises."""
    return [one async for one in _findings(await get_storage(), agent_named(agent_id))]


async def _findings(storage: Storage, agent_id: str) -> AsyncIterator[Finding]:
    now = await storage.now()
    status = await agent_status(agent_id, with_band=False, now=now)
    if status.active is None:
        others = [one for one in await storage.agent_ids() if one != agent_id]
        there = (
            f" There are others: {', '.join(others[:5])}. --agent or DSPY__AGENT_ID names one of them."
            if others
            else ""
        )
        advice = f"'bindu init' or 'bindu prompt add' gives it one.{there}"
        yield problem("prompt", f"Agent '{agent_id}' has none.", advice, configuration=True)
        return
    yield ok("prompt", status.sentence)
    yield _experiment(status)
    yield _training(status.last_run, now)
    async for one in _worker(storage, agent_id, now):
        yield one
    yield await _feedback(agent_id, now)


def _experiment(status: AgentStatus) -> Finding:
    trial = status.trial
    if status.candidate is None:
        return ok("experiment", "None is running.")
    if trial is None:
        return ok("experiment", f"Prompt {status.candidate.prompt.id} is on trial by the rule of means.")
    if trial.is_neglected:
        told = f"{trial.windows_due} windows have ended and nobody looked at them."
        return warning("experiment", told, "Is 'bindu worker' or the cron job running? 'bindu canary' looks now.")
    if trial.needs_person is not None:
        return warning("experiment", f"It waits for a person: {trial.needs_person}", "'bindu canary status' says more.")
    return ok("experiment", f"Prompt {status.candidate.prompt.id} is on trial and looked after.")


def _training(run: TrainingRun | None, now: datetime) -> Finding:
    if run is None:
        return note("training", "There was no run yet.", "'bindu dataset build' says whether one would begin.")
    name = run_name(run)
    if run.state == "running" and not is_live(run, now):
        told = f"Run {name} gives no sign of life: its process is gone."
        return warning("training", told, f"Run the same command to go on, or 'bindu runs cancel {name}' to end it.")
    if run.state == "running":
        return ok("training", f"Run {name} is at work: {run.step or 'it begins'}.")
    told = f"The last run ended {run.outcome}: {short(run.reason or 'no reason was kept')}"
    if run.outcome == "aborted":
        return warning("training", told, f"'bindu runs show {name}' says more; the same command goes on where it was.")
    return ok("training", told)


async def _worker(storage: Storage, agent_id: str, now: datetime) -> AsyncIterator[Finding]:
    jobs = await storage.jobs(agent_id)
    if not jobs:
        yield note("worker", "None has run for this agent.", "Run 'bindu worker', or the two commands by cron.")
    for job in jobs:
        check = f"worker's {job.name}"
        if (job.last_outcome or "").startswith("failed"):
            yield warning(check, f"It {short(job.last_outcome or '')}.", "The worker's log says more.")
        elif not _is_held(job, now) and (due := _overdue(job.name, job.last_slot, now)) is not None:
            told = f"It was due at {due:%Y-%m-%d %H:%M} UTC and nobody ran it."
            yield warning(check, told, "Is 'bindu worker' running?")
        else:
            yield ok(check, f"Last outcome: {job.last_outcome or 'none yet'}.")


def _is_held(job: Job, now: datetime) -> bool:
    """Whether somebody runs it; of a worker that died the lease runs out."""
    return job.holder is not None and (job.lease_until is None or job.lease_until > now)


def _overdue(name: str, last: datetime | None, now: datetime) -> datetime | None:
    """The time that it should have been run at; None where nobody can tell."""
    schedule = {"canary": app_settings.dspy.worker.canary, "train": app_settings.dspy.worker.train}.get(name, "")
    if not schedule.strip() or find_spec("cronsim") is None:
        return None
    from bindu.dspy.worker.schedule import checked_schedule, missed_slot  # noqa: PLC0415 - an extra

    checked = checked_schedule(schedule, f"DSPY__WORKER__{name.upper()}")
    return missed_slot(checked, last, now, grace=LATE)


async def _feedback(agent_id: str, now: datetime) -> Finding:
    votes = await newest_votes(agent_id, limit=MOST, longest=1)
    advice = "Send the users' thumbs or stars with record_feedback() or POST /v1/feedback: nothing improves without."
    if not votes:
        return warning("feedback", "None was received yet.", advice)
    last, lately = votes[0].created_at, sum(now - vote.created_at <= WEEK for vote in votes)
    number = f"{lately:,}" if lately < MOST else f"{MOST:,} or more"
    told = f"Votes in the past week: {number}; the last at {last:%Y-%m-%d %H:%M %Z}."
    return warning("feedback", told, advice) if not lately else ok("feedback", told)
