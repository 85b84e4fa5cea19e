"""Rows of the database become values of ``models``, and JSON becomes text that PostgreSQL takes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec
from asyncpg import Record

from bindu.dspy.models import Decision, Experiment, Prompt, PromptMetrics, RawTask, Serving, TrainingRun, Vote
from bindu.dspy.rubric import StoredRubric, rules_from_json
from bindu.dspy.units import FirstRequest, RatedUnit, TimedVote

__all__ = [
    "clean",
    "from_json",
    "to_decision",
    "to_experiment",
    "to_first_request",
    "to_json",
    "to_metrics",
    "to_prompt",
    "to_rated_units",
    "to_raw_task",
    "to_rubric",
    "to_run",
    "to_serving",
    "to_timed_vote",
]

from_json = msgspec.json.Decoder().decode
_votes = msgspec.json.Decoder(tuple[Vote, ...]).decode


def clean(text: str) -> str:
    """What PostgreSQL cannot store (NUL and lone surrogates, which models do emit) becomes U+FFFD."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _clean_json(value: Any) -> Any:
    match value:
        case str():
            return clean(value)
        case dict():
            return {_clean_json(key): _clean_json(item) for key, item in value.items()}
        case list() | tuple():
            return [_clean_json(item) for item in value]
        case _:
            return value


def to_json(value: Any) -> str:
    """JSON text; what PostgreSQL cannot store in it is replaced, so that no conversation is lost over it."""
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(_clean_json(value)).decode()
    return text if "\\u0000" not in text else msgspec.json.encode(_clean_json(value)).decode()


def to_prompt(agent_id: str, row: Record) -> Prompt:
    return Prompt(
        agent_id=agent_id,
        id=row["id"],
        text=row["text"],
        status=row["status"],
        traffic=row["traffic"],
        parent_id=row["parent_id"],
        origin=row["origin"],
        metadata=from_json(row["metadata"]),
        created_at=row["created_at"],
    )


def to_serving(agent_id: str, rows: list[Record]) -> Serving | None:
    """One or two rows: each live prompt, with the columns of the serving row repeated."""
    if not rows:
        return None
    live = {row["status"]: to_prompt(agent_id, row) for row in rows}
    return Serving(
        agent_id=agent_id,
        version=rows[0]["version"],
        active=live["active"],
        candidate=live.get("candidate"),
        share=rows[0]["candidate_share"],
        experiment_id=rows[0]["experiment_id"],
        epoch=rows[0]["epoch"],
    )


def to_metrics(row: Record) -> PromptMetrics:
    return PromptMetrics(**row)


def to_experiment(row: Record) -> Experiment:
    return Experiment(**{**row, "policy": from_json(row["policy"])})


def to_decision(row: Record) -> Decision:
    return Decision(**{**row, "inputs": from_json(row["inputs"]), "evidence": from_json(row["evidence"])})


def to_run(row: Record) -> TrainingRun:
    return TrainingRun(**{**row, "details": from_json(row["details"])})


def to_rubric(row: Record) -> StoredRubric:
    return StoredRubric(**{**row, "rules": rules_from_json(from_json(row["rules"]))})


def to_raw_task(row: Record, earlier: str | None) -> RawTask:
    return RawTask(
        id=row["id"],
        prompt_id=row["prompt_id"],
        unit_id=row["unit_id"],
        context_id=row["context_id"],
        created_at=row["created_at"],
        history=from_json(row["history"]),
        votes=_votes(row["votes"]) if row["votes"] else (),
        earlier=tuple(from_json(earlier)) if earlier else (),
    )


def to_first_request(row: Record) -> FirstRequest:
    """What older code stored, which looked at no answer, counts as one that went well."""
    return FirstRequest(**{**row, "failed": bool(row["failed"]), "refused": bool(row["refused"])})


def to_rated_units(rows: Sequence[Record]) -> tuple[RatedUnit, ...]:
    """One row per vote, those of a unit together, with the columns of the unit repeated."""
    units = []
    for _, votes in groupby(rows, key=lambda row: row["unit_id"]):
        first, *others = votes
        units.append(
            RatedUnit(
                unit_id=first["unit_id"],
                arm=first["arm"],
                epoch=first["epoch"],
                first_at=first["first_at"],
                rated_at=first["rated_at"],
                votes=tuple(map(to_timed_vote, (first, *others))),
            )
        )
    return tuple(units)


def to_timed_vote(row: Record) -> TimedVote:
    return TimedVote(
        task_id=row["task_id"], rater_id=row["rater_id"], kind=row["kind"], score=row["score"], at=row["at"]
    )
