"""Look prompts up, change them.

Traffic and status change only through ``Storage.begin_trial`` and ``Storage.apply``, so shares always sum to 1 and
at most two prompts are live, whatever is asked for here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn, get_args

from bindu.dspy.arguments import checked_actor, checked_own_id, checked_share, checked_time, shown
from bindu.dspy.errors import InvalidPromptError, UnknownPromptError
from bindu.dspy.models import DIGITS, Prompt, PromptMetrics, PromptStatus, Serving, Trial
from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.storage import Storage, agent_named, get_storage, serving_or_raise

__all__ = [
    "bootstrap_prompt",
    "get_active_prompt",
    "get_candidate_prompt",
    "insert_prompt",
    "prompt_view",
    "update_prompt_status",
    "update_prompt_traffic",
    "zero_out_all_except",
]

STATUSES: tuple[PromptStatus, ...] = get_args(PromptStatus)


def prompt_view(prompt: Prompt, metrics: PromptMetrics) -> dict[str, Any]:
    """The specification's dictionary of a prompt."""
    return {
        "id": prompt.id,
        "prompt_text": prompt.text,
        "status": prompt.status,
        "traffic": round(prompt.traffic, DIGITS),
        "num_interactions": metrics.num_interactions,
        "average_feedback_score": metrics.average_score,
    }


async def get_active_prompt(*, agent_id: str | None = None) -> dict[str, Any] | None:
    """The prompt that most requests get, or None before bootstrap."""
    storage, agent = await get_storage(), agent_named(agent_id)
    serving = await storage.serving(agent)
    return None if serving is None else await _viewed(storage, serving.active)


async def get_candidate_prompt(*, agent_id: str | None = None) -> dict[str, Any] | None:
    """The prompt on trial, or None."""
    storage, agent = await get_storage(), agent_named(agent_id)
    serving = await storage.serving(agent)
    return None if serving is None or serving.candidate is None else await _viewed(storage, serving.candidate)


async def bootstrap_prompt(
    text: str, *, agent_id: str | None = None, actor: str = "application", now: datetime | None = None
) -> dict[str, Any]:
    """Make ``text`` the active prompt at 100 %, unless the agent already has one; return the active prompt.

    Safe to call at every start and from every replica. ``actor`` is who does so, for the audit trail. Raises
    InvalidPromptError for an empty text.
    """
    normal, at, agent = normalize_prompt(text), checked_time(now), checked_own_id(agent_named(agent_id))
    storage, who = await get_storage(), checked_actor(actor)
    return await _viewed(storage, await storage.bootstrap(agent, normal, actor=who, now=at))


async def insert_prompt(
    text: str,
    status: str,
    traffic: float,
    *,
    agent_id: str | None = None,
    again: bool = False,
    actor: str = "person",
    now: datetime | None = None,
) -> int:
    """Store a new prompt and return its number.

    ``candidate`` begins a trial with that share of traffic (the active prompt gets the rest), ``active`` is only
    for an agent without prompts, ``deprecated`` and ``rolled_back`` take no traffic. A candidate much like one that
    did not win is only tried ``again`` on request. Raises InvalidPromptError, NoActivePromptError,
    ExperimentActiveError, BarredTextError.
    """
    normal, kind, share, at = normalize_prompt(text), _status(status), checked_share(traffic), checked_time(now)
    agent = checked_own_id(agent_named(agent_id))
    storage, who = await get_storage(), checked_actor(actor)
    match kind:
        case "active":
            return await _insert_active(storage, agent, normal, share, actor=who, now=at)
        case "candidate":
            return await _insert_candidate(storage, agent, normal, share, again=again, actor=who, now=at)
        case retired:
            if share:
                raise InvalidPromptError(f"A {retired} prompt takes no traffic; insert it with traffic 0.")
            return (await storage.add_prompt(agent, normal, retired, actor=who, now=at)).id


async def update_prompt_traffic(
    prompt_id: int, traffic: float, *, agent_id: str | None = None, now: datetime | None = None
) -> None:
    """Give a live prompt that share of traffic and the other one the rest.

    A candidate at 0 is rolled back, at 1 promoted. A third prompt above 0, or a lone active prompt below 1, is a
    ValueError. Raises StaleRolloutError when somebody moved traffic at the same time.
    """
    share, at = checked_share(traffic), checked_time(now)
    storage, agent = await get_storage(), agent_named(agent_id)
    serving = await serving_or_raise(agent)
    if serving.candidate is not None and prompt_id in (serving.active.id, serving.candidate.id):
        wanted = share if prompt_id == serving.candidate.id else 1 - share
        await _set_share(storage, serving, wanted, f"Traffic of prompt {prompt_id} was set to {share:.0%}.", at)
    elif prompt_id == serving.active.id:
        if share != 1:
            raise InvalidPromptError(
                f"Prompt {prompt_id} is the only live prompt and needs all traffic, not {share:.0%}. "
                "Insert a candidate first."
            )
    elif (await _known(storage, agent, prompt_id)) and share != 0:
        raise InvalidPromptError(
            f"Prompt {prompt_id} is retired and cannot take traffic. Insert its text as a candidate."
        )


