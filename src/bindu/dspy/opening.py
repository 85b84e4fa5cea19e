"""What an experiment is opened with: its frozen policy, why it opens, and a text that may be tried."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime

import msgspec

from bindu.dspy.barred import barred_by
from bindu.dspy.decision import policy_of
from bindu.dspy.errors import BarredTextError, ExperimentActiveError, InvalidPromptError
from bindu.dspy.models import JsonObject
from bindu.dspy.planning import expectation, fitted
from bindu.dspy.policy import Policy
from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.rules import RULES
from bindu.dspy.storage import agent_named, get_storage, serving_or_raise
from bindu.dspy.units import Baseline
from bindu.settings import app_settings

__all__ = ["check_may_open", "fitted_to", "settings_policy", "told_at_opening", "trial_policy"]


def settings_policy() -> Policy:
    """The rule and the numbers that the settings name, before an agent's past week fits them."""
    return Policy(**app_settings.dspy.canary.model_dump(include={field.name for field in fields(Policy)}))


def fitted_to(baseline: Baseline, policy: Policy, share: float) -> Policy:
    """The policy with all that the past week decides, for an experiment that opens with that share."""
    canary = app_settings.dspy.canary
    return fitted(
        policy,
        baseline,
        share=share,
        window_feedback=canary.window_feedback,
        max_window_hours=canary.max_window_hours,
    )


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
    policy = fitted_to(baseline, replace(policy, judged=judged), share)
    frozen: JsonObject = msgspec.to_builtins(policy) | {"rule_version": RULES[policy.rule].version}
    return frozen | ({"champion": True} if champion else {})


def told_at_opening(why: str, policy: JsonObject) -> str:
    """Why an experiment opens, and under the evidence rule how long it will take."""
    frozen = policy_of(policy)
    return why if frozen.rule == "means" else f"{why} {expectation(frozen)}"


async def check_may_open(text: str, *, agent_id: str | None = None, again: bool = False) -> None:
    """Raise what forbids a trial of the text now, before anything is written.

    ExperimentActiveError while another runs; InvalidPromptError for no prompt, or the active one; NoActivePromptError;
    BarredTextError, unless it may be tried ``again``, when it, or one much like it, was tried before and did not win.
    """
    normal, storage, agent = normalize_prompt(text), await get_storage(), agent_named(agent_id)
    serving = await serving_or_raise(agent)
    if serving.candidate is not None:
        raise ExperimentActiveError(serving.candidate.id, serving.share)
    if normal == serving.active.text:
        raise InvalidPromptError(f"The text is that of the active prompt {serving.active.id}; there is nothing to try.")
    if again:
        return
    similar, barred = app_settings.dspy.canary.similar_text, await storage.barred_texts(agent)
    earlier = barred_by(normal, barred, similar=similar, active=serving.active.text)
    if earlier is not None:
        raise BarredTextError(earlier.prompt_id, earlier.experiment_id, earlier.outcome)
