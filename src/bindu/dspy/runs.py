"""Training runs for people: which there are, how one is doing, and how to stop it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from bindu.dspy.arguments import check_limit, checked_actor, checked_id, checked_time
from bindu.dspy.errors import AmbiguousRunError, InvalidArgumentError, UnknownRunError
from bindu.dspy.models import TrainingRun
from bindu.dspy.storage import agent_named, get_storage

__all__ = [
    "BY_HAND",
    "SILENT",
    "Cancellation",
    "RunReport",
    "cancel_run",
    "find_run",
    "is_live",
    "list_runs",
    "run_name",
    "run_report",
]

SILENT: Final = timedelta(seconds=60)  # a process that gave no sign of life for longer is gone: it gives one every two
BY_HAND: Final = "cancelled by hand"

_NAME: Final = 13  # characters of an id that two runs share only if they began in the same millisecond
_MINUTES: Final = 120  # from then on hours are told

Deed = Literal["asked", "ended", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """One run, and how it is doing."""

    sentence: str
    run: TrainingRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """What became of the wish to stop a run: it was asked to, it was ended at once, or it had ended before."""

    sentence: str
    did: Deed
    run: TrainingRun  # as it is now


async def list_runs(*, limit: int = 100, agent_id: str | None = None) -> list[TrainingRun]:
    """The agent's runs, newest first."""
    check_limit(limit)
    return await (await get_storage()).runs(agent_named(agent_id), limit=limit)


async def find_run(run_id: UUID | str | None = None, *, agent_id: str | None = None) -> TrainingRun:
    """The run whose id is that or begins so, the newest for None. Raises UnknownRunError and AmbiguousRunError."""
    storage, agent = await get_storage(), agent_named(agent_id)
    asked = None if run_id is None else checked_id(run_id, "run_id").strip()
    found = await (storage.runs(agent, limit=1) if asked is None else storage.find_runs(agent, asked, limit=2))
    if not found:
        raise UnknownRunError(agent, asked)
    if len(found) > 1:
        raise AmbiguousRunError(str(asked), [run.id for run in found])
    return found[0]


async def run_report(
    run_id: UUID | str | None = None, *, agent_id: str | None = None, now: datetime | None = None
) -> RunReport:
    """How a run is doing, a sentence first. Raises what ``find_run`` raises."""
    asked = checked_time(now)
    run = await find_run(run_id, agent_id=agent_id)
    return RunReport(sentence=_sentence(run, asked or await (await get_storage()).now()), run=run)


async def cancel_run(
    run_id: UUID | str,
    *,
    reason: str = BY_HAND,
    actor: str = "person",
    dry_run: bool = False,
    agent_id: str | None = None,
    now: datetime | None = None,
) -> Cancellation:
    """Ask a live run to stop, which takes it seconds; end one whose process is gone; leave an ended one as it is.

    ``dry_run`` says what would be done. Raises InvalidArgumentError without a reason, and what ``find_run`` raises.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidArgumentError("Say why: the reason is kept with the run, for whoever looks at it.")
    at, who, run = checked_time(now), checked_actor(actor), await find_run(run_id, agent_id=agent_id)
    if run.state == "ended":
        did: Deed = "nothing"
    elif dry_run:
        did = "asked" if is_live(run, at or await (await get_storage()).now()) else "ended"
    else:
        did, run = await _stop(run, reason.strip(), who, at)
    return Cancellation(sentence=_told(did, run, dry_run=dry_run), did=did, run=run)


def is_live(run: TrainingRun, now: datetime) -> bool:
    """Whether a process can be thought to be at work on it."""
    return run.state == "running" and _silence(run, now) <= SILENT


def run_name(run: TrainingRun) -> str:
    """As much of its id as people need."""
    return str(run.id)[:_NAME]


async def _stop(run: TrainingRun, reason: str, actor: str, now: datetime | None) -> tuple[Deed, TrainingRun]:
    """Ask first: should its process live after all, it will hear of it."""
    storage = await get_storage()
    asked = await storage.cancel_run(run.agent_id, run.id, reason, actor=actor, now=now) or run
    gone = f"Cancelled: {_clause(asked.cancel_reason)}. Its process had gone before, without a word."
    ended = await storage.end_lost_runs(run.agent_id, silent_for=SILENT, reason=gone, run_id=run.id, now=now)
    run = await storage.run(run.agent_id, run.id) or asked
    return ("asked" if run.state == "running" else "ended" if ended else "nothing"), run


def _told(did: Deed, run: TrainingRun, *, dry_run: bool) -> str:
    name = f"run {run_name(run)}"
    match did:
        case "nothing":
            return f"Nothing to cancel. {_ending(run)}"
        case "asked" if dry_run:
            return f"Would ask {name} to stop."
        case "ended" if dry_run:
            return f"Would end {name}: its process is gone."
        case "asked":
            why = _clause(run.cancel_reason)
            return f"Asked {name} to stop: {why}. It ends within seconds and puts nothing on trial."
        case "ended":
            return f"Ended {name}: its process was gone. Nothing was deployed."


def _sentence(run: TrainingRun, now: datetime) -> str:
    name = f"Run {run_name(run)}"
    if run.state == "ended":
        return _ending(run)
    if not is_live(run, now):
        silence = f"gave no sign of life for {_duration(_silence(run, now).total_seconds())}: its process is gone"
        return f"{name} {silence}. 'bindu runs cancel {run_name(run)}' ends it."
    if run.cancel_reason is not None:
        return f"{name} was asked to stop: {_clause(run.cancel_reason)}."
    doing = f"is at work: {_clause(run.step)}" if run.step else "is at work"
    return "; ".join([f"{name} {doing}", *_progress(run)]) + "."


def _ending(run: TrainingRun) -> str:
    trial = f" It put prompt {run.candidate_id} on trial." if run.experiment_id is not None else ""
    return f"Run {run_name(run)} ended {run.outcome}: {_clause(run.reason) or 'no reason was kept'}.{trial}"


def _progress(run: TrainingRun) -> list[str]:
    """What the run told of how far it is; older ones told nothing."""
    told = run.details.get("progress")
    progress = told if isinstance(told, dict) else {}
    done, expected, left = (progress.get(name) for name in ("calls_done", "calls_expected", "eta_seconds"))
    parts = [f"{done:,} of about {expected:,} calls"] if isinstance(done, int) and isinstance(expected, int) else []
    parts += [f"{_duration(left)} left"] if isinstance(left, int | float) else []
    return parts + ([f"${run.cost:.2f} so far"] if run.cost else [])


def _silence(run: TrainingRun, now: datetime) -> timedelta:
    return now - (run.seen_at or run.started_at or now)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    number, unit = (minutes, "minute") if minutes < _MINUTES else (round(minutes / 60), "hour")
    return f"about {number} {unit}{'' if number == 1 else 's'}"


def _clause(text: str | None) -> str:
    """A sentence as part of another."""
    return (text or "").strip().rstrip(".")
