"""Evidence, policy and state become a Rollout with its reasons.

A rule is a pure function of the inputs that are stored with the decision, so ``replay`` gives the same verdict
for as long as the row exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime

import msgspec

from bindu.dspy.errors import UnknownRuleError
from bindu.dspy.evidence import MeansEvidence, better_mean, compare_means
from bindu.dspy.models import (
    DIGITS,
    Decision,
    ExperimentOutcome,
    JsonObject,
    PromptMetrics,
    Rollout,
    Serving,
    Verdict,
)

__all__ = ["RULES", "Move", "Policy", "Rule", "decide", "last_step_at", "move_to", "policy_of", "policy_used", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rule of an experiment and its numbers."""

    rule: str = "means"
    min_interactions: int  # of the candidate, before its mean is looked at
    step: float  # of all traffic, per decision

    def __post_init__(self) -> None:
        if self.min_interactions < 1 or not 0 < self.step <= 1:
            raise ValueError(
                f"A policy needs min_interactions >= 1 and 0 < step <= 1, not {self.min_interactions} and {self.step}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a rule makes of its inputs."""

    verdict: Verdict
    share_after: float
    reason: str
    outcome: ExperimentOutcome | None = None
    evidence: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to decide, by name; the version goes up when equal inputs may get another verdict."""

    move: Callable[[JsonObject], Move]
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _MeansInputs:
    policy: Policy
    share: float
    active: PromptMetrics
    candidate: PromptMetrics
    last_step_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _ManualInputs:
    share: float
    asked: float
    reason: str


def policy_of(stored: JsonObject, *, min_interactions: int, step: float) -> Policy:
    """The policy frozen in an experiment; numbers it leaves open are the caller's."""
    return Policy(
        rule=stored.get("rule", "means"),
        min_interactions=stored.get("min_interactions", min_interactions),
        step=stored.get("step", step),
    )


def policy_used(decisions: Iterable[Decision]) -> Policy | None:
    """What the newest decision that followed a policy went by; ``decisions`` newest first."""
    stored = next((decision.inputs["policy"] for decision in decisions if "policy" in decision.inputs), None)
    return None if stored is None else msgspec.convert(stored, Policy)


def decide(
    serving: Serving,
    active: PromptMetrics,
    candidate: PromptMetrics,
    policy: Policy,
    *,
    last_step: datetime | None = None,
) -> Rollout:
    """Decide one step of a running experiment. Raises UnknownRuleError for a rule of another version."""
    inputs = _MeansInputs(
        policy=policy, share=serving.share, active=active, candidate=candidate, last_step_at=last_step
    )
    return _rollout(serving, policy.rule, msgspec.to_builtins(inputs), actor="controller")


def move_to(serving: Serving, share: float, *, reason: str, actor: str) -> Rollout:
    """Somebody's word: set the candidate's share; 0 rolls it back, 1 promotes it."""
    inputs = _ManualInputs(share=serving.share, asked=share, reason=reason)
    return _rollout(serving, "manual", msgspec.to_builtins(inputs), actor=actor)


def replay(decision: Decision) -> Move:
    """Decide again from what is stored. Raises UnknownRuleError for a rule, or a version of it, that is not here."""
    rule = _rule(decision.rule)
    if decision.rule_version != rule.version:
        known = tuple(f"{name} version {here.version}" for name, here in RULES.items())
        raise UnknownRuleError(f"{decision.rule} version {decision.rule_version}", known)
    return rule.move(decision.inputs)


def last_step_at(newest: Decision | None) -> datetime | None:
    """When the share last moved, from the newest decision of the experiment; None if it never did."""
    if newest is None or newest.verdict == "open":
        return None
    if newest.verdict != "hold" or "last_step_at" not in newest.inputs:
        return newest.at
    return msgspec.convert(newest.inputs["last_step_at"], datetime | None)


def _rollout(serving: Serving, rule: str, inputs: JsonObject, *, actor: str) -> Rollout:
    if serving.experiment_id is None:
        raise ValueError(f"Agent '{serving.agent_id}' has no experiment to decide on.")
    move = _rule(rule).move(inputs)
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
        rule_version=_rule(rule).version,
        actor=actor,
    )


def _rule(name: str) -> Rule:
    if name not in RULES:
        raise UnknownRuleError(name, tuple(RULES))
    return RULES[name]


def _manual(inputs: JsonObject) -> Move:
    seen = msgspec.convert(inputs, _ManualInputs)
    return _toward(seen.share, seen.asked, seen.reason, {})


def _means(inputs: JsonObject) -> Move:
    """The specification's rule: the better plain mean gains a step; a tie, or nothing new, holds."""
    seen = msgspec.convert(inputs, _MeansInputs)
    means = compare_means(seen.active, seen.candidate)
    evidence = asdict(means)
    better = better_mean(means.active_mean, means.candidate_mean, means.candidate_count, seen.policy.min_interactions)
    if better is None:
        return _toward(seen.share, seen.share, _undecided(seen, means), evidence)
    if not _something_new(seen):
        return _toward(seen.share, seen.share, "Nobody has given feedback since the last step.", evidence)
    step = seen.policy.step if better == "candidate" else -seen.policy.step
    return _toward(seen.share, seen.share + step, _comparison(seen, means), evidence)


def _toward(before: float, after: float, reason: str, evidence: JsonObject) -> Move:
    """Name the move from one share to another; reaching 0 or 1 ends the experiment, staying there does not move."""
    if after == before and 0 < after < 1:  # whatever its decimals: rounding would make it a move
        return Move(verdict="hold", share_after=before, reason=reason, evidence=evidence)
    after = min(1.0, max(0.0, round(after, DIGITS)))
    verdict: Verdict = "step_up" if after > before else "step_down"
    outcome: ExperimentOutcome | None = None
    if after == 1.0:
        verdict, outcome = "promote", "promoted"
    elif after == 0.0:
        verdict, outcome = "roll_back", "rolled_back"
    elif after == before:
        verdict = "hold"
    return Move(verdict=verdict, share_after=after, outcome=outcome, reason=reason, evidence=evidence)


def _something_new(seen: _MeansInputs) -> bool:
    times = [at for at in (seen.active.last_feedback_at, seen.candidate.last_feedback_at) if at is not None]
    return seen.last_step_at is None or max(times, default=seen.last_step_at) > seen.last_step_at


def _undecided(seen: _MeansInputs, means: MeansEvidence) -> str:
    name = f"Candidate {seen.candidate.prompt_id}"
    if means.candidate_count < seen.policy.min_interactions:
        return f"{name} has {means.candidate_count} of the {seen.policy.min_interactions} interactions it needs."
    if means.candidate_mean is None:
        return f"{name} has no feedback yet."
    if means.active_mean is None:
        return f"Active prompt {seen.active.prompt_id} has no feedback to compare with."
    return f"{name} and active prompt {seen.active.prompt_id} tie at {means.candidate_mean:.3f}."


def _comparison(seen: _MeansInputs, means: MeansEvidence) -> str:
    return (
        f"Candidate {seen.candidate.prompt_id} scores {means.candidate_mean:.3f} on {means.candidate_rated} rated of "
        f"{means.candidate_count}, active prompt {seen.active.prompt_id} {means.active_mean:.3f} on "
        f"{means.active_rated} of {means.active_count}."
    )


RULES: dict[str, Rule] = {"means": Rule(_means, version=1), "manual": Rule(_manual, version=1)}
