"""Record what was said and what users thought of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, get_args
from uuid import RFC_4122, UUID

import msgspec
from uuid_utils.compat import uuid7

from bindu.dspy.arguments import as_uuid, checked_id, checked_time, optional_id, shown
from bindu.dspy.errors import (
    InvalidFeedbackError,
    InvalidHistoryError,
    InvalidPromptError,
    UnknownTaskError,
)
from bindu.dspy.feedback import is_remark, parse_feedback
from bindu.dspy.models import Feedback, FeedbackKind, JsonObject, Remark, Task, TaskState
from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.storage import agent_named, get_storage, serving_or_raise

__all__ = [
    "Exchange",
    "Opinion",
    "new_id",
    "read_exchange",
    "read_feedback",
    "record_feedback",
    "record_task",
    "store_exchanges",
    "store_feedback",
]

STATES: tuple[TaskState, ...] = get_args(TaskState)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_DAY = datetime(2020, 1, 1, tzinfo=UTC)  # no version 7 id is older than the format
AHEAD = timedelta(days=1)  # so much a clock may be ahead: a task from the future would stay the newest
UUID7 = 7
LONGEST = 1e300  # milliseconds: more is no number to measure with

SAYS = ("content", "parts", "tool_calls", "refusal")  # a refused answer may have no content

_SERVED = "prompt is the dictionary that select_prompt_with_canary returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A task that was checked; ``default`` is the text that was served without the database, if one was."""

    task: Task  # prompt_id 0 means whichever prompt is active when it is stored
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """Feedback that was checked, on a task that is still to be found."""

    task_id: str
    vote: tuple[FeedbackKind, float] | None  # None when somebody only said something
    data: JsonObject
    comment: str | None
    correction: str | None
    rater_id: str
    idempotency_key: str | None
    at: datetime | None


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
    exchange = read_exchange(
        history,
        prompt=prompt,
        prompt_id=prompt_id,
        task_id=task_id,
        unit_id=unit_id,
        context_id=context_id,
        state=state,
        usage=usage,
        latency_ms=latency_ms,
        agent_id=agent_id,
        now=now,
    )
    [stored] = await store_exchanges([exchange])
    return stored


def read_exchange(
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
) -> Exchange:
    """Check what ``record_task`` is given, without the database; raises what it raises but for unknown prompts."""
    served = _served(prompt)
    at, agent = checked_time(now), agent_named(agent_id or served.get("agent_id"))
    if agent != served.get("agent_id", agent):
        raise InvalidPromptError(f"The prompt was selected for agent '{served['agent_id']}', not for '{agent}'.")
    if latency_ms is not None and not (isinstance(latency_ms, int | float) and 0 <= latency_ms <= LONGEST):
        raise InvalidHistoryError(f"latency_ms is a time in milliseconds, not {shown(latency_ms)}.")
    ours, theirs = _ids(task_id, at)
    number = _prompt_number(prompt, prompt_id)
    unit = optional_id(unit_id, "unit_id") or optional_id(served.get("unit_id"), "unit_id")
    task = Task(
        agent_id=agent,
        id=ours,
        external_id=theirs,
        prompt_id=number or 0,
        history=_checked_history(history),
        state=_checked_state(state),
        unit_id=unit,
        context_id=optional_id(context_id, "context_id"),
        experiment_id=served.get("experiment_id"),
        epoch=served.get("epoch") or 0,
        usage=None if usage is None else _plain(usage, InvalidHistoryError, "The usage"),
        latency_ms=latency_ms,
        created_at=at,
    )
    text = None if number is not None or prompt is None else str(prompt.get("prompt_text", ""))
    return Exchange(task=task, default=text)


