"""What is shown: of an agent, of what happens to it, and of an import; by commands, pages and exporters alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from bindu.dspy.evidence import Standing
from bindu.dspy.models import (
    Arm,
    BandPoint,
    Decision,
    Experiment,
    FeedbackKind,
    JsonObject,
    Prompt,
    PromptMetrics,
    TaskState,
    TrainingRun,
)
from bindu.dspy.planning import Plan
from bindu.dspy.policy import Policy
from bindu.dspy.rules.evidence import Win
from bindu.dspy.rules.means import MeansEvidence

__all__ = [
    "AgentStatus",
    "AgentVitals",
    "ArmReport",
    "ImportReport",
    "ImportTally",
    "LatestVote",
    "PromptReport",
    "Pulse",
    "StoredTask",
    "TrialReport",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReport:
    """One version and what users thought of it."""

    prompt: Prompt
    metrics: PromptMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmReport:
    """What closed windows took in of one arm."""

    units: int  # assigned to it
    rated: int  # of them, those whose score counted


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport:
    """An experiment under the evidence rule, at the end of its last closed window."""

    champion: bool  # the candidate is a text that was active before, to see that the wins since were true
    window: int  # 0 before the first
    standing: Standing
    active: ArmReport
    candidate: ArmReport
    win: Win | None
    feedback_alarm: bool  # the candidate changes who votes
    needs_person: str | None  # why the controller does not decide
    paused: bool
    next_window_at: datetime | None  # None when it has ended
    windows_due: int  # that have ended and wait for a run of the controller
    ends_at: datetime | None  # when it ends without a verdict; None after a win and while a person is asked
    plan: Plan | None  # at the measured rate of feedback; None when it has ended
    days_left: float | None  # until the verdict, or all traffic after a win; 0: longer than planned, None: unknown
    band: tuple[BandPoint, ...]  # oldest first; empty when it was not asked for

    @property
    def is_neglected(self) -> bool:
        """Whether nobody seems to run the controller; one window may just have ended."""
        return self.windows_due > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """Everything that a page, a command or an exporter shows of one agent."""

    sentence: str  # the verdict, for people
    agent_id: str
    share: float  # of the candidate, in [0, 1]
    active: PromptReport | None
    candidate: PromptReport | None
    means: MeansEvidence | None  # while a candidate is on trial
    experiment: Experiment | None  # the running one, else the last
    policy: Policy  # what that experiment is decided by; without one, the settings'
    trial: TrialReport | None  # of that experiment; None under another rule
    decisions: tuple[Decision, ...]  # of that experiment, newest first
    last_run: TrainingRun | None
    prompts: tuple[PromptReport, ...]  # all versions, oldest first
    caution: str | None  # what to know about the experiment's rule


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentVitals:
    """The few figures that an exporter reads again and again: none of them grows dearer with what was recorded."""

    agent_id: str
    share: float  # of the candidate, in [0, 1]
    running: bool  # an experiment is
    needs_person: bool  # the controller does not decide it
    windows_due: int  # of the running experiment, that have ended and wait for a run of the controller
    standing: Standing | None  # of the running experiment, after its first window; None under another rule
    mismatch: bool  # its units, or those of one that ended in the past day, were not assigned by the shares
    arms: dict[Arm, ArmReport]  # of the running experiment under the evidence rule, else empty
    last_trained_at: datetime | None  # when a run last ended with a result, whatever that was


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import found and what it changed."""

    rows: int
    conversations: int
    tasks_new: int
    tasks_known: int
    votes_new: int
    votes_known: int
    skipped: dict[str, int] = field(default_factory=dict)  # by reason
    dry_run: bool = False

    @property
    def sentence(self) -> str:
        """The report for people."""
        skipped = "".join(f" Skipped: {count} {reason.replace('_', ' ')}." for reason, count in self.skipped.items())
        return (
            f"{'Nothing was stored, this is a dry run. ' if self.dry_run else ''}"
            f"{self.rows} rows of {self.conversations} conversations: "
            f"{self.tasks_new} new tasks ({self.tasks_known} known), "
            f"{self.votes_new} new votes ({self.votes_known} known).{skipped}"
        )


class ImportTally:
    """Counts while the rows stream by."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.conversations: set[str] = set()

    def add(self, what: str, new: int, total: int) -> None:
        self.counts[f"{what}_new"] += new
        self.counts[f"{what}_known"] += total - new

    def add_stored(self, what: str, stored: Sequence[UUID], proposed: Sequence[UUID]) -> None:
        """Storage answers with the id that a known row had."""
        self.add(what, sum(ours == theirs for ours, theirs in zip(stored, proposed, strict=True)), len(proposed))

    def report(self, *, dry_run: bool = False) -> ImportReport:
        names = ("rows", "tasks_new", "tasks_known", "votes_new", "votes_known")
        counts = {name: self.counts[name] for name in names}
        conversations = len(self.conversations)
        return ImportReport(**counts, conversations=conversations, skipped=dict(self.skipped), dry_run=dry_run)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestVote:
    """A vote as it came in, for people who look on."""

    id: UUID
    task_id: UUID
    prompt_id: int
    unit_id: str
    rater_id: str
    kind: FeedbackKind
    score: float
    created_at: datetime
    counts: bool  # its rater has not voted again
    question: str | None  # the beginning of the last thing that the user said
    comment: str | None = None  # the beginning
    correction: str | None = None  # the beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask:
    """One exchange as it was recorded."""

    id: UUID
    prompt_id: int
    unit_id: str
    context_id: str | None
    state: TaskState
    history: list[JsonObject]
    created_at: datetime
    experiment_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What a page shows changes only when one of these does."""

    version: int  # of what is served
    decision_id: int | None  # the newest
    vote_id: UUID | None  # the newest
    run_seen_at: datetime | None  # of the newest training run
