"""How an agent's prompt is doing, a sentence first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, get_args

from bindu.dspy.arguments import check_limit, checked_time
from bindu.dspy.canary.controller import policy_now
from bindu.dspy.canary.looking import closes_at, evidence_of
from bindu.dspy.champion import is_champion_test
from bindu.dspy.decision import policy_used, win_of
from bindu.dspy.errors import InvalidArgumentError
from bindu.dspy.evidence import Evidence, standing, threshold
from bindu.dspy.models import Arm, BandPoint, Decision, Experiment
from bindu.dspy.opening import fitted_to, settings_policy
from bindu.dspy.planning import Plan, days_to_all, plan
from bindu.dspy.policy import Policy
from bindu.dspy.reports import AgentStatus, AgentVitals, ArmReport, PromptReport, TrialReport
from bindu.dspy.rules.evidence import Win
from bindu.dspy.rules.means import compare_means
from bindu.dspy.sentences import caution, ending_sentence, means_sentence, no_prompt_sentence, trial_sentence
from bindu.dspy.storage import Storage, agent_named, get_storage
from bindu.dspy.units import Baseline
from bindu.dspy.windows import last_closed
from bindu.settings import app_settings

__all__ = ["agent_status", "agent_vitals", "experiment_plan", "prompt_reports"]

HOURS_A_DAY: Final = 24
BAND_POINTS: Final = 2_000  # of the newest decisions; two weeks of hours are 336
NEWEST: Final = 20  # decisions, to find the last one by a rule among people's words
RESULTS: Final = ("improved", "unchanged", "worse")  # of training; the other outcomes are none
LATELY: Final = timedelta(days=1)
ARMS: Final[tuple[Arm, ...]] = get_args(Arm)


async def agent_status(
    agent_id: str | None = None, *, decisions: int = NEWEST, with_band: bool = True, now: datetime | None = None
) -> AgentStatus:
    """Read how an agent is doing; ``decisions`` is how many of the newest ones to show, the band is for a plot."""
    check_limit(decisions)
    asked, storage, agent = checked_time(now), await get_storage(), agent_named(agent_id)
    at = asked or await storage.now()
    serving = await storage.serving(agent)
    reports = await _reports(storage, agent)
    live = {report.prompt.id: report for report in reports}
    active = None if serving is None else live.get(serving.active.id)
    candidate = None if serving is None or serving.candidate is None else live.get(serving.candidate.id)
    share = 0.0 if serving is None else serving.share
    newest = await storage.experiments(agent, limit=1)
    experiment = newest[0] if newest else None
    log = await _log(storage, experiment, max(decisions, NEWEST))
    policy = policy_used(log) or (settings_policy() if experiment is None else policy_now(experiment))
    band = await _band(storage, experiment) if with_band else ()
    trial = await _trial(storage, experiment, log, policy, share=share, band=band, now=at)
    runs = await storage.runs(agent, limit=1)
    return AgentStatus(
        sentence=_sentence(agent, active, candidate, share, experiment, policy=policy, trial=trial),
        agent_id=agent,
        share=share,
        active=active,
        candidate=candidate,
        means=None if active is None or candidate is None else compare_means(active.metrics, candidate.metrics),
        experiment=experiment,
        policy=policy,
        trial=trial,
        decisions=tuple(log[:decisions]),
        last_run=runs[0] if runs else None,
        prompts=tuple(reports),
        caution=None if candidate is None else caution(policy),
    )


async def agent_vitals(agent_id: str | None = None, *, now: datetime | None = None) -> AgentVitals | None:
    """Read what an exporter shows of an agent, in a few small queries; None before bootstrap."""
    asked, storage, agent = checked_time(now), await get_storage(), agent_named(agent_id)
    serving = await storage.serving(agent)
    if serving is None:
        return None
    newest = await storage.experiments(agent, limit=1)
    experiment = newest[0] if newest else None
    running = experiment is not None and experiment.state == "running"
    at = asked or await storage.now()
    policy, evidence = policy_now(experiment), await _late_evidence(storage, experiment, at)
    said = None if evidence is None or evidence.window == 0 else standing(evidence)
    return AgentVitals(
        agent_id=agent,
        share=serving.share,
        running=running,
        needs_person=running and _needs_person(await _log(storage, experiment, NEWEST)) is not None,
        windows_due=_windows_due(experiment, evidence, policy, at),
        standing=said if running else None,
        mismatch=said is not None and said.mismatch >= threshold(policy.alpha_mismatch),
        arms={} if evidence is None or not running else {arm: _arm(evidence, arm) for arm in ARMS},
        last_trained_at=await _last_trained(storage, agent),
    )


async def prompt_reports(agent_id: str | None = None) -> list[PromptReport]:
    """All versions of the agent's prompt, oldest first, with what users thought of them."""
    return await _reports(await get_storage(), agent_named(agent_id))


async def experiment_plan(
    *,
    gain: float | None = None,
    share: float | None = None,
    feedback_per_day: float | None = None,
    agent_id: str | None = None,
    now: datetime | None = None,
) -> Plan:
    """How long an experiment opened now would take, by the settings' numbers.

    ``feedback_per_day`` is that of the past week unless it is given; then no database is needed. Raises
    InvalidArgumentError, and NoActivePromptError when there is nothing to measure.
    """
    opens_with = app_settings.dspy.canary.initial_share if share is None else share
    if feedback_per_day is None:
        storage = await get_storage()
        rate = await storage.feedback_per_hour(agent_named(agent_id), now=checked_time(now))
    else:
        rate = feedback_per_day / HOURS_A_DAY
    try:
        policy = fitted_to(Baseline(feedback_per_hour=rate), settings_policy(), opens_with)
        return plan(policy, feedback_per_hour=rate, gain=gain, share=opens_with)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None


