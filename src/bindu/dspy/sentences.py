"""The verdict for people: one sentence per state that an agent can be in."""

from __future__ import annotations

from typing import Final

from bindu.dspy.errors import HOW_ENDED
from bindu.dspy.evidence import Standing
from bindu.dspy.models import Experiment
from bindu.dspy.policy import Policy
from bindu.dspy.reports import PromptReport, TrialReport
from bindu.dspy.rules.means import better_mean, compare_means

__all__ = ["caution", "difference_of", "ending_sentence", "means_sentence", "no_prompt_sentence", "trial_sentence"]

# Of the means rule, in simulation
IDENTICAL_PROMOTED: Final = 0.22  # share of identical prompts that it promotes
WORSE_AMONG_PROMOTED: Final = 0.26  # share of its promotions that are worse

PAUSED: Final = "paused, so its share does not rise"
LEVEL: Final = 0.0005  # differences that three decimals show as none


def caution(policy: Policy) -> str | None:
    """What to know about a rule before trusting it."""
    if policy.rule != "means":
        return None
    return (
        f"The means rule knows no uncertainty: in simulation it promoted {_percent(IDENTICAL_PROMOTED)} of identical "
        f"prompts, and {_percent(WORSE_AMONG_PROMOTED)} of what it promoted was worse."
    )


def no_prompt_sentence(agent_id: str) -> str:
    """Before bootstrap."""
    return f"Agent '{agent_id}' has no prompt yet: call bootstrap_prompt(text) or run 'bindu prompt add'."


def ending_sentence(active: PromptReport, experiment: Experiment | None) -> str:
    """While no candidate is on trial; ``experiment`` is the last one."""
    ended = ""
    if experiment is not None and experiment.outcome is not None:
        ended = f" The last candidate, prompt {experiment.candidate_id}, {HOW_ENDED[experiment.outcome]}."
    return f"Prompt {active.prompt.id} answers every request, {_rated(active)}.{ended}"


def means_sentence(
    active: PromptReport, candidate: PromptReport, share: float, policy: Policy, *, paused: bool = False
) -> str:
    """A candidate under the specification's rule."""
    traffic = f"it has {share:.0%} of traffic" + (f"; {PAUSED}" if paused else "")
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


def trial_sentence(candidate_id: int, trial: TrialReport, share: float, policy: Policy) -> str:
    """A candidate under the evidence rule."""
    name = f"{'Champion' if trial.champion else 'Candidate'} {candidate_id}"
    traffic = f"it has {share:.0%} of traffic"
    if trial.needs_person is not None:
        waits = "it waits until you say 'bindu canary promote' or 'bindu canary rollback'"
        return f"{trial.needs_person} {name}: {_measured(trial)}; {traffic}; {waits}."
    if trial.win is not None:
        head = f"{name} has won {'but is paused' if trial.paused else 'and is rising'}: {_measured(trial)}"
    elif trial.window == 0:
        head = f"Too early to say: no window of {name.lower()} has been closed yet"
    elif _is_early(trial, policy):
        rated = f"has {trial.candidate.rated} rated of {trial.candidate.units} units"
        head = f"Too early to say: {name.lower()} {rated}"
    else:
        head = f"{name} is {_word(trial.standing)}: {_measured(trial)}"
    paused = [PAUSED] if trial.paused and trial.win is None else []
    return "; ".join([head, traffic, *paused, *_time_left(trial)]) + "."


def difference_of(standing: Standing) -> str:
    """The estimated difference with its 95 % confidence sequence."""
    between = f"95 % {standing.low:+.2f} to {standing.high:+.2f}"
    return f"unknown ({between})" if standing.estimate is None else f"{standing.estimate:+.3f} ({between})"


def _measured(trial: TrialReport) -> str:
    rated, units = trial.active.rated + trial.candidate.rated, trial.active.units + trial.candidate.units
    return f"{difference_of(trial.standing)} on {rated} rated of {units} units"


def _is_early(trial: TrialReport, policy: Policy) -> bool:
    """Too little to name a side, unless the tests name one."""
    known = trial.standing
    if known.estimate is None:
        return True
    return trial.candidate.rated < policy.ramp_units and known.low <= 0 <= known.high


def _word(standing: Standing) -> str:
    """Better and worse are certain at 95 %, ahead and behind are not."""
    if standing.low > 0:
        return "better"
    if standing.high < 0:
        return "worse"
    if standing.estimate is None or abs(standing.estimate) < LEVEL:
        return "level"
    return "ahead" if standing.estimate > 0 else "behind"


def _time_left(trial: TrialReport) -> list[str]:
    """How long it will take; when that cannot be said, what it waits for or when it ends at the latest."""
    if trial.days_left:
        days = round(trial.days_left)
        return ["less than a day left" if days < 1 else "about a day left" if days == 1 else f"about {days} days left"]
    if trial.win is not None:  # no timeout any more
        missing = "until you say 'bindu canary resume'" if trial.paused else "for feedback on both prompts"
        return [f"it waits {missing}"]
    if trial.ends_at is None:
        return []
    late = "longer than planned, " if trial.days_left == 0 else ""
    return [f"{late}it ends undecided on {trial.ends_at:%Y-%m-%d} at the latest"]


def _rated(report: PromptReport) -> str:
    metrics = report.metrics
    if metrics.average_score is None:
        return f"not rated yet in {metrics.num_interactions} interactions"
    return f"rated {metrics.average_score:.3f} in {metrics.num_rated} of {metrics.num_interactions} interactions"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
