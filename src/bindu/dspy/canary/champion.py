"""Put the pinned champion on trial against the active prompt, when it is time."""

from __future__ import annotations

from datetime import datetime

from bindu.dspy.champion import ORIGIN, champion_due
from bindu.dspy.errors import ExperimentActiveError, StaleRolloutError
from bindu.dspy.models import Experiment, Prompt, Serving, Trial
from bindu.dspy.opening import told_at_opening, trial_policy
from bindu.dspy.storage import get_storage
from bindu.settings import app_settings
from bindu.utils.logging import get_logger

__all__ = ["due_champion", "open_champion_test"]

ALL = 1_000_000  # experiments: more than an agent can have

logger = get_logger("bindu.dspy.canary.champion")


async def due_champion(agent_id: str, now: datetime) -> tuple[Serving, Prompt] | None:
    """Who is served, and the champion to test that against; None when it is not due: under the means rule, never."""
    canary = app_settings.dspy.canary
    if canary.rule == "means":
        return None
    storage = await get_storage()
    serving = await storage.serving(agent_id)
    if serving is None or serving.candidate is not None:
        return None
    experiments = await storage.experiments(agent_id, limit=ALL)
    due = champion_due(experiments, now=now, promotions=canary.champion_promotions, days=canary.champion_days)
    champion = None if due is None else await storage.prompt(agent_id, due)
    return None if champion is None or champion.text == serving.active.text else (serving, champion)


async def open_champion_test(agent_id: str, now: datetime) -> Experiment | None:
    """Open the experiment that tests the active prompt against the champion; None when it is not due.

    The champion is the candidate, whatever was tried before, and has to be better to come back. When its test ends
    any other way, the active prompt is the next champion. None also when another experiment opened in the meantime:
    this one stays due.
    """
    due = await due_champion(agent_id, now)
    return None if due is None else await _opened(*due, now)


async def _opened(serving: Serving, champion: Prompt, now: datetime) -> Experiment | None:
    agent_id, share = serving.agent_id, app_settings.dspy.canary.initial_share
    policy = await trial_policy(agent_id, share, champion=True, now=now)
    why = (
        f"Prompt {champion.id}, the champion, comes back to be compared with prompt {serving.active.id}: "
        "what was gained in small steps must show as a whole."
    )
    trial = Trial(
        agent_id=agent_id,
        text=champion.text,
        expected_version=serving.version,
        origin=ORIGIN,
        parent_id=champion.id,
        share=share,
        policy=policy,
        actor="controller",
        reason=told_at_opening(why, policy),
    )
    try:
        experiment = await (await get_storage()).begin_trial(trial, now=now)
    except (ExperimentActiveError, StaleRolloutError) as error:
        logger.info("The champion of agent '%s' waits. %s", agent_id, error)
        return None
    logger.info("Agent '%s': %s", agent_id, trial.reason)
    return experiment
