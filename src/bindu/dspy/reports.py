"""What is shown of an agent, by commands, pages and exporters alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bindu.dspy.evidence import Standing
from bindu.dspy.models import BandPoint, Decision, Experiment, Prompt, PromptMetrics, TrainingRun
from bindu.dspy.planning import Plan
from bindu.dspy.policy import Policy
from bindu.dspy.rules.evidence import Win
from bindu.dspy.rules.means import MeansEvidence

__all__ = ["AgentStatus", "ArmReport", "PromptReport", "TrialReport"]


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
