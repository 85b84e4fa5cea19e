"""Evidence, policy and state become a Rollout with its reasons.

A rule is a pure function of the inputs that are stored with the decision, so ``replay`` gives the same verdict
for as long as the row exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal, get_args

import msgspec

from bindu.dspy.errors import UnknownRuleError
from bindu.dspy.evidence import Evidence, standing
from bindu.dspy.models import Decision, ExperimentOutcome, JsonObject, PromptMetrics, Rollout, Serving
from bindu.dspy.policy import Policy, RuleName
from bindu.dspy.rules import RULES
from bindu.dspy.rules.base import Move, Rule
from bindu.dspy.rules.evidence import EvidenceInputs, StratumCount, Win
from bindu.dspy.rules.manual import ManualInputs
from bindu.dspy.rules.means import MeansInputs
from bindu.dspy.units import ShareChange

__all__ = [
    "by_evidence",
    "by_means",
    "inputs_at",
    "last_step_at",
    "move_to",
    "policy_of",
    "policy_used",
    "replay",
    "set_paused",
    "win_of",
]

RULE_NAMES: Final[tuple[RuleName, ...]] = get_args(RuleName)


def policy_of(stored: JsonObject, **left_open: float) -> Policy:
    """The policy that an experiment or a decision was stored with; numbers that it leaves open are the caller's.

    Without a rule it is of the means rule, as the first experiments were. Raises UnknownRuleError for a rule, or a
    version of it, that is not here: an experiment ends by the rule that it began with.
    """
    policy = {"rule": "means", **left_open, **stored}
    if policy["rule"] not in RULE_NAMES:
        raise UnknownRuleError(policy["rule"], RULE_NAMES)
    _rule(policy["rule"], stored.get("rule_version"))
    return msgspec.convert(policy, Policy)


def policy_used(decisions: Iterable[Decision]) -> Policy | None:
    """What the newest decision that followed a policy went by; ``decisions`` newest first."""
    stored = next((decision.inputs["policy"] for decision in decisions if "policy" in decision.inputs), None)
    return None if stored is None else policy_of(stored)


def inputs_at(
    evidence: Evidence,
    policy: Policy,
    serving: Serving,
    *,
    paused: bool,
    step_hours: float,
    strata: Iterable[StratumCount],
    without_heaviest: float | None = None,
) -> EvidenceInputs:
    """What the evidence rule looks at after a window; ``step_hours`` is the experiment's age when the share changed."""
    age = evidence.window * policy.window_hours
    return EvidenceInputs(
        policy=policy,
        active_id=serving.active.id,
        candidate_id=0 if serving.candidate is None else serving.candidate.id,
        share=serving.share,
        paused=paused,
        window=evidence.window,
        age_hours=age,
        hours_at_step=age - step_hours,
        rated_at_step=evidence.rated_at(serving.epoch),
        standing=standing(evidence),
        win=win_of(evidence, policy),
        feedback_alarm=evidence.feedback_alarm,
        without_heaviest=without_heaviest,
        strata=tuple(strata),
    )


def win_of(evidence: Evidence, policy: Policy) -> Win | None:
    """The win that is latched, if any, as of the last closed window."""
    if evidence.won_window is None or evidence.won_log_e is None:
        return None
    hours = (evidence.window - evidence.won_window) * policy.window_hours
    return Win(window=evidence.won_window, log_e=evidence.won_log_e, hours=hours)


def by_evidence(serving: Serving, inputs: EvidenceInputs) -> Rollout:
    """Decide on closed windows."""
    return _rollout(serving, "evidence", msgspec.to_builtins(inputs), actor="controller")


def by_means(
    serving: Serving,
    active: PromptMetrics,
    candidate: PromptMetrics,
    policy: Policy,
    *,
    last_step: datetime | None = None,
    paused: bool = False,
) -> Rollout:
    """Decide one step of the specification's rule."""
    inputs = MeansInputs(
        policy=policy,
        share=serving.share,
        active=active,
        candidate=candidate,
        last_step_at=last_step,
        paused=paused,
    )
    return _rollout(serving, "means", msgspec.to_builtins(inputs), actor="controller")


def move_to(
    serving: Serving, share: float, *, reason: str, actor: str, ends: ExperimentOutcome = "rolled_back"
) -> Rollout:
    """Somebody's word: set the candidate's share; 0 ends the experiment with ``ends``, 1 promotes."""
    inputs = ManualInputs(share=serving.share, asked=share, reason=reason, ends=ends)
    return _rollout(serving, "manual", msgspec.to_builtins(inputs), actor=actor)


def set_paused(serving: Serving, pausing: Literal["pause", "resume"], *, reason: str, actor: str) -> Rollout:
    """Somebody's word: forbid that the share rises, or allow it again."""
    inputs = ManualInputs(share=serving.share, asked=serving.share, reason=reason, pausing=pausing)
    return _rollout(serving, "manual", msgspec.to_builtins(inputs), actor=actor, paused=pausing == "pause")


def replay(decision: Decision) -> Move:
    """Decide again from what is stored. Raises UnknownRuleError for a rule, or a version of it, that is not here."""
    return _rule(decision.rule, decision.rule_version).move(decision.inputs)


def last_step_at(changes: Sequence[ShareChange]) -> datetime | None:
    """When an experiment's share last moved, by whoever's word; None while it is the one that it opened with."""
    return changes[-1].at if len(changes) > 1 else None


def _rollout(serving: Serving, rule: str, inputs: JsonObject, *, actor: str, paused: bool | None = None) -> Rollout:
    if serving.experiment_id is None:
        raise ValueError(f"Agent '{serving.agent_id}' has no experiment to decide on.")
    chosen = _rule(rule)
    move = chosen.move(inputs)
    return Rollout(
        agent_id=serving.agent_id,
        experiment_id=serving.experiment_id,
        expected_version=serving.version,
        verdict=move.verdict,
        share_before=serving.share,
        share_after=move.share_after,
        reason=move.reason,
        outcome=move.outcome,
        inputs=inputs,
        evidence=move.evidence,
        rule=rule,
        rule_version=chosen.version,
        actor=actor,
        paused=paused,
    )


def _rule(name: str, version: int | None = None) -> Rule:
    """The rule of that name, and of that version when one is asked for."""
    if name not in RULES:
        raise UnknownRuleError(name, tuple(RULES))
    if version not in (None, RULES[name].version):
        here = tuple(f"{known} version {rule.version}" for known, rule in RULES.items())
        raise UnknownRuleError(f"{name} version {version}", here)
    return RULES[name]
