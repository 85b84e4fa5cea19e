"""One simulated experiment, decided through the very functions that the controller calls."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import inf
from typing import NamedTuple
from uuid import UUID

import numpy as np
from canary_world import Batch, Stream, World

from bindu.dspy.decision import inputs_at
from bindu.dspy.evidence import Evidence, Share, Stratum, Window, fold, start_after_win, threshold
from bindu.dspy.models import Prompt, Serving
from bindu.dspy.policy import Policy
from bindu.dspy.rules.base import Move
from bindu.dspy.rules.evidence import EvidenceInputs, StratumCount, decide, is_winning, winning_log
from bindu.dspy.units import Arrivals, CountedUnit, RatedUnit, TimedVote
from bindu.dspy.windows import close, without_heaviest

__all__ = ["POLICY", "Result", "Vote", "Votes", "evidence_rule"]

POLICY = Policy(slow_ms=1_000.0)
MOST_DAYS = 21  # a win shortly before the timeout is carried to its end
PROMPTS = [Prompt(agent_id="bench", id=n, text="You help.", status="active", traffic=0.5) for n in (1, 2)]
SERVING = Serving(
    agent_id="bench", version=1, active=PROMPTS[0], candidate=PROMPTS[1], share=0.1, experiment_id=1, epoch=1
)
START = datetime(2026, 1, 1, tzinfo=UTC)
TASK = UUID(int=0)


class Result(NamedTuple):
    """How an experiment went."""

    outcome: str  # promoted, rolled_back, inconclusive, asked (left to a person) or open
    cause: str
    won: bool
    hours: float
    feedback: int  # units counted until the win, or until the end without one
    estimate: float  # of the difference, at the end


class Vote(NamedTuple):
    """A unit's feedback; votes are ordered by key, which knows nothing."""

    key: float
    kind: str
    epoch: int
    candidate: bool
    score: float
    rater: int
    at: float  # hours


