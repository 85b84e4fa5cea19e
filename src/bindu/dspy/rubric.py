"""What good answers do, in words that a judge can check: the prompt's instructions, then what users taught. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from bindu.dspy.errors import InvalidArgumentError
from bindu.dspy.models import JsonObject

__all__ = [
    "LONGEST_RULE",
    "MOST_RULES",
    "Rubric",
    "RubricOrigin",
    "RubricRule",
    "StoredRubric",
    "parse_rules",
    "rules_as_json",
    "rules_from_json",
]

RubricOrigin = Literal["induced", "edited", "released"]

MOST_RULES: Final = 12
LONGEST_RULE: Final = 300  # characters

_NUMBER = re.compile(r"^\s*(?:\d+[.)]|[-*\u2022\u2013])\s+")
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:#\d+)?"  # of a task; other words in brackets belong to the rule
_IDS = re.compile(rf"\[\s*({_ID}(?:[,\s]+{_ID})*)\s*\]$", re.IGNORECASE)
_JSON = re.compile(r"\s*(?:\{\s*[\"}]|\[\s*[\[{\"\]])")  # else a rule begins with a word in brackets


@dataclass(frozen=True, slots=True)
class RubricRule:
    """One checkable rule, and the tasks it was learned from; none when a person wrote it."""

    text: str
    task_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rubric:
    """What good answers do: the active prompt's own instructions, then at most MOST_RULES rules."""

    instructions: str
    rules: tuple[RubricRule, ...] = field(default=())

    @property
    def text(self) -> str:
        """What the judge reads; it names rules by their numbers, from 1."""
        parts = ["The answer follows the assistant's instructions:", self.instructions]
        if self.rules:
            parts += ["The answer also does what users asked for, which wins where the two differ:"]
            parts += [f"{number}. {one.text}" for number, one in enumerate(self.rules, 1)]
        return "\n".join(parts)

    @classmethod
    def from_json(cls, stored: JsonObject) -> Rubric:
        """What ``as_json`` gave."""
        return cls(stored["instructions"], rules_from_json(stored["rules"]))

    def as_json(self) -> JsonObject:
        """What the run's record keeps: each rule with the tasks behind it."""
        return {"instructions": self.instructions, "rules": rules_as_json(self.rules)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRubric:
    """Rules that training induced or a person edited; ``released`` has none: the edited one before it is not kept."""

    agent_id: str
    id: int  # counts up per agent, from 1
    origin: RubricOrigin
    rules: tuple[RubricRule, ...]
    prompt_id: int | None  # whose instructions they add to
    run_id: UUID | None  # that induced them
    actor: str
    reason: str
    created_at: datetime


def rules_as_json(rules: Iterable[RubricRule]) -> list[JsonObject]:
    """``[{"rule": ..., "task_ids": [...]}, ...]``."""
    return [{"rule": one.text, "task_ids": list(one.task_ids)} for one in rules]


def rules_from_json(stored: Iterable[JsonObject]) -> tuple[RubricRule, ...]:
    """What ``rules_as_json`` gave."""
    return tuple(RubricRule(one["rule"], tuple(one.get("task_ids", ()))) for one in stored)


def parse_rules(text: str) -> tuple[RubricRule, ...]:
    """Read rules that a person edited: a rule a line, or JSON as ``bindu dataset rubric --json`` prints it.

    A line may begin with its number or a dash and end with task ids in brackets. Lines that begin with # and empty
    ones are passed over. Raises InvalidArgumentError for what cannot be a rubric, saying which rule and why.
    """
    text = text.removeprefix("\ufeff")  # what some editors begin a file with
    rules = _from_json(text) if _JSON.match(text) else tuple(_from_lines(text))
    if not rules:
        raise InvalidArgumentError(
            "The rubric has no rule. Write one a line, or leave the rubric to the next training."
        )
    if len(rules) > MOST_RULES:
        raise InvalidArgumentError(f"The rubric has {len(rules)} rules and may have {MOST_RULES}. Leave some out.")
    for number, rule in enumerate(rules, 1):
        if not rule.text or len(rule.text) > LONGEST_RULE:
            raise InvalidArgumentError(
                f"Rule {number} has {len(rule.text)} characters and may have 1 to {LONGEST_RULE}. Say it shorter."
            )
    return rules


def _from_lines(text: str) -> Iterable[RubricRule]:
    for line in text.splitlines():
        plain = _NUMBER.sub("", line).strip()
        if not plain or line.lstrip().startswith("#"):
            continue
        ids = _IDS.search(plain)
        yield RubricRule(_IDS.sub("", plain).strip(), tuple(re.split(r"[,\s]+", ids[1])) if ids else ())


def _from_json(text: str) -> tuple[RubricRule, ...]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_rubric(str(error)) from None
    rules = found.get("rules") if isinstance(found, dict) else found
    if not isinstance(rules, list):
        raise _no_rubric("it has no list of rules")
    return tuple(_from_object(number, one) for number, one in enumerate(rules, 1))


def _from_object(number: int, one: object) -> RubricRule:
    if isinstance(one, dict) and isinstance(one.get("rule"), str) and isinstance(one.get("task_ids", []), list):
        return RubricRule(" ".join(one["rule"].split()), tuple(map(str, one.get("task_ids", ()))))
    raise _no_rubric(f"rule {number} has another form")


def _no_rubric(why: str) -> InvalidArgumentError:
    form = '{"rules": [{"rule": "...", "task_ids": ["..."]}]}'
    return InvalidArgumentError(f"The rubric is no JSON of the form {form}: {why}.")
