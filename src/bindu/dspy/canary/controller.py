"""One step of the rollout: read, decide, apply once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from math import isclose
from typing import TYPE_CHECKING, Any, Literal

from bindu.dspy.arguments import checked_time
from bindu.dspy.canary.champion import due_champion, open_champion_test
from bindu.dspy.canary.judging import judge_arrivals
from bindu.dspy.canary.looking import closes_at, evidence_of, look
from bindu.dspy.decision import by_means, last_step_at, move_to, policy_of
from bindu.dspy.errors import InvalidArgumentError, StaleRolloutError
from bindu.dspy.models import DIGITS, Decision, Experiment, Rollout, Serving
from bindu.dspy.policy import Policy
from bindu.dspy.rules.means import better_mean
from bindu.dspy.sentences import no_prompt_sentence
from bindu.dspy.storage import Storage, agent_named, get_storage
from bindu.dspy.units import Closing
from bindu.utils.logging import get_logger

if TYPE_CHECKING:
    from bindu.dspy.engine import InnerEngine

__all__ = [
    "MIN_INTERACTIONS_THRESHOLD",
    "TRAFFIC_STEP",
    "compare_metrics",
    "next_step",
    "policy_now",
    "promote_step",
    "rollback_step",
    "run_canary_controller",
    "run_step",
    "why_no_step",
]

MIN_INTERACTIONS_THRESHOLD = 20  # of the candidate, before its mean is looked at
TRAFFIC_STEP = 0.1  # of all traffic, per decision

logger = get_logger("bindu.dspy.canary.controller")


def compare_metrics(active: dict[str, Any], candidate: dict[str, Any]) -> Literal["active", "candidate", None]:
    """Who has the higher ``average_feedback_score``; None for a tie or too little data.

    Too little is a candidate with fewer than MIN_INTERACTIONS_THRESHOLD ``num_interactions``, or no score.
    """
    return better_mean(
        active.get("average_feedback_score"),
        candidate.get("average_feedback_score"),
        candidate.get("num_interactions") or 0,
        MIN_INTERACTIONS_THRESHOLD,
    )


async def promote_step(
    active: dict[str, Any], candidate: dict[str, Any], *, agent_id: str | None = None, now: datetime | None = None
) -> Decision:
    """Give the candidate TRAFFIC_STEP more of the traffic; at 100 % it becomes the active prompt.

    Raises StaleRolloutError when these two are no longer live or their traffic moved since they were read.
    """
    return await _step((active, candidate), TRAFFIC_STEP, "The candidate is better.", agent_id, now)


async def rollback_step(
    active: dict[str, Any], candidate: dict[str, Any], *, agent_id: str | None = None, now: datetime | None = None
) -> Decision:
    """Take TRAFFIC_STEP of the traffic from the candidate; at 0 % it is rolled back.

    Raises StaleRolloutError when these two are no longer live or their traffic moved since they were read.
    """
    return await _step((active, candidate), -TRAFFIC_STEP, "The active prompt is better.", agent_id, now)


async def run_canary_controller(*, agent_id: str | None = None, now: datetime | None = None) -> None:
    """Run one iteration of the controller: compare, move traffic by at most one step, log it.

    Of several controllers at once one steps; the others log that they came late.
    """
    try:
        await run_step(agent_id=agent_id, now=now)
    except StaleRolloutError as error:
        logger.warning("%s", error)


async def run_step(
    *, agent_id: str | None = None, engine: InnerEngine | None = None, now: datetime | None = None
) -> Decision | None:
    """Decide and apply one step; return the logged decision, None when there is nothing to decide (yet).

    Without a candidate on trial the champion may be due to come back: then the decision is that its experiment opens.
    Where a judge is wanted it is asked first, ``engine`` instead of the model that the settings name. Raises
    StaleRolloutError when somebody else moved the traffic first, and UnknownRuleError.
    """
    storage, agent, at = await get_storage(), agent_named(agent_id), checked_time(now)
    decided = await _decided(storage, agent, at)
    if decided is not None and await judge_arrivals(storage, *decided, engine=engine):
        decided = await _decided(storage, agent, at)
    if decided is None:
        opened = await open_champion_test(agent, at or await storage.now())
        return None if opened is None else (await storage.decisions(agent, experiment_id=opened.id, limit=1))[0]
    rollout, closing = decided
    decision = await storage.apply(rollout, closing=closing, now=at)
    share = 100 * decision.share_after
    logger.info(
        "Agent '%s': %s, candidate at %.0f%% of traffic. %s",
        decision.agent_id,
        decision.verdict,
        share,
        decision.reason,
    )
    return decision


async def next_step(*, agent_id: str | None = None, now: datetime | None = None) -> Rollout | None:
    """What ``run_step`` would do now, without doing it and without asking the judge.

    None also when a champion would come back: nothing is on trial yet that a rollout could move.
    """
    decided = await _decided(await get_storage(), agent_named(agent_id), checked_time(now))
    return None if decided is None else decided[0]


async def why_no_step(*, agent_id: str | None = None, now: datetime | None = None) -> str:
    """A sentence on what ``run_step`` waits for when it has no rollout to apply."""
    storage, agent, at = await get_storage(), agent_named(agent_id), checked_time(now)
    serving = await storage.serving(agent)
    if serving is None:
        return no_prompt_sentence(agent)
    running = serving.experiment_id
    experiment = None if running is None else await storage.experiment(agent, running)
    if experiment is None:
        due = await due_champion(agent, at or await storage.now())
        if due is not None:
            return f"No candidate is on trial; prompt {due[1].id}, the champion, is due: the next run puts it on trial."
        return "No candidate is on trial: nothing to do."
    when = closes_at(experiment, await evidence_of(storage, experiment))
    return f"The next window closes at {when:%Y-%m-%d %H:%M %Z}: nothing to decide until then."


def policy_now(experiment: Experiment | None) -> Policy:
    """What a step taken by this process would go by: numbers that the means rule leaves open are today's constants.

    Raises UnknownRuleError when the experiment has a rule, or a version of it, that is not here.
    """
    frozen = {} if experiment is None else experiment.policy
    return policy_of(frozen, min_interactions=MIN_INTERACTIONS_THRESHOLD, step=TRAFFIC_STEP)


async def _decided(storage: Storage, agent_id: str, at: datetime | None) -> tuple[Rollout, Closing | None] | None:
    serving = await storage.serving(agent_id)
    if serving is None or serving.candidate is None or serving.experiment_id is None:
        logger.info("Agent '%s' has no candidate on trial: nothing to decide", agent_id)
        return None
    experiment = await storage.experiment(agent_id, serving.experiment_id)
    policy = policy_now(experiment)
    if experiment is None or policy.rule == "means":
        paused = experiment is not None and experiment.paused
        last = last_step_at(await storage.share_changes(agent_id, serving.experiment_id))
        rollout = await _by_means(
            storage, serving, serving.candidate.id, policy=policy, last_step=last, paused=paused, now=at
        )
        return rollout, None
    found = await look(storage, serving, experiment, at or await storage.now())
    return None if found is None else (found.rollout, found.closing)


async def _by_means(
    storage: Storage,
    serving: Serving,
    candidate_id: int,
    *,
    policy: Policy,
    last_step: datetime | None,
    paused: bool,
    now: datetime | None,
) -> Rollout:
    active_id = serving.active.id
    metrics = await storage.prompt_metrics(serving.agent_id, [active_id, candidate_id], now=now)
    return by_means(serving, metrics[active_id], metrics[candidate_id], policy, last_step=last_step, paused=paused)


async def _step(
    pair: tuple[dict[str, Any], dict[str, Any]], step: float, reason: str, agent_id: str | None, now: datetime | None
) -> Decision:
    at = checked_time(now)
    if not all(isinstance(prompt, Mapping) and "id" in prompt for prompt in pair):
        raise InvalidArgumentError("A step takes what get_active_prompt() and get_candidate_prompt() return, in order.")
    storage, agent = await get_storage(), agent_named(agent_id)
    serving = await storage.serving(agent)
    if serving is None or not _still_so(serving, *pair):
        raise StaleRolloutError(agent)
    return await storage.apply(move_to(serving, serving.share + step, reason=reason, actor="script"), now=at)


def _still_so(serving: Serving, active: dict[str, Any], candidate: dict[str, Any]) -> bool:
    if serving.candidate is None or (active["id"], candidate["id"]) != (serving.active.id, serving.candidate.id):
        return False
    return isclose(candidate.get("traffic", serving.share), serving.share, abs_tol=10**-DIGITS)
