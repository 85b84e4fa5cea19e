"""One look at an experiment's evidence: read what arrived, fold it in, decide; nothing is written here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from bindu.dspy.decision import by_evidence, inputs_at, policy_of
from bindu.dspy.evidence import Evidence, Window, fold, standing, start_after_win
from bindu.dspy.models import Experiment, Rollout, Serving
from bindu.dspy.policy import Policy
from bindu.dspy.rules.evidence import StratumCount, is_winning, winning_log
from bindu.dspy.storage import Storage
from bindu.dspy.units import Closing
from bindu.dspy.windows import Closed, close, end_of, last_closed, without_heaviest

__all__ = ["Look", "closes_at", "evidence_of", "look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A decided move and the windows that it closes."""

    rollout: Rollout
    closing: Closing


async def evidence_of(storage: Storage, experiment: Experiment) -> Evidence:
    """The state after the last closed window."""
    stored = await storage.evidence(experiment.agent_id, experiment.id)
    return Evidence() if stored is None else msgspec.convert(stored, Evidence)


def closes_at(experiment: Experiment, evidence: Evidence) -> datetime:
    """When the next window can be closed."""
    return end_of(policy_of(experiment.policy), _started(experiment), evidence.window + 1)


async def look(storage: Storage, serving: Serving, experiment: Experiment, now: datetime) -> Look | None:
    """Fold the windows that have ended since the last decision, in order, and decide once; None when none has."""
    policy, started_at = policy_of(experiment.policy), _started(experiment)
    before = await evidence_of(storage, experiment)
    through = last_closed(policy, started_at, now)
    if through <= before.window:
        return None
    until = end_of(policy, started_at, through)
    arrivals = await storage.arrivals(experiment.agent_id, experiment.id, until=until)
    changes = await storage.share_changes(experiment.agent_id, experiment.id)
    shares = {change.epoch: change.share for change in changes}
    closed = close(arrivals, shares, policy, started_at=started_at, after=before.window, through=through)
    evidence = before
    for window in (*closed.windows, Window(through)):
        evidence = fold(evidence, window, policy) if window.number > evidence.window else evidence
    inputs = inputs_at(
        evidence,
        policy,
        serving,
        paused=experiment.paused,
        step_hours=(changes[-1].at - started_at) / timedelta(hours=1),
        strata=_counts(closed.windows),
        without_heaviest=await _without_heaviest(storage, experiment, policy, evidence, closed=closed, shares=shares),
    )
    rollout = by_evidence(serving, inputs)
    if rollout.verdict == "won":
        evidence = start_after_win(evidence, winning_log(inputs.standing, policy))
    return Look(
        rollout=rollout,
        closing=Closing(
            window=through,
            evidence=msgspec.to_builtins(evidence),
            firsts=closed.firsts,
            judged={first.unit_id: first.judged for first in arrivals.firsts if first.judged is not None},
            counted=closed.counted,
        ),
    )


async def _without_heaviest(
    storage: Storage,
    experiment: Experiment,
    policy: Policy,
    evidence: Evidence,
    *,
    closed: Closed,
    shares: dict[int, float],
) -> float | None:
    """Read the whole experiment, but only when a win is at stake that does not wait for a person anyway."""
    hours = evidence.window * policy.window_hours
    at_stake = evidence.won_window is not None or is_winning(standing(evidence), policy, hours)
    if evidence.feedback_alarm or not at_stake:
        return None
    counted = await storage.counted_units(experiment.agent_id, experiment.id)
    return without_heaviest((*counted, *closed.counted), shares, policy)


def _started(experiment: Experiment) -> datetime:
    if experiment.started_at is None:
        raise ValueError(f"Experiment {experiment.id} was never stored.")
    return experiment.started_at


def _counts(windows: tuple[Window, ...]) -> tuple[StratumCount, ...]:
    return tuple(
        StratumCount(window.number, stratum.kind, stratum.epoch, len(stratum.active), len(stratum.candidate))
        for window in windows
        for stratum in window.scores
    )
