"""The one read model: how an agent's prompt is doing, a sentence first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bindu.dspy.arguments import checked_time
from bindu.dspy.canary.controller import policy_now
from bindu.dspy.decision import Policy, policy_used
from bindu.dspy.evidence import MeansEvidence, better_mean, compare_means
from bindu.dspy.models import Decision, Experiment, Prompt, PromptMetrics, TrainingRun
from bindu.dspy.planning import expected_days, required_feedback
from bindu.dspy.storage import Storage, agent_named, get_storage

__all__ = ["AgentStatus", "PromptReport", "agent_status"]

GAIN = 0.05  # the difference that ``days_to_see_gain`` speaks of, in score points
SECONDS_A_DAY = 86_400
CAUTIONS = {
    "means": (
        "The means rule knows no uncertainty: in simulation it promoted 23 % of identical prompts, "
        "and 24 % of what it promoted was worse."
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReport:
    """One version and what users thought of it."""

    prompt: Prompt
    metrics: PromptMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """Everything that a page, a command or an exporter shows of one agent."""

    sentence: str  # the verdict, for people
    agent_id: str
    share: float  # of the candidate, in [0, 1]
    active: PromptReport | None
    candidate: PromptReport | None
    evidence: MeansEvidence | None  # while a candidate is on trial
    experiment: Experiment | None  # the running one, else the last
    decisions: tuple[Decision, ...]  # of that experiment, newest first
    last_run: TrainingRun | None
    prompts: tuple[PromptReport, ...]  # all versions, oldest first
    feedback_per_day: float | None  # rated tasks of the live prompts, since the active one began
    days_to_see_gain: float | None  # for a fair test to see 5 points at this rate and share
    caution: str | None  # what to know about the experiment's rule


async def agent_status(agent_id: str | None = None, *, decisions: int = 20, now: datetime | None = None) -> AgentStatus:
    """Read how an agent is doing; ``decisions`` is how many of the newest ones to show."""
    at = checked_time(now)
    storage, agent = await get_storage(), agent_named(agent_id)
    serving = await storage.serving(agent)
    reports = await _reports(storage, agent)
    live = {report.prompt.id: report for report in reports}
    active = None if serving is None else live.get(serving.active.id)
    candidate = None if serving is None or serving.candidate is None else live.get(serving.candidate.id)
    newest = await storage.experiments(agent, limit=1)
    experiment = newest[0] if newest else None
    log = () if experiment is None else await storage.decisions(agent, experiment_id=experiment.id, limit=decisions)
    runs = await storage.runs(agent, limit=1)
    share = 0.0 if serving is None else serving.share
    per_day = None if active is None else _feedback_per_day(active, candidate, at or await storage.now())
    policy = policy_used(log) or policy_now(experiment)
    return AgentStatus(
        sentence=_sentence(agent, active, candidate, share, experiment, policy=policy),
        agent_id=agent,
        share=share,
        active=active,
        candidate=candidate,
        evidence=None if active is None or candidate is None else compare_means(active.metrics, candidate.metrics),
        experiment=experiment,
        decisions=tuple(log),
        last_run=runs[0] if runs else None,
        prompts=tuple(reports),
        feedback_per_day=per_day,
        days_to_see_gain=None if candidate is None else _days_to_see_gain(per_day, share),
        caution=None if candidate is None else CAUTIONS.get(policy.rule),
    )


async def _reports(storage: Storage, agent_id: str) -> list[PromptReport]:
    prompts = await storage.prompts(agent_id)
    metrics = await storage.prompt_metrics(agent_id, [prompt.id for prompt in prompts])
    return [PromptReport(prompt=prompt, metrics=metrics[prompt.id]) for prompt in prompts]


def _feedback_per_day(active: PromptReport, candidate: PromptReport | None, now: datetime) -> float | None:
    if active.prompt.created_at is None:
        return None
    seconds = (now - active.prompt.created_at).total_seconds()
    rated = active.metrics.num_rated + (0 if candidate is None else candidate.metrics.num_rated)
    return rated * SECONDS_A_DAY / seconds if seconds > 0 else None


def _days_to_see_gain(per_day: float | None, share: float) -> float | None:
    if per_day is None or not 0 < share < 1:
        return None
    return expected_days(required_feedback(GAIN, share=share), per_day)


def _sentence(
    agent_id: str,
    active: PromptReport | None,
    candidate: PromptReport | None,
    share: float,
    experiment: Experiment | None,
    *,
    policy: Policy,
) -> str:
    if active is None:
        return f"Agent '{agent_id}' has no prompt yet: call bootstrap_prompt(text) or run 'bindu prompt add'."
    if candidate is None:
        return f"Prompt {active.prompt.id} answers every request, {_rated(active)}.{_ending(experiment)}"
    traffic = f"it has {share:.0%} of traffic"
    name = f"Candidate {candidate.prompt.id}"
    means = compare_means(active.metrics, candidate.metrics)
    needed = policy.min_interactions
    if means.candidate_count < needed:
        return f"Too early to say: {name.lower()} has {means.candidate_count} of {needed} interactions; {traffic}."
    if means.difference is None:
        return f"Too early to say: {name.lower()} is {_rated(candidate)}, active is {_rated(active)}; {traffic}."
    better = better_mean(means.active_mean, means.candidate_mean, means.candidate_count, needed)
    word = {"candidate": "ahead", "active": "behind", None: "level"}[better]
    return f"{name} is {word} ({means.difference:+.3f}): {_rated(candidate)}, against {_rated(active)}; {traffic}."


def _rated(report: PromptReport) -> str:
    metrics = report.metrics
    if metrics.average_score is None:
        return f"not rated yet in {metrics.num_interactions} interactions"
    return f"rated {metrics.average_score:.3f} in {metrics.num_rated} of {metrics.num_interactions} interactions"


def _ending(experiment: Experiment | None) -> str:
    if experiment is None or experiment.outcome is None:
        return ""
    how = {"promoted": "was promoted", "rolled_back": "was rolled back", "inconclusive": "showed no clear gain"}
    return f" The last candidate, prompt {experiment.candidate_id}, {how[experiment.outcome]}."
