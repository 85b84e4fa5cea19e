"""Tasks and feedback of a Bindu database come in, once however often it is imported."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast
from uuid import UUID

from bindu.dspy.arguments import optional_id
from bindu.dspy.collector import AHEAD, FIRST_DAY, new_id
from bindu.dspy.errors import ImportRefusedError, InvalidArgumentError, InvalidFeedbackError
from bindu.dspy.extractor import clean_messages
from bindu.dspy.feedback import VOTES, has_vote, parse_feedback
from bindu.dspy.models import BinduTask, Feedback, JsonObject, Task, TaskState
from bindu.dspy.reports import ImportReport, ImportTally
from bindu.dspy.storage import Storage, agent_named, get_storage, serving_or_raise
from bindu.dspy.strategies import parse_turns

__all__ = ["BinduTables", "import_bindu"]

ENDED: Final = ("completed", "failed", "canceled", "rejected")  # Bindu never changes a task after these
LEGACY: Final = "public"  # where Bindu kept everything before it had a schema per agent


class BinduTables(Protocol):
    """What there is to read of a Bindu database."""

    place: str

    async def schemas(self) -> list[str]: ...

    def pages(self, schema: str, size: int) -> AsyncIterator[list[BinduTask]]: ...


async def import_bindu(
    source: BinduTables,
    *,
    schemas: Sequence[str] = (),
    agent_id: str | None = None,
    prompt_id: int | None = None,
    dry_run: bool = False,
    batch_size: int = 500,
) -> ImportReport:
    """Store every ended task of these schemas with its votes; what is known already is left as it is.

    A task keeps Bindu's id as its external id and its time; its context is the conversation and the unit. A task that
    has not ended is left for another import. Without ``schemas`` all are read, unless they are several agents'.

    Tasks belong to ``prompt_id``, by default the active prompt. A dry run stores nothing and needs no prompt; it counts
    the votes of known tasks as known. Raises ImportRefusedError, SourceUnavailableError, NoActivePromptError and
    UnknownPromptError; what was stored before stays, and another import goes on.
    """
    storage = await get_storage()
    agent_id = agent_named(agent_id)
    chosen = _chosen(source.place, await source.schemas(), schemas)
    if prompt_id is None and not dry_run:
        prompt_id = (await serving_or_raise(agent_id)).active.id
    tally = ImportTally()
    for schema in chosen:
        async for page in source.pages(schema, batch_size):
            batch = [task for task in page if _is_wanted(task, tally)]
            if dry_run:
                await _look_up(storage, agent_id, batch, tally)
            elif batch:
                await _store(storage, agent_id, cast("int", prompt_id), batch, tally)
    return tally.report(dry_run=dry_run)


def _chosen(place: str, found: Sequence[str], asked: Sequence[str]) -> list[str]:
    if not found:
        raise ImportRefusedError(
            f"No schema of {place} has Bindu's tables: tasks, contexts and task_feedback. "
            "Is it the database that your agent's STORAGE__POSTGRES_URL names?"
        )
    there = ", ".join(found)
    unknown = [schema for schema in asked if schema not in found]
    if unknown:
        raise ImportRefusedError(f"Schema '{unknown[0]}' of {place} has no Bindu tables. These have: {there}.")
    if not asked and len([schema for schema in found if schema != LEGACY]) > 1:
        raise ImportRefusedError(
            f"{place} holds several agents: {there}. Each has its own prompt, so import them one by one, each with "
            "--schema and the --agent that it is to become."
        )
    return list(dict.fromkeys(asked)) or list(found)


def _is_wanted(task: BinduTask, tally: ImportTally) -> bool:
    tally.counts["rows"] += 1
    tally.conversations.add(str(task.context_id))
    reason = _why_not(task)
    if reason is not None:
        tally.skipped[reason] += 1
    return reason is None


def _why_not(task: BinduTask) -> str | None:
    if task.state not in ENDED:
        return "tasks_that_have_not_ended"
    if not FIRST_DAY <= task.created_at <= datetime.now(UTC) + AHEAD:
        return "tasks_of_an_impossible_time"
    return None if parse_turns(_messages(task)) else "tasks_without_a_complete_turn"


def _messages(task: BinduTask) -> list[JsonObject]:
    """Its texts; files and embeddings stay where they are."""
    return clean_messages(task.history if isinstance(task.history, list) else [])


async def _store(
    storage: Storage, agent_id: str, prompt_id: int, batch: Sequence[BinduTask], tally: ImportTally
) -> None:
    tasks = [_task(agent_id, prompt_id, task) for task in batch]
    ids = await storage.add_tasks(tasks)
    tally.add_stored("tasks", ids, [task.id for task in tasks])
    votes = [vote for task_id, task in zip(ids, batch, strict=True) for vote in _votes(agent_id, task_id, task, tally)]
    stored = await storage.add_feedback(votes)
    tally.add_stored("votes", stored, [vote.id for vote in votes])


async def _look_up(storage: Storage, agent_id: str, batch: Sequence[BinduTask], tally: ImportTally) -> None:
    known = await storage.find_tasks(agent_id, [str(task.id) for task in batch])
    for task in batch:
        new = str(task.id) not in known
        votes = len(_votes(agent_id, task.id, task, tally))
        tally.add("tasks", int(new), 1)
        tally.add("votes", votes if new else 0, votes)


def _task(agent_id: str, prompt_id: int, task: BinduTask) -> Task:
    return Task(
        agent_id=agent_id,
        id=new_id(task.created_at),
        prompt_id=prompt_id,
        history=_messages(task),
        state=cast("TaskState", task.state),
        unit_id=str(task.context_id),
        context_id=str(task.context_id),
        external_id=str(task.id),
        created_at=task.created_at,
    )


def _votes(agent_id: str, task_id: UUID, task: BinduTask, tally: ImportTally) -> list[Feedback]:
    votes = []
    for number, data, at in task.feedback:
        try:
            shape, rater = _shape(data)
            kind, score = parse_feedback(shape)
        except (InvalidFeedbackError, InvalidArgumentError):
            commented = isinstance(data, Mapping) and not has_vote(data) and bool(data.get("feedback"))
            tally.skipped["comments_without_a_vote" if commented else "votes_of_no_known_shape"] += 1
            continue
        votes.append(
            Feedback(
                agent_id=agent_id,
                task_id=task_id,
                id=new_id(at),
                kind=kind,
                score=score,
                rater_id=rater,
                data=shape,
                comment=shape.get("comment"),
                idempotency_key=f"bindu:{number}",
                created_at=at,
            )
        )
    return votes


def _shape(data: Any) -> tuple[JsonObject, str]:
    """What ``tasks/feedback`` was sent, in our words, and who sent it: a client may say both in its metadata."""
    if not isinstance(data, Mapping):
        raise InvalidFeedbackError("Bindu's feedback is an object.")
    metadata = data.get("metadata")
    said = {**(metadata if isinstance(metadata, Mapping) else {}), **{k: v for k, v in data.items() if v is not None}}
    shape = {name: said[name] for name in (*VOTES, "correction") if said.get(name) is not None}
    comment = said.get("comment") or said.get("feedback")
    if isinstance(comment, str) and comment.strip():
        shape["comment"] = comment.strip()
    if not isinstance(shape.get("correction", ""), str):
        del shape["correction"]
    return shape, optional_id(said.get("rater_id") or said.get("user_id"), "rater_id") or ""
