"""What an experiment is opened with: its frozen policy, why it opens, and a text that may be tried."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime

import msgspec

from bindu.dspy.barred import barred_by, unpardoned
from bindu.dspy.decision import policy_of
from bindu.dspy.errors import BarredTextError
from bindu.dspy.models import JsonObject
from bindu.dspy.planning import expectation, fitted
from bindu.dspy.policy import Policy
from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.rules import RULES
from bindu.dspy.storage import agent_named, get_storage, serving_or_raise
from bindu.settings import app_settings

__all__ = ["check_not_barred", "settings_policy", "told_at_opening", "trial_policy"]


def settings_policy() -> Policy:
    """The rule and the numbers that the settings name, before an agent's past week fits them."""
    return Policy(**app_settings.dspy.canary.model_dump(include={field.name for field in fields(Policy)}))


async def trial_policy(
    agent_id: str, share: float, *, champion: bool = False, now: datetime | None = None
) -> JsonObject:
    """What is frozen in an experiment when it opens with that share: the settings' rule, and its numbers.

    The means rule leaves its numbers to the controller's constants. A champion has to be better, whatever the goal, and
    no judge looks on, whose rubric is that of the prompt it comes back to beat.
    Raises NoActivePromptError.
    """
    canary, policy = app_settings.dspy.canary, settings_policy()
    if policy.rule == "means":
        return {"rule": "means"}
    baseline = await (await get_storage()).baseline(agent_id, now=now)
    judged = canary.judge_share > 0 and not champion
    if champion:
        policy = replace(policy, goal="better", stated_gain="")
    policy = fitted(
        replace(policy, judged=judged),
        baseline,
        share=share,
        window_feedback=canary.window_feedback,
        max_window_hours=canary.max_window_hours,
    )
    frozen: JsonObject = msgspec.to_builtins(policy) | {"rule_version": RULES[policy.rule].version}
    return frozen | ({"champion": True} if champion else {})


def told_at_opening(why: str, policy: JsonObject) -> str:
    """Why an experiment opens, and under the evidence rule how long it will take."""
    frozen = policy_of(policy)
    return why if frozen.rule == "means" else f"{why} {expectation(frozen)}"


async def check_not_barred(text: str, *, agent_id: str | None = None) -> None:
    """Raise BarredTextError when the text was tried before and did not win, or one that is much like it.

    Raises InvalidPromptError and NoActivePromptError too.
    """
    normal, storage, agent = normalize_prompt(text), await get_storage(), agent_named(agent_id)
    serving = await serving_or_raise(agent)
    tried = unpardoned(await storage.tried_texts(agent), await storage.prompts(agent))
    similar = app_settings.dspy.canary.similar_text
    earlier = barred_by(normal, tried, similar=similar, active=serving.active.text)
    if earlier is not None:
        raise BarredTextError(earlier.prompt_id, earlier.experiment_id, earlier.outcome)
