"""One step of the rollout: read, decide, apply once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from math import isclose
from typing import Any, Literal

from bindu.dspy.arguments import checked_time
from bindu.dspy.decision import Policy, decide, last_step_at, move_to, policy_of
from bindu.dspy.errors import InvalidArgumentError, StaleRolloutError
from bindu.dspy.evidence import better_mean
from bindu.dspy.models import DIGITS, Decision, Experiment, Rollout, Serving
from bindu.dspy.storage import Storage, agent_named, get_storage
from bindu.utils.logging import get_logger

__all__ = [
    "MIN_INTERACTIONS_THRESHOLD",
    "TRAFFIC_STEP",
    "compare_metrics",
    "policy_now",
    "promote_step",
    "rollback_step",
    "run_canary_controller",
    "run_step",
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


async def run_step(*, agent_id: str | None = None, now: datetime | None = None) -> Decision | None:
    """Decide and apply one step; return the logged decision, None when no experiment runs.

    Raises StaleRolloutError when somebody else moved the traffic first, and UnknownRuleError.
    """
    at = checked_time(now)
    storage, agent = await get_storage(), agent_named(agent_id)
    serving = await storage.serving(agent)
    if serving is None or serving.candidate is None:
        logger.info("Agent '%s' has no candidate on trial: nothing to decide", agent)
        return None
    rollout = await _decided(storage, serving, serving.candidate.id, at)
    decision = await storage.apply(rollout, now=at)
    logger.info(
        "Agent '%s': %s, candidate at %.0f%% of traffic. %s",
        agent,
        decision.verdict,
        100 * decision.share_after,
        decision.reason,
    )
    return decision


def policy_now(experiment: Experiment | None) -> Policy:
    """What a step taken by this process would go by: numbers that the experiment leaves open are today's constants."""
    frozen = {} if experiment is None else experiment.policy
    return policy_of(frozen, min_interactions=MIN_INTERACTIONS_THRESHOLD, step=TRAFFIC_STEP)


async def _decided(storage: Storage, serving: Serving, candidate_id: int, now: datetime | None) -> Rollout:
    agent, active_id, experiment_id = serving.agent_id, serving.active.id, serving.experiment_id
    experiment = None if experiment_id is None else await storage.experiment(agent, experiment_id)
    metrics = await storage.prompt_metrics(agent, [active_id, candidate_id], now=now)
    newest = await storage.decisions(agent, experiment_id=experiment_id, limit=1)
    return decide(
        serving,
        metrics[active_id],
        metrics[candidate_id],
        policy_now(experiment),
        last_step=last_step_at(newest[0] if newest else None),
    )


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
    return await storage.apply(move_to(serving, serving.share + step, reason=reason, actor="controller"), now=at)


def _still_so(serving: Serving, active: dict[str, Any], candidate: dict[str, Any]) -> bool:
    if serving.candidate is None or (active["id"], candidate["id"]) != (serving.active.id, serving.candidate.id):
        return False
    return isclose(candidate.get("traffic", serving.share), serving.share, abs_tol=10**-DIGITS)
