"""Record what was said and what users thought of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import RFC_4122, UUID

import msgspec
from uuid_utils.compat import uuid7

from bindu.dspy.arguments import checked_id, checked_time, optional_id, shown
from bindu.dspy.errors import (
    InvalidFeedbackError,
    InvalidHistoryError,
    InvalidPromptError,
    UnknownTaskError,
)
from bindu.dspy.feedback import parse_feedback
from bindu.dspy.models import Feedback, JsonObject, Serving, Task, TaskState
from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.storage import agent_named, get_storage, serving_or_raise

__all__ = ["new_id", "record_feedback", "record_task"]

STATES: tuple[TaskState, ...] = get_args(TaskState)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_DAY = datetime(2020, 1, 1, tzinfo=UTC)  # no version 7 id is older than the format
UUID7 = 7
LONGEST = 1e300  # milliseconds: more is no number to measure with

SAYS = ("content", "parts", "tool_calls", "refusal")  # a refused answer may have no content

_SERVED = "prompt is the dictionary that select_prompt_with_canary returned"


async def record_task(
    history: Sequence[Mapping[str, Any]],
    *,
    prompt: Mapping[str, Any] | None = None,
    prompt_id: int | None = None,
    task_id: UUID | str | int | None = None,
    unit_id: UUID | str | int | None = None,
    context_id: UUID | str | int | None = None,
    state: str = "completed",
    usage: Mapping[str, Any] | None = None,
    latency_ms: float | None = None,
    agent_id: str | None = None,
    now: datetime | None = None,
) -> UUID:
    """Store one exchange, tied to the prompt that answered it, and return its id for the feedback.

    ``prompt`` is what ``select_prompt_with_canary`` returned; without it and without ``prompt_id`` the exchange
    belongs to the active prompt. Recording the same ``task_id`` again changes nothing. Raises InvalidHistoryError,
    InvalidPromptError, InvalidArgumentError, NoActivePromptError, UnknownPromptError.
    """
    served = _served(prompt)
    at, agent = checked_time(now), agent_named(agent_id or served.get("agent_id"))
    if agent != served.get("agent_id", agent):
        raise InvalidPromptError(f"The prompt was selected for agent '{served['agent_id']}', not for '{agent}'.")
    messages = _checked_history(history)
    known_state = _checked_state(state)
    if latency_ms is not None and not (isinstance(latency_ms, int | float) and 0 <= latency_ms <= LONGEST):
        raise InvalidHistoryError(f"latency_ms is a time in milliseconds, not {shown(latency_ms)}.")
    ours, theirs = _ids(task_id, at)
    unit, context = optional_id(unit_id, "unit_id"), optional_id(context_id, "context_id")
    storage = await get_storage()
    task = Task(
        agent_id=agent,
        id=ours,
        external_id=theirs,
        prompt_id=await _prompt_id(agent, prompt, prompt_id),
        history=messages,
        state=known_state,
        unit_id=unit or optional_id(served.get("unit_id"), "unit_id"),
        context_id=context,
        experiment_id=served.get("experiment_id"),
        epoch=served.get("epoch") or 0,
        usage=None if usage is None else _plain(usage, InvalidHistoryError, "The usage"),
        latency_ms=latency_ms,
        created_at=at,
    )
    [stored] = await storage.add_tasks([task])
    return stored


async def record_feedback(
    task_id: UUID | str | int,
    feedback: Mapping[str, Any],
    *,
    rater_id: UUID | str | int | None = None,
    idempotency_key: UUID | str | int | None = None,
    agent_id: str | None = None,
    now: datetime | None = None,
) -> UUID:
    """Store one vote on a task, by our id or the caller's; a rater's later vote replaces the earlier one.

    Later is what ``now`` says, not what arrives last: a vote that comes in late, with a ``now`` before that of the
    rater's vote that counts, is kept in the history and does not count. Of equal times the last to arrive counts.

    ``feedback`` is ``{"rating": 1 to 5}`` or ``{"thumbs_up": true or false}``, with ``comment`` and ``correction``
    as text if there are any. Raises InvalidFeedbackError, InvalidArgumentError and UnknownTaskError; nothing is
    stored then.
    """
    at, (kind, score) = checked_time(now), parse_feedback(feedback)
    comment = _text(feedback, "comment")
    _text(feedback, "correction")
    rater = optional_id(rater_id, "rater_id") or ""
    key = None if idempotency_key is None else checked_id(idempotency_key, "idempotency_key")
    named = checked_id(task_id, "task_id")
    data = _plain(feedback, InvalidFeedbackError, "Feedback")
    storage, agent = await get_storage(), agent_named(agent_id)
    known = await storage.find_task(agent, named)
    if known is None:
        raise UnknownTaskError(agent, task_id)
    vote = Feedback(
        agent_id=agent,
        task_id=known,
        id=new_id(at),
        kind=kind,
        score=score,
        rater_id=rater,
        data=data,
        comment=comment,
        idempotency_key=key,
        created_at=at,
    )
    [stored] = await storage.add_feedback([vote])
    return stored


def new_id(now: datetime | None = None) -> UUID:
    """A UUID of version 7 made at that time, None meaning now."""
    return uuid7() if now is None else uuid7(nanoseconds=_milliseconds(now) * 1_000_000)


def _milliseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


def _served(prompt: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What was selected, with numbers that an experiment and its epoch can have."""
    served = {} if prompt is None else prompt
    if not isinstance(served, Mapping):
        raise InvalidPromptError(f"{_SERVED}, not {type(prompt).__name__}.")
    for name in ("experiment_id", "epoch"):
        number = served.get(name)
        if number is not None and not (isinstance(number, int) and 0 <= number < 2**31):
            raise InvalidPromptError(f"{_SERVED}; its {name} is {shown(number)}.")
    return served


