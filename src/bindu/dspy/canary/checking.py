"""Is the log the whole truth? Evidence is rebuilt from it, and every decision is taken again."""

from __future__ import annotations

from dataclasses import dataclass, fields

import msgspec

from bindu.dspy.canary.looking import evidence_of
from bindu.dspy.decision import policy_of, replay
from bindu.dspy.errors import NoExperimentError, UnknownDecisionError, UnknownRuleError
from bindu.dspy.evidence import Evidence, Standing, Window, fold, start_after_win
from bindu.dspy.models import Decision, Experiment
from bindu.dspy.rules.base import Move
from bindu.dspy.rules.evidence import winning_log
from bindu.dspy.storage import Storage, agent_named, get_storage
from bindu.dspy.units import CountedUnit
from bindu.dspy.windows import is_edited, windows_of

__all__ = ["Check", "Explanation", "check_experiment", "explain_decision"]

ALL_DECISIONS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision and what its rule makes of the stored inputs today."""

    decision: Decision
    replayed: Move | None  # None when the rule, or this version of it, is not here
    same: bool | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was compared, and every difference in words."""

    agent_id: str
    experiment_id: int
    windows: int
    units: int
    decisions: int
    edited: int  # units whose feedback changed after they had counted: shown, never tested again
    without_votes: int  # of them, those whose votes are all gone: pruned, erased or deleted
    crossed: int  # units that both prompts have served: each counts for the arm that it came to first
    differences: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The finding, for people."""
        what = (
            f"Experiment {self.experiment_id}: {self.units} units in {self.windows} windows, {self.decisions} decisions"
        )
        shown = f"; {self.edited} units were edited after they had counted" if self.edited else ""
        shown += f", {self.without_votes} of them have no votes any more" if self.without_votes else ""
        shown += f"; {self.crossed} units were served by both prompts" if self.crossed else ""
        if not self.differences:
            return f"{what}: all agree with the log{shown}."
        return f"{what}: {len(self.differences)} differences{shown}. {' '.join(self.differences)}"


async def explain_decision(decision_id: int, *, agent_id: str | None = None) -> Explanation:
    """Take a decision again from its stored inputs. Raises UnknownDecisionError."""
    storage, agent = await get_storage(), agent_named(agent_id)
    decision = await storage.decision(agent, decision_id)
    if decision is None:
        raise UnknownDecisionError(agent, decision_id)
    if decision.verdict == "open":
        return Explanation(decision=decision, replayed=None, same=None, sentence=decision.reason)
    try:
        again = replay(decision)
    except UnknownRuleError as error:
        return Explanation(decision=decision, replayed=None, same=None, sentence=str(error))
    same = _is_same(decision, again)
    verdict = "gives the same verdict" if same else f"now gives {again.verdict} to {again.share_after:.0%}"
    sentence = (
        f"Decision {decision_id}: {decision.verdict}, candidate's traffic {decision.share_before:.0%} -> "
        f"{decision.share_after:.0%}. {decision.reason} Taken again from the stored inputs it {verdict}."
    )
    return Explanation(decision=decision, replayed=again, same=same, sentence=sentence)


async def check_experiment(*, agent_id: str | None = None, experiment_id: int | None = None) -> Check:
    """Rebuild an experiment's evidence (the newest one's) from its units and replay all its decisions."""
    storage, agent = await get_storage(), agent_named(agent_id)
    experiment = await _experiment(storage, agent, experiment_id)
    by_evidence = experiment.policy.get("rule") == "evidence"
    stored = await evidence_of(storage, experiment) if by_evidence else Evidence()
    counted = await _counted(storage, experiment, through=stored.window)
    votes = await storage.counted_votes(agent, experiment.id)
    # read after the evidence: what a controller adds meanwhile is in later windows, which are left out
    decisions = await storage.decisions(agent, experiment_id=experiment.id, limit=ALL_DECISIONS)
    differences = [*_gaps(decisions), *(text for one in decisions if (text := _difference(one)) is not None)]
    if by_evidence:
        again = await _rebuilt(storage, experiment, decisions, counted, through=stored.window)
        differences += [
            f"The stored {item.name.replace('_', ' ')} is not what the log gives."
            for item in fields(Evidence)
            if getattr(stored, item.name) != getattr(again, item.name)
        ]
    return Check(
        agent_id=agent,
        experiment_id=experiment.id,
        windows=stored.window,
        units=len(counted),
        decisions=len(decisions),
        edited=sum(is_edited(unit, votes.get(unit.unit_id, ())) for unit in counted),
        without_votes=sum(unit.score is not None and unit.unit_id not in votes for unit in counted),
        crossed=await storage.crossed_units(agent, experiment.id),
        differences=tuple(differences),
    )


async def _counted(storage: Storage, experiment: Experiment, *, through: int) -> list[CountedUnit]:
    units = await storage.counted_units(experiment.agent_id, experiment.id)
    return [unit for unit in units if unit.window <= through]


async def _rebuilt(
    storage: Storage, experiment: Experiment, decisions: list[Decision], counted: list[CountedUnit], *, through: int
) -> Evidence:
    """The evidence after a window, from the units that the log holds."""
    policy = policy_of(experiment.policy)
    shares = {change.epoch: change.share for change in await storage.share_changes(experiment.agent_id, experiment.id)}
    requests = await storage.first_requests(experiment.agent_id, experiment.id)
    firsts = [first for first in requests if first.window is not None and first.window <= through]
    won = [decision for decision in decisions if decision.verdict == "won"]
    wins = {
        decision.closed_window: winning_log(msgspec.convert(decision.evidence, Standing), policy)
        for decision in won
        if decision.closed_window is not None
    }
    held = {window.number: window for window in windows_of(firsts, counted, shares, policy)}
    evidence = Evidence()
    for number in sorted(number for number in {*held, *wins, through} if 0 < number <= through):
        evidence = fold(evidence, held.get(number, Window(number)), policy)
        if number in wins:
            evidence = start_after_win(evidence, wins[number])
    return evidence


def _gaps(decisions: list[Decision]) -> list[str]:
    """Decisions that the log has lost: an experiment's count up from 0 without a gap."""
    there = {decision.window for decision in decisions}
    return [
        f"Its decision number {number} is missing." for number in range(max(there, default=-1)) if number not in there
    ]


def _difference(decision: Decision) -> str | None:
    if decision.verdict == "open":
        return None
    try:
        again = replay(decision)
    except UnknownRuleError:
        return None  # of a version that is not here: explain says so
    if _is_same(decision, again):
        return None
    return f"Decision {decision.id} said {decision.verdict}, its inputs give {again.verdict}."


def _is_same(decision: Decision, again: Move) -> bool:
    """Whether verdict, share, outcome and every number are the same; words may have been improved."""
    return (again.verdict, again.share_after, again.evidence) == (
        decision.verdict,
        decision.share_after,
        decision.evidence,
    )


async def _experiment(storage: Storage, agent_id: str, experiment_id: int | None) -> Experiment:
    if experiment_id is not None:
        found = await storage.experiment(agent_id, experiment_id)
    else:
        newest = await storage.experiments(agent_id, limit=1)
        found = newest[0] if newest else None
    if found is None:
        raise NoExperimentError(agent_id)
    return found
