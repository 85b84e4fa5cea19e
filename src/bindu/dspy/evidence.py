"""What the scores of two prompts say about their difference."""

from __future__ import annotations

from dataclasses import dataclass

from bindu.dspy.models import DIGITS, Arm, PromptMetrics

__all__ = ["MeansEvidence", "better_mean", "compare_means"]


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