async def update_prompt_status(
    prompt_id: int, status: str, *, agent_id: str | None = None, now: datetime | None = None
) -> None:
    """Change a prompt's status: ``active`` promotes the candidate, ``rolled_back`` ends its trial.

    What is already so is left alone; every other change of a live prompt is a ValueError. Raises
    StaleRolloutError when somebody moved traffic at the same time.
    """
    wanted, at = _status(status), checked_time(now)
    storage, agent = await get_storage(), agent_named(agent_id)
    serving = await serving_or_raise(agent)
    prompt = await _known(storage, agent, prompt_id)
    if prompt.status == wanted:
        return
    match prompt.status, wanted:
        case "candidate", "active":
            await _set_share(storage, serving, 1.0, f"Prompt {prompt_id} was made active.", at)
        case "candidate", "rolled_back":
            await _set_share(storage, serving, 0.0, f"Prompt {prompt_id} was rolled back by hand.", at)
        case (("deprecated" | "rolled_back"), ("deprecated" | "rolled_back")):
            await storage.set_retired_status(agent, prompt_id, wanted, now=at)
        case before, _:
            _refuse_status(prompt_id, before, wanted)


async def zero_out_all_except(
    prompt_ids: Sequence[int], *, agent_id: str | None = None, now: datetime | None = None
) -> None:
    """Leave traffic only to these prompts: a candidate not named is rolled back, an active one gives way to it.

    Raises ValueError when none of them is live, and StaleRolloutError.
    """
    at = checked_time(now)
    storage, agent = await get_storage(), agent_named(agent_id)
    serving = await serving_or_raise(agent)
    kept = set(prompt_ids)
    for prompt_id in sorted(kept):
        await _known(storage, agent, prompt_id)
    candidate_id = None if serving.candidate is None else serving.candidate.id
    if not kept & {serving.active.id, candidate_id}:
        raise InvalidPromptError(
            f"None of {sorted(kept)} is live: somebody has to answer. "
            f"Name prompt {serving.active.id}" + (f" or {candidate_id}." if candidate_id else ".")
        )
    if candidate_id is not None and not {serving.active.id, candidate_id} <= kept:
        share, gone = (0.0, candidate_id) if serving.active.id in kept else (1.0, serving.active.id)
        await _set_share(storage, serving, share, f"Traffic of prompt {gone} was set to 0%.", at)


def _status(status: str) -> PromptStatus:
    for known in STATUSES:
        if status == known:
            return known
    raise InvalidPromptError(f"{shown(status)} is not a status of a prompt; use one of {', '.join(STATUSES)}.")


def _refuse_status(prompt_id: int, before: PromptStatus, wanted: PromptStatus) -> NoReturn:
    advice = {
        "active": "Promote a candidate instead: the prompt it replaces becomes deprecated.",
        "candidate": "End its trial as 'active' or 'rolled_back'.",
    }.get(before, "Insert its text as a new candidate.")
    raise InvalidPromptError(f"Prompt {prompt_id} is {before} and cannot be made {wanted}. {advice}")


async def _known(storage: Storage, agent_id: str, prompt_id: int) -> Prompt:
    prompt = await storage.prompt(agent_id, prompt_id)
    if prompt is None:
        raise UnknownPromptError(agent_id, prompt_id)
    return prompt


async def _viewed(storage: Storage, prompt: Prompt) -> dict[str, Any]:
    metrics = await storage.prompt_metrics(prompt.agent_id, [prompt.id])
    return prompt_view(prompt, metrics[prompt.id])


async def _insert_active(
    storage: Storage, agent_id: str, text: str, share: float, *, actor: str, now: datetime | None
) -> int:
    if share != 1:
        raise InvalidPromptError(f"The first active prompt needs all traffic, not {share:.0%}.")
    before = await storage.serving(agent_id)
    active = before.active if before is not None else await storage.bootstrap(agent_id, text, actor=actor, now=now)
    if before is not None or active.text != text:  # or somebody else was first
        raise InvalidPromptError(
            f"Agent '{agent_id}' already has active prompt {active.id}. Insert the text as a candidate."
        )
    return active.id


async def _insert_candidate(
    storage: Storage, agent_id: str, text: str, share: float, *, again: bool, actor: str, now: datetime | None
) -> int:
    from bindu.dspy.opening import check_may_open, told_at_opening, trial_policy  # noqa: PLC0415 - serving opens none

    if not 0 < share < 1:
        raise InvalidPromptError(
            f"A candidate shares traffic with the active prompt: above 0%, below 100%, not {share:.0%}."
        )
    serving = await serving_or_raise(agent_id)
    # asked after the version was read: a trial that ends meanwhile makes this one stale
    await check_may_open(text, agent_id=agent_id, again=again)
    policy = await trial_policy(agent_id, share, now=now)
    trial = Trial(
        agent_id=agent_id,
        text=text,
        expected_version=serving.version,
        origin="manual",
        parent_id=serving.active.id,
        share=share,
        policy=policy,
        actor=actor,
        reason=told_at_opening("Inserted as a candidate.", policy),
    )
    return (await storage.begin_trial(trial, now=now)).candidate_id


async def _set_share(storage: Storage, serving: Serving, share: float, reason: str, now: datetime | None) -> None:
    from bindu.dspy.decision import move_to  # noqa: PLC0415 - serving loads this module and moves nothing by hand

    rollout = move_to(serving, share, reason=reason, actor="person")
    if rollout.verdict != "hold":
        await storage.apply(rollout, now=now)
