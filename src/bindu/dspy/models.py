"""The values that stages hand to each other: frozen, without behaviour that needs the outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

__all__ = [
    "DIGITS",
    "FAILED_BELOW",
    "MACHINES",
    "Arm",
    "BandPoint",
    "BinduTask",
    "Dataset",
    "Decision",
    "Experiment",
    "ExperimentOutcome",
    "Feedback",
    "FeedbackKind",
    "Funnel",
    "Interaction",
    "JsonObject",
    "PredictedEffect",
    "Prompt",
    "PromptCandidate",
    "PromptMetrics",
    "PromptStatus",
    "RawTask",
    "Remark",
    "Rollout",
    "RunOutcome",
    "Serving",
    "Task",
    "TaskQuery",
    "TaskState",
    "TrainingRun",
    "Trial",
    "Turn",
    "Verdict",
    "Vote",
]

JsonObject = dict[str, Any]

DIGITS = 9  # scores and shares that agree to this many decimals are equal
MACHINES = ("controller", "trainer")  # who act without being told; what all others do is audited
FAILED_BELOW = 0.5  # a score below it is a failure, whatever the threshold of the golden dataset

Arm = Literal["active", "candidate"]
PromptStatus = Literal["active", "candidate", "deprecated", "rolled_back"]
FeedbackKind = Literal["rating", "thumbs_up"]
TaskState = Literal["submitted", "working", "input-required", "completed", "canceled", "failed", "rejected"]
Verdict = Literal["open", "hold", "step_up", "step_down", "won", "ask", "pause", "resume", "promote", "roll_back"]
ExperimentOutcome = Literal["promoted", "rolled_back", "inconclusive"]
RunOutcome = Literal["improved", "unchanged", "worse", "refused", "aborted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One version of an agent's system prompt."""

    agent_id: str
    id: int  # counts up per agent, from 1
    text: str
    status: PromptStatus
    traffic: float  # share of requests in [0, 1]
    parent_id: int | None = None
    origin: str = "manual"  # bootstrap, manual, or the optimizer's name
    metadata: JsonObject = field(default_factory=dict)
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMetrics:
    """What users thought of one prompt, rolled up from its tasks."""

    prompt_id: int
    num_interactions: int  # all tasks that used the prompt
    num_rated: int  # those with feedback: silence is not evidence
    average_score: float | None  # mean over tasks of the mean latest vote per rater, in [0, 1]
    last_feedback_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Who is live for an agent right now, read in one statement."""

    agent_id: str
    version: int  # goes up with every rollout: what compare-and-swap compares
    active: Prompt
    candidate: Prompt | None = None
    share: float = 0.0  # of the candidate, in [0, 1]
    experiment_id: int | None = None
    epoch: int = 0  # goes up whenever the share changes within an experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One recorded exchange: the messages and the prompt that answered them."""

    agent_id: str
    id: UUID  # version 7
    prompt_id: int
    history: list[JsonObject]
    state: TaskState = "completed"
    unit_id: str | None = None  # what was randomised; None means the context, else the task itself
    context_id: str | None = None  # the conversation
    external_id: str | None = None  # the caller's own id, if it is not ours
    experiment_id: int | None = None
    epoch: int = 0
    usage: JsonObject | None = None
    latency_ms: float | None = None
    created_at: datetime | None = None  # None means the database's time


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One vote. A rater has one vote per task: the latest counts, the earlier ones are kept."""

    agent_id: str
    task_id: UUID
    id: UUID  # version 7
    kind: FeedbackKind
    score: float  # in [0, 1]: rating / 5, thumbs 0 or 1
    rater_id: str = ""  # "" is the task's one anonymous rater
    data: JsonObject = field(default_factory=dict)  # the shape as it came
    comment: str | None = None
    idempotency_key: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What somebody said of an answer without a vote; it is added to the rater's vote if there is one."""

    agent_id: str
    task_id: UUID
    id: UUID  # version 7
    rater_id: str = ""
    comment: str | None = None
    correction: str | None = None
    idempotency_key: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A rater's latest vote on a task, as the dataset reads it."""

    kind: FeedbackKind
    score: float
    rater_id: str = ""
    comment: str | None = None
    correction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTask:
    """A stored task with the latest vote of each rater, as the dataset reads it."""

    id: UUID
    prompt_id: int
    context_id: str | None
    created_at: datetime
    history: list[JsonObject]
    votes: tuple[Vote, ...] = ()
    earlier: tuple[list[JsonObject], ...] = ()  # histories of the same context's earlier tasks, in time order
    unit_id: str | None = None  # what was randomised: the caller's, else the context, else the task


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """Which tasks the dataset asks storage for: the newest ``limit`` completed ones that pass."""

    agent_id: str
    limit: int
    require_feedback: bool = True
    min_score: float = 0.0  # a mean below it is kept only when it is a failure (below .5)
    with_earlier: bool = False
    batch_size: int = 500


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: a user message and the first answer to it."""

    user: str
    assistant: str


@dataclass(frozen=True, slots=True)
class Interaction:
    """One training example, cut from a conversation by a strategy."""

    id: UUID
    user_input: str
    agent_output: str
    feedback_score: float | None = None
    feedback_type: str | None = None
    system_prompt: str | None = None
    # provenance, stamped by the extractor
    context_id: str | None = None
    created_at: datetime | None = None
    prompt_id: int | None = None
    window: int | None = None  # which of several windows over one task
    turn: int | None = None  # the turn whose answer it ends with, from 0; None when the strategy does not say
    raters: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    correction: str | None = None
    unit_id: str | None = None  # what belongs together when data is split


@dataclass(frozen=True, slots=True)
class PromptCandidate:
    """A text that an optimizer proposes, with the score it gave it on the rows it trained on."""

    text: str
    score: float
    metadata: JsonObject = field(default_factory=dict)


@dataclass(slots=True)
class Funnel:
    """How many tasks came in, how many examples came out, and why the rest was dropped."""

    tasks: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    golden: int = 0
    failures: int = 0

    def drop(self, reason: str, count: int = 1) -> None:
        """Count rows lost for a reason; none of them is lost without one."""
        if count:
            self.drops[reason] = self.drops.get(reason, 0) + count


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples worth imitating, examples worth avoiding, and the account of both."""

    golden: list[Interaction]
    failures: list[Interaction]
    funnel: Funnel


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate about to be put on trial: what ``begin_trial`` does in one transaction."""

    agent_id: str
    text: str
    expected_version: int
    origin: str
    parent_id: int
    share: float = 0.10
    policy: JsonObject = field(default_factory=dict)  # frozen when the experiment opens
    metadata: JsonObject = field(default_factory=dict)
    run_id: UUID | None = None  # the training run that ends 'improved' in the same transaction
    actor: str = "trainer"
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One candidate against one active prompt."""

    agent_id: str
    id: int
    active_id: int
    candidate_id: int
    policy: JsonObject
    state: Literal["running", "ended"]
    epoch: int
    paused: bool = False  # increases of the share are forbidden; stops are not
    outcome: ExperimentOutcome | None = None
    reason: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A decided move, not yet applied; holding still is a move too."""

    agent_id: str
    experiment_id: int
    expected_version: int
    verdict: Verdict
    share_before: float
    share_after: float
    reason: str  # a sentence for people
    outcome: ExperimentOutcome | None = None  # set when the move ends the experiment
    inputs: JsonObject = field(default_factory=dict)
    evidence: JsonObject = field(default_factory=dict)
    rule: str = "means"
    rule_version: int = 1
    actor: str = "controller"
    paused: bool | None = None  # None leaves it as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A rollout that was applied: one row of the append-only log."""

    agent_id: str
    id: int
    experiment_id: int
    window: int  # counts up per experiment, from 0
    verdict: Verdict
    share_before: float
    share_after: float
    reason: str
    inputs: JsonObject
    evidence: JsonObject
    rule: str
    rule_version: int
    code_version: str
    actor: str
    at: datetime
    closed_window: int | None = None  # the last window of evidence it was taken on; one decision each


