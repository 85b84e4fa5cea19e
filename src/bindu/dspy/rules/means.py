"""The specification's rule: the better plain mean gains a step; a tie, or nothing new, holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import msgspec

from bindu.dspy.models import DIGITS, Arm, JsonObject, PromptMetrics
from bindu.dspy.policy import Policy
from bindu.dspy.rules.base import Move, toward

__all__ = ["MeansEvidence", "MeansInputs", "better_mean", "compare_means", "move"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeansInputs:
    """Two lifetime means and when the share last moved."""

    policy: Policy
    share: float
    active: PromptMetrics
    candidate: PromptMetrics
    last_step_at: datetime | None
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MeansEvidence:
    """Two plain means, their counts and their difference (candidate minus active; None until both have a score)."""

    active_count: int
    active_rated: int
    active_mean: float | None
    candidate_count: int
    candidate_rated: int
    candidate_mean: float | None
    difference: float | None


def compare_means(active: PromptMetrics, candidate: PromptMetrics) -> MeansEvidence:
    """Put two prompts' metrics side by side."""
    means = active.average_score, candidate.average_score
    return MeansEvidence(
        active_count=active.num_interactions,
        active_rated=active.num_rated,
        active_mean=means[0],
        candidate_count=candidate.num_interactions,
        candidate_rated=candidate.num_rated,
        candidate_mean=means[1],
        difference=None if means[0] is None or means[1] is None else round(means[1] - means[0], DIGITS),
    )


def better_mean(
    active_mean: float | None, candidate_mean: float | None, candidate_count: int, min_interactions: int
) -> Arm | None:
    """The arm with the higher mean; None on a tie, without scores, or below ``min_interactions`` of the candidate."""
    if candidate_count < min_interactions or active_mean is None or candidate_mean is None:
        return None
    difference = round(candidate_mean - active_mean, DIGITS)
    if difference == 0:
        return None
    return "candidate" if difference > 0 else "active"


def move(inputs: JsonObject) -> Move:
    """One step towards the better mean."""
    seen = msgspec.convert(inputs, MeansInputs)
    means = compare_means(seen.active, seen.candidate)
    evidence = asdict(means)
    better = better_mean(means.active_mean, means.candidate_mean, means.candidate_count, seen.policy.min_interactions)
    if better is None:
        return toward(seen.share, seen.share, _undecided(seen, means), evidence)
    if not _something_new(seen):
        return toward(seen.share, seen.share, "Nobody has given feedback since the last step.", evidence)
    reason = _comparison(seen, means)
    if better == "active":
        return toward(seen.share, seen.share - seen.policy.step, reason, evidence)
    if seen.paused:
        return toward(seen.share, seen.share, f"Paused: the share does not rise. {reason}", evidence)
    return toward(seen.share, seen.share + seen.policy.step, reason, evidence)


def _something_new(seen: MeansInputs) -> bool:
    times = [at for at in (seen.active.last_feedback_at, seen.candidate.last_feedback_at) if at is not None]
    return seen.last_step_at is None or max(times, default=seen.last_step_at) > seen.last_step_at


def _undecided(seen: MeansInputs, means: MeansEvidence) -> str:
    name = f"Candidate {seen.candidate.prompt_id}"
    if means.candidate_count < seen.policy.min_interactions:
        return f"{name} has {means.candidate_count} of the {seen.policy.min_interactions} interactions it needs."
    if means.candidate_mean is None:
        return f"{name} has no feedback yet."
    if means.active_mean is None:
        return f"Active prompt {seen.active.prompt_id} has no feedback to compare with."
    return f"{name} and active prompt {seen.active.prompt_id} tie at {means.candidate_mean:.3f}."


def _comparison(seen: MeansInputs, means: MeansEvidence) -> str:
    return (
        f"Candidate {seen.candidate.prompt_id} scores {means.candidate_mean:.3f} on {means.candidate_rated} rated of "
        f"{means.candidate_count}, active prompt {seen.active.prompt_id} {means.active_mean:.3f} on "
        f"{means.active_rated} of {means.active_count}."
    )