def _ids(task_id: UUID | str | int | None, now: datetime | None) -> tuple[UUID, str | None]:
    """Ours and the caller's: an id that is not a version 7 of a plausible time is the caller's own."""
    if task_id is None:
        return new_id(now), None
    text = checked_id(task_id, "task_id")
    given = _uuid(text)
    if given is not None and given.variant == RFC_4122 and given.version == UUID7:
        latest = (now or datetime.now(UTC)) + timedelta(days=1)
        if _milliseconds(FIRST_DAY) <= given.int >> 80 <= _milliseconds(latest):
            return given, None
    return new_id(now), text


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None


async def _prompt_id(agent_id: str, prompt: Mapping[str, Any] | None, prompt_id: int | None) -> int:
    served = None if prompt is None else prompt.get("id")
    if served is not None and prompt_id not in (None, served):
        raise InvalidPromptError(
            f"prompt_id is {shown(prompt_id)}, but the selected prompt is {shown(served)}. Give one of them."
        )
    known = served if served is not None else prompt_id
    if known is not None:
        try:
            return int(known)
        except (TypeError, ValueError, OverflowError):
            raise InvalidPromptError(f"A prompt's id is a whole number, not {shown(known)}.") from None
    serving = await serving_or_raise(agent_id)
    if prompt is not None:
        _check_default(serving, prompt)
    return serving.active.id


def _check_default(serving: Serving, prompt: Mapping[str, Any]) -> None:
    """A default that was served without the database is only the active prompt's if it is the same text."""
    if normalize_prompt(str(prompt.get("prompt_text", ""))) != serving.active.text:
        raise InvalidPromptError(
            f"The text that was served is not active prompt {serving.active.id} of agent '{serving.agent_id}', "
            "so the exchange cannot count for it. Keep the default equal to a stored prompt."
        )


def _checked_history(history: Sequence[Mapping[str, Any]]) -> list[JsonObject]:
    if isinstance(history, str | bytes | Mapping) or not isinstance(history, Sequence) or not history:
        raise InvalidHistoryError(
            'A history is a list with at least one message, such as [{"role": "user", "content": "Hello"}].'
        )
    for place, message in enumerate(history, start=1):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or not message["role"]:
            raise InvalidHistoryError(f"Message {place} has no role; write it as {{'role': 'user', 'content': '...'}}.")
        if not any(isinstance(message.get(key), str | list | tuple) for key in SAYS):
            raise InvalidHistoryError(f"Message {place} has no content; give it a text or a list of parts.")
    plain: list[JsonObject] = [_plain(message, InvalidHistoryError, "A message") for message in history]
    return plain


def _plain(value: Mapping[str, Any], error: type[InvalidHistoryError | InvalidFeedbackError], what: str) -> JsonObject:
    try:
        plain: JsonObject = msgspec.to_builtins(dict(value), str_keys=True)
        msgspec.json.encode(plain)  # what cannot become JSON says so here
    except UnicodeEncodeError:
        return plain  # a lone surrogate, which storage replaces
    except (TypeError, ValueError, RecursionError, OverflowError) as cause:
        raise error(f"{what} holds something that JSON cannot: {cause}.") from None
    return plain


def _checked_state(state: str) -> TaskState:
    for known in STATES:
        if state == known:
            return known
    raise InvalidHistoryError(f"'{state}' is not a task's state; use one of {', '.join(STATES)}.")


def _text(feedback: Mapping[str, Any], key: str) -> str | None:
    value = feedback.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidFeedbackError(f"A {key} is a text, not {type(value).__name__}.")
    return value.strip() or None if value is not None else None