@dataclass(slots=True)
class Votes:
    """Feedback that was drawn and is not given yet, by the window in which it will be."""

    window_hours: int
    later: defaultdict[int, list[Vote]] = field(default_factory=lambda: defaultdict(list))

    def add(self, batch: Batch, share: float, epoch: int, *, after_win: bool = False) -> None:
        """Take in a window's units by the arms that the share gives them."""
        chosen = batch.place < share
        row, columns = chosen * (2 if after_win else 1), range(len(chosen))
        scores, times = batch.scores[row, columns].tolist(), batch.rated_at[row, columns].tolist()
        for key, thumbs, candidate, score, rater, at in zip(
            batch.key.tolist(), batch.thumbs.tolist(), chosen.tolist(), scores, batch.rater.tolist(), times, strict=True
        ):
            if at != inf:
                kind = "thumbs_up" if thumbs else "rating"
                self.later[int(at // self.window_hours) + 1].append(Vote(key, kind, epoch, candidate, score, rater, at))

    def of(self, window: int) -> list[Vote]:
        """Those given in it, in order."""
        return sorted(self.later.pop(window, []))


@dataclass(slots=True)
class Experiment:
    """The state that the controller keeps, and what the bench needs beside it."""

    world: World
    policy: Policy
    rater_rule: bool
    votes: Votes
    evidence: Evidence = field(default_factory=Evidence)
    serving: Serving = SERVING
    step_hours: float = 0.0
    feedback: int = 0
    shares: dict[int, float] = field(default_factory=lambda: {SERVING.epoch: SERVING.share})
    counted: list[CountedUnit] = field(default_factory=list)
    rested: dict[str, datetime] = field(default_factory=dict)  # rater -> when they counted last

    def look(self, batch: Batch) -> tuple[EvidenceInputs, Move]:
        """Close a window and decide, as ``bindu.dspy.canary.looking`` does with a database."""
        won = self.evidence.won_window is not None
        self.votes.add(batch, self.serving.share, self.serving.epoch, after_win=won)
        number = self.evidence.window + 1
        strata = self._by_raters(number) if self.rater_rule else _strata(self.votes.of(number))
        firsts, assigned = self._first_requests(batch)
        self.evidence = fold(self.evidence, Window(number, strata, firsts, (assigned,)), self.policy, with_band=False)
        if not won:
            self.feedback += sum(len(stratum.active) + len(stratum.candidate) for stratum in strata)
        counts = (StratumCount(number, s.kind, s.epoch, len(s.active), len(s.candidate)) for s in strata)
        inputs = inputs_at(
            self.evidence, self.policy, self.serving, paused=False, step_hours=self.step_hours, strata=counts
        )
        if self.rater_rule and (won or is_winning(inputs.standing, self.policy, inputs.age_hours)):
            inputs = replace(inputs, without_heaviest=without_heaviest(self.counted, self.shares, self.policy))
        return inputs, decide(inputs)

    def apply(self, inputs: EvidenceInputs, move: Move) -> None:
        """Latch a win, begin a share epoch."""
        if move.verdict == "won":
            self.evidence = start_after_win(self.evidence, winning_log(inputs.standing, self.policy))
        if move.share_after != self.serving.share:
            self.serving = replace(self.serving, share=move.share_after, epoch=self.serving.epoch + 1)
            self.shares[self.serving.epoch] = move.share_after
            self.step_hours = inputs.age_hours

    def _first_requests(self, batch: Batch) -> tuple[tuple[Stratum, ...], Share]:
        """Guardrail values and assignment counts: units with feedback stand first in the guards' rows."""
        share, epoch = self.serving.share, self.serving.epoch
        chosen = np.concatenate([batch.place, batch.other_places]) < share
        firsts = tuple(
            Stratum(name, epoch, tuple(values[~chosen].tolist()), tuple(values[chosen].tolist()))
            for name, values in batch.guards.items()
        )
        candidate = int(chosen.sum())
        return firsts, Share(epoch, share, len(chosen) - candidate, candidate)

    def _by_raters(self, number: int) -> tuple[Stratum, ...]:
        """The strata as production counts them: one unit per rater and day."""
        rated = tuple(_rated(vote) for vote in self.votes.of(number))
        closed = close(
            Arrivals(rated=rated, last_counted=self.rested),
            self.shares,
            self.policy,
            started_at=START,
            after=number - 1,
            through=number,
        )
        self.counted += closed.counted
        self.rested |= {u.rater_id: u.rated_at for u in closed.counted if u.rater_id and u.score is not None}
        return tuple(stratum for window in closed.windows for stratum in window.scores)


def evidence_rule(world: World, seeds: tuple[int, ...], policy: Policy = POLICY, *, rater_rule: bool = False) -> Result:
    """Run an experiment to its end."""
    stream = Stream(world, seeds)
    policy = replace(policy, window_hours=world.window_hours)
    experiment = Experiment(world, policy, rater_rule, Votes(world.window_hours))
    while True:
        inputs, move = experiment.look(stream.window())
        experiment.apply(inputs, move)
        asked = move.verdict == "ask"
        for_good = asked and inputs.feedback_alarm  # latched: no later window will change it
        if move.outcome is not None or for_good or inputs.age_hours >= 24 * MOST_DAYS:
            return Result(
                outcome="asked" if asked else move.outcome or "open",
                cause=_cause(inputs, move),
                won=experiment.evidence.won_window is not None,
                hours=inputs.age_hours,
                feedback=experiment.feedback,
                estimate=inputs.standing.estimate or 0.0,
            )


def _strata(votes: list[Vote]) -> tuple[Stratum, ...]:
    scores: dict[tuple[str, int], tuple[list[float], list[float]]] = {}
    for vote in votes:
        scores.setdefault((vote.kind, vote.epoch), ([], []))[vote.candidate].append(vote.score)
    return tuple(
        Stratum(kind, epoch, tuple(active), tuple(candidate)) for (kind, epoch), (active, candidate) in scores.items()
    )


def _rated(vote: Vote) -> RatedUnit:
    at = START + timedelta(hours=vote.at)
    rater = f"account {vote.rater}" if vote.rater >= 0 else f"somebody {vote.key}"
    stored = vote.score if vote.kind == "thumbs_up" else (4 * vote.score + 1) / 5
    return RatedUnit(
        unit_id=f"unit {vote.key}",
        arm="candidate" if vote.candidate else "active",
        epoch=vote.epoch,
        first_at=START,
        rated_at=at,
        votes=(TimedVote(task_id=TASK, rater_id=rater, kind=vote.kind, score=stored, at=at),),
    )


def _cause(inputs: EvidenceInputs, move: Move) -> str:
    """Which test decided, in the order of the rule."""
    seen, policy = inputs.standing, inputs.policy
    if move.outcome in (None, "promoted"):
        return "win"
    if seen.mismatch >= threshold(policy.alpha_mismatch):
        return "mismatch"
    if any(value >= threshold(policy.alpha_guard / len(seen.guards)) for value in seen.guards.values()):
        return "guardrail"
    if seen.harm >= threshold(policy.alpha_harm):
        return "harm"
    if move.outcome == "rolled_back":
        return "harm after win"
    return "futility" if seen.futility >= threshold(policy.alpha_futility) else "timeout"