@dataclass(frozen=True, slots=True, kw_only=True)
class BandPoint:
    """A decision, and the 95 % confidence sequence of the difference (candidate minus active) it was taken on."""

    decision_id: int
    at: datetime
    verdict: Verdict
    share: float  # after it
    window: int | None = None  # the last one of its evidence; None, as what follows, when it was a person's word
    estimate: float | None = None  # None too while nothing could be compared
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """What one training run did, said in full."""

    agent_id: str
    id: UUID
    optimizer: str
    strategy: str
    seed: int
    state: Literal["running", "ended"] = "running"
    outcome: RunOutcome | None = None
    reason: str | None = None  # a sentence for people
    step: str | None = None  # what it is doing now, for people
    calls: int = 0
    cost: float = 0.0  # US dollars
    candidate_id: int | None = None
    experiment_id: int | None = None
    resumes: UUID | None = None  # the earlier run whose work it continues
    cancel_reason: str | None = None  # a person asked it to stop; saving a run neither sets nor clears it
    details: JsonObject = field(default_factory=dict)  # funnel, rubric, scores, gate, planned calls
    seen_at: datetime | None = None  # the last sign of life; None in runs of older code
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedEffect:
    """What the gate promised of a candidate and what its experiment ended with: candidate minus active, in [-1, 1]."""

    experiment_id: int
    predicted: float
    observed: float | None  # None when nothing could be compared


@dataclass(frozen=True, slots=True, kw_only=True)
class BinduTask:
    """A task as Bindu itself stores it, with all feedback that it got, oldest first."""

    id: UUID
    context_id: UUID
    state: str
    history: list[Any]
    created_at: datetime
    feedback: tuple[tuple[int, Any, datetime], ...] = ()  # Bindu's number, what was sent, when
