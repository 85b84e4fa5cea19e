"""Recorded conversations and their votes come in from a file of logs, once however often it is imported."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Literal
from uuid import UUID

import msgspec

from bindu.dspy.arguments import checked_id
from bindu.dspy.collector import AHEAD, new_id
from bindu.dspy.errors import ImportRefusedError
from bindu.dspy.extractor import clean_messages
from bindu.dspy.feedback import VOTES, anonymous_rater, has_vote, parse_feedback
from bindu.dspy.models import Feedback, FeedbackKind, JsonObject, Task
from bindu.dspy.reports import ImportReport, ImportTally
from bindu.dspy.storage import Storage, agent_named, get_storage, serving_or_raise
from bindu.dspy.strategies import parse_turns

__all__ = ["ImportReport", "import_jsonl"]

MAX_COUNT = 10_000  # votes of one kind on one reply; more is a mistake in the file
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # an earlier time is a mistake in the file


async def import_jsonl(
    lines: Iterable[str],
    *,
    agent_id: str | None = None,
    prompt_id: int | None = None,
    dry_run: bool = False,
    batch_size: int = 500,
) -> ImportReport:
    """Store one task per line, and its votes; what is known already is left as it is.

    A line is an object with ``message_id`` or ``id`` (the task's external id and its context), ``messages`` (role
    and content or parts) and optionally ``conversation_id`` (the unit), ``created_at`` (ISO 8601, UTC unless it
    names an offset, or seconds since 1970; from the year 2000 to a day ahead) and ``feedback``: one vote (``rating``
    or ``thumbs_up``, ``comment``, ``correction``, ``rater_id``), a list of votes, or the counts ``thumbs_up`` and
    ``thumbs_down``. Lines without a complete turn are skipped.

    Tasks belong to ``prompt_id``, by default the active prompt. A dry run stores nothing and needs no prompt; it
    cannot look into known tasks and counts their votes as known. Raises ImportRefusedError for a line that cannot be
    read, with the lines before it stored and none after it; NoActivePromptError; UnknownPromptError.
    """
    storage = await get_storage()
    agent_id = agent_named(agent_id)
    tally = ImportTally()
    batches = _batches(_rows(lines, tally), batch_size)
    if dry_run:
        for batch in batches:
            await _look_up(storage, agent_id, batch, tally)
        return tally.report(dry_run=True)
    if prompt_id is None:
        prompt_id = (await serving_or_raise(agent_id)).active.id
    for batch in batches:
        await _store(storage, agent_id, prompt_id, batch, tally)
    return tally.report()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vote:
    rater_id: str
    kind: FeedbackKind
    score: float
    data: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    external_id: str
    conversation_id: str | None
    messages: list[dict[str, Any]]
    created_at: datetime | None
    votes: Sequence[_Vote]


class _Line(msgspec.Struct):
    messages: list[dict[str, Any]]
    message_id: str | int | None = None
    id: str | int | None = None
    conversation_id: str | int | None = None
    created_at: datetime | int | float | None = None
    feedback: JsonObject | list[JsonObject] | None = None


# store


async def _store(storage: Storage, agent_id: str, prompt_id: int, batch: Sequence[_Row], tally: ImportTally) -> None:
    tasks = [
        Task(
            agent_id=agent_id,
            id=new_id(row.created_at),
            prompt_id=prompt_id,
            history=row.messages,
            unit_id=row.conversation_id,
            context_id=row.external_id,
            external_id=row.external_id,
            created_at=row.created_at,
        )
        for row in batch
    ]
    ids = await storage.add_tasks(tasks)
    tally.add_stored("tasks", ids, [task.id for task in tasks])
    votes = [
        _feedback(agent_id, task_id, row, vote) for task_id, row in zip(ids, batch, strict=True) for vote in row.votes
    ]
    if votes:
        stored = await storage.add_feedback(votes)
        tally.add_stored("votes", stored, [vote.id for vote in votes])


def _feedback(agent_id: str, task_id: UUID, row: _Row, vote: _Vote) -> Feedback:
    content = json.dumps([row.external_id, vote.rater_id, vote.data], sort_keys=True).encode()
    return Feedback(
        agent_id=agent_id,
        task_id=task_id,
        id=new_id(row.created_at),
        kind=vote.kind,
        score=vote.score,
        rater_id=vote.rater_id,
        data=vote.data,
        comment=vote.data.get("comment"),
        idempotency_key=f"import:{blake2b(content, digest_size=16).hexdigest()}",
        created_at=row.created_at,
    )


async def _look_up(storage: Storage, agent_id: str, batch: Sequence[_Row], tally: ImportTally) -> None:
    for row in batch:
        new = await storage.find_task(agent_id, row.external_id) is None
        tally.add("tasks", int(new), 1)
        tally.add("votes", len(row.votes) if new else 0, len(row.votes))


# read


def _batches(rows: Iterator[_Row], size: int) -> Iterator[list[_Row]]:
    """Lists of at most ``size`` rows; before a bad line stops everything, the rows before it."""
    batch: list[_Row] = []
    try:
        for row in rows:
            batch.append(row)
            if len(batch) >= size:
                yield batch
                batch = []
    except ImportRefusedError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _rows(lines: Iterable[str], tally: ImportTally) -> Iterator[_Row]:
    try:
        for line in lines:
            tally.counts["lines"] += 1
            if not line.strip():
                continue
            row = _row(line.removeprefix("\ufeff"), tally)
            tally.counts["rows"] += 1
            tally.conversations.add(row.conversation_id or row.external_id)
            if parse_turns(clean_messages(row.messages)):
                yield row
            else:
                tally.skipped["rows_without_a_complete_turn"] += 1
    except UnicodeDecodeError as error:
        raise ImportRefusedError(
            f"The file is not UTF-8 text shortly after line {tally.counts['lines']}: {error}."
        ) from error
    except (ValueError, msgspec.ValidationError, RecursionError) as error:
        raise ImportRefusedError(
            f"Line {tally.counts['lines']} cannot be imported: {str(error).rstrip('.')}. It and what follows was not "
            "stored. Correct it and import the file again: what is known already stays as it is."
        ) from error


class _BadRowError(ValueError):
    """What is wrong with a row, as a sentence."""


def _row(text: str, tally: ImportTally) -> _Row:
    line = msgspec.convert(json.loads(text), _Line)  # unlike msgspec's, this decoder reads lone surrogates
    external_id = _name(line.message_id, "message_id") or _name(line.id, "id")
    if external_id is None:
        raise _BadRowError("it has neither message_id nor id")
    return _Row(
        external_id=external_id,
        conversation_id=_name(line.conversation_id, "conversation_id"),
        messages=line.messages,
        created_at=_moment(line.created_at),
        votes=_votes(external_id, line.feedback, tally),
    )


def _name(value: object, field: str) -> str | None:
    return None if value is None else checked_id(value, field).strip() or None


def _moment(value: datetime | float | None) -> datetime | None:
    if value is None:
        return None
    try:
        at = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise _BadRowError(f"created_at {value} is not a time in seconds since 1970") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if at < EARLIEST:
        raise _BadRowError(f"created_at {at} lies before the year {EARLIEST.year}")
    if at > datetime.now(UTC) + AHEAD:
        raise _BadRowError(f"created_at {at} lies more than a day ahead")
    return at


def _votes(
    external_id: str, feedback: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None, tally: ImportTally
) -> list[_Vote]:
    if isinstance(feedback, Sequence):
        found = [_vote(one, anonymous_rater(i, external_id), tally) for i, one in enumerate(feedback, 1)]
        return [vote for vote in found if vote]
    if not feedback:
        return []
    if "thumbs_down" in feedback:
        return [*_counted(external_id, feedback, "up"), *_counted(external_id, feedback, "down")]
    vote = _vote(feedback, "", tally)
    return [vote] if vote else []


def _vote(data: Mapping[str, Any], anonymous: str, tally: ImportTally) -> _Vote | None:
    for name in ("comment", "correction"):
        if not isinstance(data.get(name), str | None):
            raise _BadRowError(f"the {name} of its feedback is not a text")
    if not has_vote(data):
        if not data.keys() & {*VOTES, "comment", "correction"}:
            parse_feedback(data)  # raises: none of our words is in it
        if data.get("comment") or data.get("correction"):
            tally.skipped["comments_without_a_vote"] += 1
        return None
    kind, score = parse_feedback(data)
    return _Vote(rater_id=_name(data.get("rater_id"), "rater_id") or anonymous, kind=kind, score=score, data=dict(data))


def _counted(external_id: str, counts: Mapping[str, Any], thumb: Literal["up", "down"]) -> Iterator[_Vote]:
    """One rater per vote, named so that the same counts give the same raters and more votes only add some.

    The names hold the row's id: nobody knows whether the first rater of two replies was one person.
    """
    count = counts.get(f"thumbs_{thumb}")
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_COUNT:
        raise _BadRowError(f"the count thumbs_{thumb} of its feedback is not a whole number from 0 to {MAX_COUNT}")
    up = thumb == "up"
    for i in range(1, count + 1):
        rater_id = anonymous_rater(i, external_id, thumb)
        yield _Vote(rater_id=rater_id, kind="thumbs_up", score=float(up), data={"thumbs_up": up})
