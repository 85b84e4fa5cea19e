"""What the pages say, from what insights read: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from bindu.dspy.evidence import threshold
from bindu.dspy.housekeeping import AuditEntry
from bindu.dspy.insights.dataset import DatasetPreview
from bindu.dspy.insights.diff import DiffPiece, PromptDiff
from bindu.dspy.insights.figures import arm_sheet, funnel_rows, test_sheet, trial_lines
from bindu.dspy.policy import Policy
from bindu.dspy.reports import AgentStatus, ArmReport, TrialReport
from bindu.dspy.sheet import Sheet, sheet

__all__ = ["HealthLine", "audit_sheet", "cut_diff", "funnel_sheet", "health", "status_context"]

_STALE_SECONDS: Final = 10.0  # a snapshot is made fresh twice a second
_SILENT: Final = timedelta(days=7)
_LONGEST_DIFF: Final = 40_000  # characters
_MOST_PIECES: Final = 2_000

Level = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True, slots=True)
class HealthLine:
    """One thing that can be wrong, whether it is, and what to do."""

    name: str
    level: Level
    text: str


def status_context(status: AgentStatus, snapshot_age: float | None, now: datetime) -> dict[str, Any]:
    """What the part of a page that changes with the experiment needs."""
    return {
        "status": status,
        "arms": None if status.active is None else arm_sheet(status, status.active),
        "health": list(health(status, snapshot_age, now)),
        "tests": list(_tests(status)),
    }


def health(status: AgentStatus, snapshot_age: float | None, now: datetime) -> Iterator[HealthLine]:
    """Every line is always there, so that one that is missing is noticed."""
    yield _snapshot(snapshot_age)
    yield _feedback(status, now)
    running = status.experiment is not None and status.experiment.state == "running"
    if status.trial is None or not running:
        return
    yield _controller(status.trial)
    yield _split(status.trial, status.policy)
    yield _voters(status.trial)


def cut_diff(found: PromptDiff) -> dict[str, Any]:
    """A diff for a page: as many of its pieces as fit, and how many characters are left out."""
    pieces: list[DiffPiece] = []
    room = _LONGEST_DIFF
    for piece in found.pieces[:_MOST_PIECES]:
        if not room:
            break
        pieces.append(replace(piece, text=piece.text[:room]))
        room -= len(pieces[-1].text)
    missing = sum(len(piece.text) for piece in found.pieces) - (_LONGEST_DIFF - room)
    return {"old": found.old, "new": found.new, "pieces": pieces, "missing": missing}


def funnel_sheet(preview: DatasetPreview) -> Sheet:
    """The account of every task."""
    title = f"Golden dataset, strategy {preview.strategy}"
    return sheet("what", "count", rows=funnel_rows(preview.funnel), title=title)


def audit_sheet(entries: list[AuditEntry]) -> Sheet:
    """The trail as a table."""
    return sheet(
        *("number", "when", "who", "did", "to", "why", "digest"),
        rows=[
            (
                *(str(entry.id), f"{entry.at:%Y-%m-%d %H:%M:%S %Z}", entry.actor, entry.action.replace("_", " ")),
                *(entry.subject, entry.reason, entry.digest[:12]),
            )
            for entry in entries
        ],
    )


def _tests(status: AgentStatus) -> Iterator[Sheet | str]:
    if status.trial is not None:
        yield test_sheet(status.trial.standing, status.policy)
        yield "\n".join(trial_lines(status.trial))


def _snapshot(age: float | None) -> HealthLine:
    name = "What this server serves"
    if age is None:
        return HealthLine(name, "unknown", "No prompt of this agent was asked for here since the server started.")
    if age > _STALE_SECONDS:
        return HealthLine(name, "warning", f"It is {age:.0f} seconds old: the database does not answer.")
    return HealthLine(name, "ok", "As it is stored, to the second.")


def _feedback(status: AgentStatus, now: datetime) -> HealthLine:
    name = "Feedback"
    times = [report.metrics.last_feedback_at for report in (status.active, status.candidate) if report is not None]
    last = max((at for at in times if at is not None), default=None)
    if last is None:
        return HealthLine(name, "warning", "No vote on what is served now. Is the thumbs button connected?")
    if now - last > _SILENT:
        return HealthLine(name, "warning", f"No vote for a week: the last one came at {last:%Y-%m-%d %H:%M %Z}.")
    return HealthLine(name, "ok", f"The last vote came at {last:%Y-%m-%d %H:%M %Z}.")


def _controller(trial: TrialReport) -> HealthLine:
    name = "Controller"
    if trial.needs_person is not None:
        return HealthLine(name, "problem", trial.needs_person)
    if trial.is_neglected:
        return HealthLine(
            name, "warning", f"{trial.windows_due} windows wait for a decision: run 'bindu canary run' every hour."
        )
    if trial.paused:
        return HealthLine(name, "warning", "Paused: the share does not rise; stops still work.")
    when = "" if trial.next_window_at is None else f" The next window ends at {trial.next_window_at:%Y-%m-%d %H:%M %Z}."
    return HealthLine(name, "ok", f"{trial.window} windows were decided on.{when}")


def _split(trial: TrialReport, policy: Policy) -> HealthLine:
    name = "Traffic split"
    if trial.standing.mismatch >= threshold(policy.alpha_mismatch):
        return HealthLine(name, "problem", "Units were not assigned by the shares, so that no comparison is fair.")
    return HealthLine(name, "ok", "Units were assigned by the shares.")


def _voters(trial: TrialReport) -> HealthLine:
    name = "Who votes"
    rates = f"Rated: active {_rate(trial.active)}, candidate {_rate(trial.candidate)}."
    if trial.feedback_alarm:
        return HealthLine(name, "warning", f"{rates} The candidate changes who votes: a person must decide.")
    return HealthLine(name, "ok", rates)


def _rate(arm: ArmReport) -> str:
    return "nobody yet" if not arm.units else f"{arm.rated / arm.units:.0%} of {arm.units:,} units"
