"""The ordered decision on anytime-valid evidence, once per closed window.

Stops come before wins, a win before its steps, and only then the safety ramp. Nothing is ever promoted by missing
data, a crash or a timeout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import log
from typing import Final, Literal

import msgspec

from bindu.dspy.evidence import NOTHING_LEFT, Standing, e_value, threshold
from bindu.dspy.models import DIGITS, ExperimentOutcome, JsonObject
from bindu.dspy.policy import Policy
from bindu.dspy.rules.base import Move, toward

__all__ = ["EvidenceInputs", "StratumCount", "Win", "decide", "is_winning", "move", "winning_log"]

BELOW_ALL: Final = 1 - 10**-DIGITS  # the ramp never promotes, whatever share its policy names


@dataclass(frozen=True, slots=True)
class StratumCount:
    """How many units a stratum had, by arm."""

    window: int
    kind: str
    epoch: int
    active: int
    candidate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Win:
    """The window at whose end the win was latched, and the log e-value that it showed."""

    window: int
    log_e: float
    hours: float  # since then


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceInputs:
    """All that the rule looks at, at the end of a window; times in hours."""

    policy: Policy
    active_id: int
    candidate_id: int
    share: float
    paused: bool
    window: int
    age_hours: float
    hours_at_step: float  # since the share last changed, or since the start
    rated_at_step: int  # candidate units with feedback, first seen at the present share
    standing: Standing
    win: Win | None = None
    feedback_alarm: bool = False  # latched
    without_heaviest: float | None = None  # the estimate without the rater who counted most; None if not looked at
    strata: tuple[StratumCount, ...] = ()  # of the windows since the last decision


Check = Callable[[EvidenceInputs], Move | None]


def is_winning(standing: Standing, policy: Policy, age_hours: float) -> bool:
    """Whether the evidence is a win now, before anything that asks for a person."""
    return age_hours >= policy.min_age_hours and winning_log(standing, policy) >= threshold(policy.alpha_win)


def move(inputs: JsonObject) -> Move:
    """``decide`` on inputs as they are stored."""
    return decide(msgspec.convert(inputs, EvidenceInputs))


def decide(seen: EvidenceInputs) -> Move:
    """Take the first move that has a reason."""
    checks: tuple[Check, ...] = (_mismatched, _guarded, _harmful, _after_win, _winning, _futile, _timed_out)
    found = next((found for check in checks if (found := check(seen)) is not None), None)
    return found if found is not None else _ramp(seen)


def winning_log(standing: Standing, policy: Policy) -> float:
    """The log e-value that wins: of the goal that the policy names."""
    return standing.superiority if _winning_test(policy) == "superiority" else standing.non_inferiority


def _winning_test(policy: Policy) -> Literal["superiority", "non_inferiority"]:
    return "superiority" if policy.goal == "better" else "non_inferiority"


def _mismatched(seen: EvidenceInputs) -> Move | None:
    if seen.standing.mismatch < threshold(seen.policy.alpha_mismatch):
        return None
    reason = (
        f"The units were not assigned by the shares (Bayes factor {e_value(seen.standing.mismatch):.3g}): "
        "what was compared cannot be trusted. Look for requests that are lost or recorded twice in one arm."
    )
    return _end(seen, "inconclusive", reason)


def _guarded(seen: EvidenceInputs) -> Move | None:
    limit = threshold(seen.policy.alpha_guard / max(1, len(seen.standing.guards)))
    alarms = [name for name, value in seen.standing.guards.items() if value >= limit]
    if not alarms:
        return None
    what = {
        "error": "fails more often",
        "refusal": "refuses more often",
        "slow": "answers slowly more often",
        "cost": "costs more",
        "judge": "is judged worse",
    }
    return _end(
        seen, "rolled_back", f"{_name(seen)} {' and '.join(what[name] for name in alarms)} than the active prompt."
    )


def _harmful(seen: EvidenceInputs) -> Move | None:
    if seen.standing.harm < threshold(seen.policy.alpha_harm):
        return None
    return _end(seen, "rolled_back", f"{_name(seen)} is worse: {_difference(seen)}, {_against(seen, 'harm')}.")


def _after_win(seen: EvidenceInputs) -> Move | None:
    """The way up after a win, as long as no harm shows since."""
    if seen.win is None:
        return None
    harm = seen.standing.after_win or 0.0
    if harm >= threshold(seen.policy.alpha_after_win):
        return _end(seen, "rolled_back", f"{_name(seen)} won and is worse since: e-value of harm {e_value(harm):.3g}.")
    doubt = _doubt(seen)
    if doubt is not None:
        return replace(_stay(seen, doubt), verdict="ask")
    wait = _wait(seen, seen.win, harm)
    if wait is not None:
        return _stay(seen, f"{_name(seen)} has won; {wait}.")
    return _raise(seen, 1.0, f"{_name(seen)} has won and nothing speaks against it since.")


def _wait(seen: EvidenceInputs, win: Win, harm: float) -> str | None:
    """Why the next step after a win has to wait."""
    if win.hours < seen.policy.settle_hours:
        return f"its share rests for {seen.policy.settle_hours:g} hours"
    if harm >= log(seen.policy.settle_hold_at):
        return f"but scores have dipped since (e-value of harm {e_value(harm):.3g})"
    return None if _both_scored(seen) else "the next step needs new feedback on both prompts"


def _winning(seen: EvidenceInputs) -> Move | None:
    if not is_winning(seen.standing, seen.policy, seen.age_hours):
        return None
    doubt = _doubt(seen)
    if doubt is not None:
        return replace(_stay(seen, doubt), verdict="ask")
    better = "better" if seen.policy.goal == "better" else _not_worse(seen.policy)
    against = _against(seen, _winning_test(seen.policy))
    won = _stay(seen, f"{_name(seen)} is {better}: {_difference(seen)}, {against}.")
    return replace(won, verdict="won")


def _not_worse(policy: Policy) -> str:
    """With what is gained by it, for whoever asks why an equal prompt was promoted."""
    gain = " ".join(policy.stated_gain.split()).rstrip(".")
    return f"not worse by {policy.tolerance:.2f}" + (f" (what is gained: {gain})" if gain else "")


def _doubt(seen: EvidenceInputs) -> str | None:
    """Why a person must decide."""
    acceptable = 0.0 if seen.policy.goal == "better" else -seen.policy.tolerance
    if seen.feedback_alarm:
        return "Needs a person: the candidate changes how many users vote, so their votes cannot be compared."
    if seen.without_heaviest is not None and seen.without_heaviest <= acceptable:
        left = f"the difference is {seen.without_heaviest:+.3f}, no win"
        if seen.without_heaviest == NOTHING_LEFT:
            left = "nothing is left to compare"
        return f"Needs a person: without the rater who counts most {left}."
    return None


def _futile(seen: EvidenceInputs) -> Move | None:
    if seen.policy.goal != "better" or seen.standing.futility < threshold(seen.policy.alpha_futility):
        return None
    reason = (
        f"{_name(seen)} is not better by {seen.policy.gain:.2f}: {_difference(seen)}, {_against(seen, 'futility')}."
    )
    return _end(seen, "inconclusive", reason)


def _timed_out(seen: EvidenceInputs) -> Move | None:
    if seen.age_hours < seen.policy.timeout_hours:
        return None
    days = seen.age_hours / 24
    return _end(seen, "inconclusive", f"{_name(seen)} ended undecided after {days:.0f} days: {_difference(seen)}.")


def _ramp(seen: EvidenceInputs) -> Move:
    """More traffic for a candidate that does no visible harm, so that the answer comes sooner; less when it might."""
    policy, harm = seen.policy, seen.standing.harm
    if harm >= log(policy.back_at):
        least = min(seen.share, policy.floor_share)
        return toward(
            seen.share,
            max(least, seen.share - policy.step),
            f"Harm is possible: {_against(seen, 'harm')}.",
            _facts(seen),
        )
    if harm >= log(policy.hold_at):
        return _stay(seen, f"Harm is not ruled out: {_against(seen, 'harm')}.")
    most = min(policy.ramp_share, BELOW_ALL)
    if seen.share >= most:
        return _stay(seen, f"Not decided: {_difference(seen)}.")
    if seen.hours_at_step < policy.ramp_hours:
        return _stay(seen, f"The share rests for {policy.ramp_hours:g} hours before it rises.")
    if seen.rated_at_step < policy.ramp_units:
        return _stay(seen, f"{seen.rated_at_step} of the {policy.ramp_units} rated units that the next step needs.")
    return _raise(seen, most, "No harm is visible; more traffic brings the answer sooner.")


def _raise(seen: EvidenceInputs, most: float, reason: str) -> Move:
    if seen.paused:
        return _stay(seen, f"Paused: the share does not rise. {reason}")
    return toward(seen.share, min(most, seen.share + seen.policy.step), reason, _facts(seen))


def _stay(seen: EvidenceInputs, reason: str) -> Move:
    return toward(seen.share, seen.share, reason, _facts(seen))


def _end(seen: EvidenceInputs, outcome: ExperimentOutcome, reason: str) -> Move:
    return toward(seen.share, 0.0, reason, _facts(seen), ends=outcome)


def _both_scored(seen: EvidenceInputs) -> bool:
    return all(any(getattr(stratum, arm) for stratum in seen.strata) for arm in ("active", "candidate"))


def _facts(seen: EvidenceInputs) -> JsonObject:
    return asdict(seen.standing)


def _name(seen: EvidenceInputs) -> str:
    return f"Candidate {seen.candidate_id}"


def _difference(seen: EvidenceInputs) -> str:
    now = seen.standing
    if now.estimate is None:
        return "nothing could be compared yet"
    return f"{now.estimate:+.3f} (95 % {now.low:+.2f} to {now.high:+.2f})"


def _against(seen: EvidenceInputs, test: str) -> str:
    alphas = {
        "superiority": seen.policy.alpha_win,
        "non_inferiority": seen.policy.alpha_win,
        "harm": seen.policy.alpha_harm,
        "futility": seen.policy.alpha_futility,
    }
    return f"e-value {e_value(getattr(seen.standing, test)):.3g}, {1 / alphas[test]:.3g} decides"