async def store_exchanges(exchanges: Sequence[Exchange]) -> list[UUID]:
    """Store exchanges of one agent in one transaction, and return their ids in order."""
    known: dict[str | None, int] = {}
    tasks = []
    for exchange in exchanges:
        task = exchange.task
        if not task.prompt_id:
            if exchange.default not in known:
                known[exchange.default] = await _served_prompt(task.agent_id, exchange.default)
            task = replace(task, prompt_id=known[exchange.default])
        tasks.append(task)
    return await (await get_storage()).add_tasks(tasks)


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

    ``feedback`` is ``{"rating": 1 to 5}``, ``{"thumbs_up": true or false}``, ``{"score": 0 to 1}`` or ``{"label":
    "good" or "bad"}``, with ``comment`` and ``correction`` as text if there are any. These two alone are added to the
    rater's vote; of a rater without one they are kept, and count for nothing. Raises InvalidFeedbackError,
    InvalidArgumentError and UnknownTaskError; nothing is stored then.
    """
    opinion = read_feedback(task_id, feedback, rater_id=rater_id, idempotency_key=idempotency_key, now=now)
    agent = agent_named(agent_id)
    [stored] = await store_feedback(agent, [opinion])
    if stored is None:
        raise UnknownTaskError(agent, task_id)
    return stored


def read_feedback(
    task_id: UUID | str | int,
    feedback: Mapping[str, Any],
    *,
    rater_id: UUID | str | int | None = None,
    idempotency_key: UUID | str | int | None = None,
    now: datetime | None = None,
) -> Opinion:
    """Check what ``record_feedback`` is given, without the database; raises what it raises but UnknownTaskError."""
    at = checked_time(now)
    vote = None if isinstance(feedback, Mapping) and is_remark(feedback) else parse_feedback(feedback)
    rater = optional_id(rater_id, "rater_id") or ""
    return Opinion(
        task_id=checked_id(task_id, "task_id"),
        vote=vote,
        comment=_text(feedback, "comment"),
        correction=_text(feedback, "correction"),
        data=_plain(feedback, InvalidFeedbackError, "Feedback"),
        rater_id=rater,
        idempotency_key=None if idempotency_key is None else _own_key(rater, idempotency_key),
        at=at,
    )


async def store_feedback(agent_id: str, opinions: Sequence[Opinion]) -> list[UUID | None]:
    """Store feedback of one agent in one transaction: the ids in order, None where the task is unknown."""
    storage = await get_storage()
    known = await storage.find_tasks(agent_id, [opinion.task_id for opinion in opinions])
    found = [opinion for opinion in opinions if opinion.task_id in known]
    given = [_feedback(agent_id, known[opinion.task_id], opinion) for opinion in found]
    ids = iter(await storage.add_feedback(given))
    return [next(ids) if opinion.task_id in known else None for opinion in opinions]


def _own_key(rater_id: str, idempotency_key: UUID | str | int) -> str:
    """The rater's own: nobody makes another's vote vanish by guessing its key."""
    key = checked_id(idempotency_key, "idempotency_key")
    return msgspec.json.encode([rater_id, key]).decode()


def _feedback(agent_id: str, task_id: UUID, opinion: Opinion) -> Feedback | Remark:
    if opinion.vote is None:
        return Remark(
            agent_id=agent_id,
            task_id=task_id,
            id=new_id(opinion.at),
            rater_id=opinion.rater_id,
            comment=opinion.comment,
            correction=opinion.correction,
            idempotency_key=opinion.idempotency_key,
            created_at=opinion.at,
        )
    kind, score = opinion.vote
    return Feedback(
        agent_id=agent_id,
        task_id=task_id,
        id=new_id(opinion.at),
        kind=kind,
        score=score,
        rater_id=opinion.rater_id,
        data=opinion.data,
        comment=opinion.comment,
        idempotency_key=opinion.idempotency_key,
        created_at=opinion.at,
    )


def new_id(now: datetime | None = None) -> UUID:
    """A UUID of version 7 made at that time, None meaning now."""
    made = uuid7()  # before uuid-utils 1.0, with which LangChain comes, a time is passed by other names
    return made if now is None else UUID(int=_milliseconds(now) << 80 | made.int & (1 << 80) - 1)


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
    given = as_uuid(text)
    if given is not None and given.variant == RFC_4122 and given.version == UUID7:
        latest = (now or datetime.now(UTC)) + AHEAD
        if _milliseconds(FIRST_DAY) <= given.int >> 80 <= _milliseconds(latest):
            return given, None
    return new_id(now), text


def _prompt_number(prompt: Mapping[str, Any] | None, prompt_id: int | None) -> int | None:
    """The prompt that answered, None when only the database can tell."""
    served = None if prompt is None else prompt.get("id")
    if served is not None and prompt_id not in (None, served):
        raise InvalidPromptError(
            f"prompt_id is {shown(prompt_id)}, but the selected prompt is {shown(served)}. Give one of them."
        )
    known = served if served is not None else prompt_id
    if known is None:
        return None
    try:
        number = int(known)
    except (TypeError, ValueError, OverflowError):
        raise InvalidPromptError(f"A prompt's id is a whole number, not {shown(known)}.") from None
    if number < 1:
        raise InvalidPromptError(f"A prompt's id counts up from 1, it is never {shown(number)}.")
    return number


async def _served_prompt(agent_id: str, default: str | None) -> int:
    """Which prompt a default is that was served without the database: the active one or an earlier of that text."""
    serving = await serving_or_raise(agent_id)
    if default is None or (text := normalize_prompt(default)) == serving.active.text:
        return serving.active.id
    found = await (await get_storage()).prompt_of_text(agent_id, sha256(text.encode()).digest())
    if found is None:
        raise InvalidPromptError(
            f"The text that was served is no prompt of agent '{agent_id}', so the exchange cannot count for it. "
            "Keep the default equal to a stored prompt."
        )
    return found


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
