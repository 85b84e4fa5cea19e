"""What people say about an experiment: each word is a row in the decision log, with who said it and why."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from bindu.dspy.arguments import checked_actor, checked_time
from bindu.dspy.decision import move_to, set_paused
from bindu.dspy.errors import InvalidArgumentError, NoExperimentError, StaleRolloutError
from bindu.dspy.models import Decision, Experiment, Rollout, Serving
from bindu.dspy.storage import agent_named, get_storage

__all__ = ["Verb", "carry_out", "ordered"]

Verb = Literal["pause", "resume", "abort", "promote", "rollback"]


async def ordered(
    verb: Verb,
    *,
    reason: str,
    actor: str = "person",
    agent_id: str | None = None,
    experiment_id: int | None = None,
) -> Rollout | None:
    """What a person's word means for the running experiment; None when it is so already.

    ``pause`` forbids that the share rises (evidence and stops run on), ``resume`` allows it again, ``abort`` ends the
    experiment without a judgement, ``rollback`` with one, ``promote`` makes the candidate active. Raises
    InvalidArgumentError without a reason, NoExperimentError when no candidate is on trial, StaleRolloutError when the
    one that is meant, ``experiment_id``, is not the running one any more.
    """
    why, who = _reason(reason), checked_actor(actor)
    serving, experiment = await _running(agent_named(agent_id), experiment_id)
    match verb:
        case "pause" | "resume":
            wanted = verb == "pause"
            return None if experiment.paused is wanted else set_paused(serving, verb, reason=why, actor=who)
        case "promote":
            return move_to(serving, 1.0, reason=why, actor=who)
        case "rollback":
            return move_to(serving, 0.0, reason=why, actor=who)
        case "abort":
            return move_to(serving, 0.0, reason=why, actor=who, ends="inconclusive")


async def carry_out(
    verb: Verb,
    *,
    reason: str,
    actor: str = "person",
    agent_id: str | None = None,
    experiment_id: int | None = None,
    now: datetime | None = None,
) -> Decision | None:
    """Do it and log it; None when it was so already. Raises what ``ordered`` raises, and StaleRolloutError."""
    at = checked_time(now)
    rollout = await ordered(verb, reason=reason, actor=actor, agent_id=agent_id, experiment_id=experiment_id)
    return None if rollout is None else await (await get_storage()).apply(rollout, now=at)


def _reason(reason: object) -> str:
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidArgumentError("Say why: the reason is kept with the decision, for whoever reads the log.")
    return reason.strip()


async def _running(agent_id: str, meant: int | None) -> tuple[Serving, Experiment]:
    storage = await get_storage()
    serving = await storage.serving(agent_id)
    if serving is None or serving.experiment_id is None:
        raise NoExperimentError(agent_id)
    if meant not in (None, serving.experiment_id):
        what = f"Not experiment {meant} but {serving.experiment_id} is running for agent '{agent_id}' by now"
        raise StaleRolloutError(agent_id, what)
    experiment = await storage.experiment(agent_id, serving.experiment_id)
    if experiment is None:
        raise NoExperimentError(agent_id)
    return serving, experiment
