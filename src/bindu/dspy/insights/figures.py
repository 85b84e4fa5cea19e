"""The numbers behind a verdict, as sheets and lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from bindu.dspy.canary.checking import Explanation
from bindu.dspy.evidence import Standing, e_value
from bindu.dspy.models import Decision, Funnel, JsonObject
from bindu.dspy.policy import Policy
from bindu.dspy.reports import AgentStatus, PromptReport, TrialReport
from bindu.dspy.rules.evidence import EvidenceInputs, StratumCount
from bindu.dspy.sentences import difference_of
from bindu.dspy.sheet import Sheet, sheet

__all__ = ["arm_sheet", "explained", "funnel_rows", "status_parts", "test_sheet", "trial_lines"]

DECISIONS: Final = 5  # the newest


def status_parts(found: AgentStatus) -> Iterable[Sheet | str]:
    """What stands below the sentence."""
    if found.active is not None:
        yield arm_sheet(found, found.active)
    trial = found.trial
    if trial is not None:
        yield test_sheet(trial.standing, found.policy)
        yield "\n".join(trial_lines(trial))
    if found.decisions:
        yield _decisions(found)
    if found.caution is not None:
        yield found.caution


def explained(explanation: Explanation) -> Iterable[Sheet | str]:
    """The inputs of a decision, below its sentence."""
    decision = explanation.decision
    yield (
        f"{decision.at:%Y-%m-%d %H:%M %Z}, by {decision.actor}, rule {decision.rule} version {decision.rule_version}, "
        f"code {decision.code_version}"
    )
    if decision.rule == "evidence" and explanation.replayed is not None:
        seen = msgspec.convert(decision.inputs, EvidenceInputs)
        yield _difference(seen.standing)
        yield test_sheet(seen.standing, seen.policy)
        yield _strata(seen.strata)
        yield sheet("input", "value", rows=_flat(_without(decision.inputs, "policy", "standing", "strata", "win")))
    elif decision.inputs:
        yield sheet("input", "value", rows=_flat(_without(decision.inputs, "policy")))


def arm_sheet(found: AgentStatus, active: PromptReport) -> Sheet:
    trial = found.trial if found.candidate is not None else None
    arms = [("active", active, 1 - found.share, trial.active if trial else None)]
    if found.candidate is not None:
        arms.append(("candidate", found.candidate, found.share, trial.candidate if trial else None))
    return sheet(
        *("", "prompt", "traffic"),
        *(() if trial is None else ("units rated",)),
        *("tasks rated", "mean vote"),
        rows=[
            (
                *(name, str(report.prompt.id), f"{share:.0%}"),
                *(() if arm is None else (f"{arm.rated} of {arm.units}",)),
                f"{report.metrics.num_rated} of {report.metrics.num_interactions}",
                "" if report.metrics.average_score is None else f"{report.metrics.average_score:.3f}",
            )
            for name, report, share, arm in arms
        ],
    )


def _decisions(found: AgentStatus) -> Sheet:
    return sheet(
        *("id", "decided", "verdict", "traffic", "by", "reason"),
        rows=[
            (
                *(str(decision.id), f"{decision.at:%m-%d %H:%M}", decision.verdict),
                *(_traffic(decision), decision.actor, decision.reason),
            )
            for decision in found.decisions[:DECISIONS]
        ],
    )


def _traffic(decision: Decision) -> str:
    before, after = f"{decision.share_before:.0%}", f"{decision.share_after:.0%}"
    return after if before == after else f"{before} -> {after}"


def test_sheet(now: Standing, policy: Policy) -> Sheet:
    """Every test with its e-value and the e-value that decides."""
    goals: dict[str, list[tuple[str, float | None, float]]] = {
        "better": [
            ("the candidate is better", now.superiority, policy.alpha_win),
            (f"it is not better by {policy.gain:g}", now.futility, policy.alpha_futility),
        ],
        "not_worse": [(f"the candidate is not worse by {policy.tolerance:g}", now.non_inferiority, policy.alpha_win)],
    }
    rows = [
        *goals[policy.goal],
        ("it is worse", now.harm, policy.alpha_harm),
        ("it is worse since the win", now.after_win, policy.alpha_after_win),
        ("units were not assigned by the shares", now.mismatch, policy.alpha_mismatch),
        ("it changes who votes", now.feedback_mismatch, policy.alpha_feedback_mismatch),
    ]
    guards = sorted(now.guards.items())
    rows += [(f"guardrail: {name}", value, policy.alpha_guard / len(guards)) for name, value in guards]
    return sheet(
        *("evidence that", "e-value", "decides at"),
        rows=[(what, _e_value(value), f"{1 / alpha:,.4g}") for what, value, alpha in rows if value is not None],
    )


def _strata(strata: Iterable[StratumCount]) -> Sheet:
    """Units that were compared, per stratum over the windows since the decision before."""
    active: Counter[tuple[str, int]] = Counter()
    candidate: Counter[tuple[str, int]] = Counter()
    for stratum in strata:
        active[stratum.kind, stratum.epoch] += stratum.active
        candidate[stratum.kind, stratum.epoch] += stratum.candidate
    return sheet(
        *("feedback", "share epoch", "active units", "candidate units"),
        rows=[(kind, str(epoch), str(active[kind, epoch]), str(candidate[kind, epoch])) for kind, epoch in active],
    )


def funnel_rows(funnel: Funnel) -> list[tuple[str, str]]:
    """What became of every task, each with how many."""
    return [
        ("completed, pending and failed tasks", f"{funnel.tasks:,}"),
        *((f"dropped: {reason.replace('_', ' ')}", f"{count:,}") for reason, count in sorted(funnel.drops.items())),
        ("golden examples", f"{funnel.golden:,}"),
        ("failures (score below .5)", f"{funnel.failures:,}"),
    ]


def trial_lines(trial: TrialReport) -> Iterable[str]:
    yield _difference(trial.standing)
    if trial.win is not None:
        won = f"Won at the end of window {trial.win.window}, {trial.win.hours:g} hours before the last one's"
        yield f"{won} (e-value {_e_value(trial.win.log_e)})."
    if trial.feedback_alarm:
        yield "The candidate changes who votes: a person must decide whether it is better."
    if trial.windows_due > 0:
        due = "1 window has" if trial.windows_due == 1 else f"{trial.windows_due} windows have"
        yield f"{due} ended since the last decision: run 'bindu canary run', best every hour."
    elif trial.next_window_at is not None:
        yield f"Window {trial.window + 1} ends at {trial.next_window_at:%Y-%m-%d %H:%M %Z}."
    if trial.paused:
        yield "Paused: the share does not rise."
    if trial.plan is not None and trial.win is None:
        yield trial.plan.sentence
    if trial.days_left:
        yield f"About {trial.days_left:.1f} days are left."


def _difference(now: Standing) -> str:
    return (
        f"Difference {difference_of(now)} of unit scores, with ratings from 1 to 5 taken as 0 to 1; "
        f"p {now.p_value:.3g}, at whatever look."
    )


def _e_value(log_value: float | None) -> str:
    return "" if log_value is None else f"{e_value(log_value):.3g}"


def _without(inputs: JsonObject, *names: str) -> JsonObject:
    return {name: value for name, value in inputs.items() if name not in names}


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Names and values of nested objects, as they are stored."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