async def _late_evidence(storage: Storage, experiment: Experiment | None, now: datetime) -> Evidence | None:
    """Of an experiment under the evidence rule that runs, or ended in the past day."""
    if experiment is None or experiment.policy.get("rule") != "evidence":
        return None
    if experiment.ended_at is not None and experiment.ended_at < now - LATELY:
        return None
    return await evidence_of(storage, experiment)


async def _last_trained(storage: Storage, agent_id: str) -> datetime | None:
    """Among the newest runs; the newest alone when it has a result, as most do."""
    for limit in (1, NEWEST):
        runs = await storage.runs(agent_id, limit=limit)
        ended = next((run.ended_at for run in runs if run.outcome in RESULTS), None)
        if ended is not None or len(runs) < limit:
            return ended
    return None


async def _reports(storage: Storage, agent_id: str) -> list[PromptReport]:
    prompts = await storage.prompts(agent_id)
    metrics = await storage.prompt_metrics(agent_id, [prompt.id for prompt in prompts])
    return [PromptReport(prompt=prompt, metrics=metrics[prompt.id]) for prompt in prompts]


async def _log(storage: Storage, experiment: Experiment | None, limit: int) -> list[Decision]:
    if experiment is None:
        return []
    return await storage.decisions(experiment.agent_id, experiment_id=experiment.id, limit=limit)


async def _band(storage: Storage, experiment: Experiment | None) -> tuple[BandPoint, ...]:
    if experiment is None:
        return ()
    return tuple(reversed(await storage.band(experiment.agent_id, experiment.id, limit=BAND_POINTS)))


async def _trial(
    storage: Storage,
    experiment: Experiment | None,
    log: Sequence[Decision],
    policy: Policy,
    *,
    share: float,
    band: tuple[BandPoint, ...],
    now: datetime,
) -> TrialReport | None:
    if experiment is None or experiment.started_at is None or policy.rule != "evidence":
        return None
    evidence = await evidence_of(storage, experiment)
    running = experiment.state == "running"
    win = win_of(evidence, policy)
    needs_person = _needs_person(log) if running else None
    times_out = running and win is None and needs_person is None
    age = now - experiment.started_at
    planned = await _plan(storage, experiment, policy, now) if running else None
    return TrialReport(
        champion=is_champion_test(experiment),
        window=evidence.window,
        standing=standing(evidence),
        active=_arm(evidence, "active"),
        candidate=_arm(evidence, "candidate"),
        win=win,
        feedback_alarm=evidence.feedback_alarm,
        needs_person=needs_person,
        paused=experiment.paused,
        next_window_at=closes_at(experiment, evidence) if running else None,
        windows_due=_windows_due(experiment, evidence, policy, now),
        ends_at=experiment.started_at + timedelta(hours=policy.timeout_hours) if times_out else None,
        plan=planned,
        days_left=None if needs_person or experiment.paused else _days_left(planned, policy, age, win, share),
        band=band,
    )


def _windows_due(experiment: Experiment | None, evidence: Evidence | None, policy: Policy, now: datetime) -> int:
    if experiment is None or evidence is None or experiment.state != "running" or experiment.started_at is None:
        return 0
    return last_closed(policy, experiment.started_at, now) - evidence.window


def _arm(evidence: Evidence, arm: Arm) -> ArmReport:
    """Its counts over all share epochs."""
    return ArmReport(
        units=sum(getattr(share, arm) for share in evidence.shares),
        rated=sum(getattr(share, f"rated_{arm}") for share in evidence.shares),
    )


def _needs_person(log: Sequence[Decision]) -> str | None:
    newest = next((decision for decision in log if decision.rule == "evidence"), None)
    return newest.reason if newest is not None and newest.verdict == "ask" else None


async def _plan(storage: Storage, experiment: Experiment, policy: Policy, now: datetime) -> Plan:
    """At the rate of feedback of the past week, whatever was expected when the experiment opened."""
    rate = await storage.feedback_per_hour(experiment.agent_id, now=now)
    opening, *_ = await storage.share_changes(experiment.agent_id, experiment.id)
    return plan(policy, feedback_per_hour=rate, share=opening.share)


def _days_left(planned: Plan | None, policy: Policy, age: timedelta, win: Win | None, share: float) -> float | None:
    if planned is None or planned.days is None:
        return None
    if win is not None:
        return days_to_all(policy, share, rested=win.hours)
    return max(0.0, planned.days - age / timedelta(days=1))


def _sentence(
    agent_id: str,
    active: PromptReport | None,
    candidate: PromptReport | None,
    share: float,
    experiment: Experiment | None,
    *,
    policy: Policy,
    trial: TrialReport | None,
) -> str:
    if active is None:
        return no_prompt_sentence(agent_id)
    if candidate is None:
        return ending_sentence(active, experiment)
    if trial is None:
        paused = experiment is not None and experiment.paused
        return means_sentence(active, candidate, share, policy, paused=paused)
    return trial_sentence(candidate.prompt.id, trial, share, policy)
