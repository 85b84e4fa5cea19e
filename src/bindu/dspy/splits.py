"""Which conversations teach, which choose and which prove: never the same person in two of them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from typing import TypeVar

from bindu.dspy.errors import TrainingRefusedError
from bindu.dspy.feedback import is_anonymous
from bindu.dspy.models import FAILED_BELOW, Dataset, Interaction

__all__ = [
    "Conversation",
    "Split",
    "by_person",
    "conversations_of",
    "count",
    "count_raters",
    "folds",
    "refuse_too_few",
    "split_conversations",
    "split_or_refuse",
]

Item = TypeVar("Item")

_EPOCH = datetime.min.replace(tzinfo=UTC)
_OVERSHOOT = 1.5  # a set may grow this much past its size to keep somebody whole; who talked more teaches
_MOST_ACCEPT = 45  # conversations: half more than the least, for power
_ACCEPT_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Conversation:
    """All examples cut from one conversation, oldest first."""

    id: str
    rows: tuple[Interaction, ...]

    @property
    def last_at(self) -> datetime:
        return max(row.created_at or _EPOCH for row in self.rows)

    @property
    def scored(self) -> bool:
        return any(row.feedback_score is not None for row in self.rows)

    @property
    def raters(self) -> set[str]:
        """Known people; an anonymous vote is a person of this conversation alone."""
        return {rater for row in self.rows for rater in row.raters if not is_anonymous(rater)}

    @property
    def names(self) -> set[str]:
        """Every unit and context it goes by; more rows may make it larger, but never rename it."""
        return {name for row in self.rows for name in _names(row)}


@dataclass(frozen=True, slots=True)
class Split:
    """Three sets of conversations, each oldest first; the optimizer never sees *accept*."""

    train: tuple[Conversation, ...]
    select: tuple[Conversation, ...]
    accept: tuple[Conversation, ...]
    raters_whole: bool  # False when so few people rated that only conversations could be kept apart

    @property
    def train_rows(self) -> list[Interaction]:
        """Oldest first."""
        return sorted((row for conversation in self.train for row in conversation.rows), key=_age)


def conversations_of(rows: Iterable[Interaction]) -> list[Conversation]:
    """Group examples that share a unit or a context, directly or through others; oldest conversation first.

    Sibling answers of one conversation, as imported logs have them, stay together by their unit.
    """
    once = {(row.id, row.window): row for row in rows}
    made = []
    for group in _joined(list(once.values()), _names):
        group.sort(key=_age)
        made.append(Conversation(_names(group[0])[0], tuple(group)))
    return sorted(made, key=_recency)


def by_person(conversations: Sequence[Conversation]) -> list[list[Conversation]]:
    """Group conversations that share a rater, directly or through others; anonymous ones stand alone."""
    return _joined(conversations, lambda conversation: sorted(conversation.raters))


def folds(conversations: Sequence[Conversation], number: int) -> list[list[Conversation]]:
    """Sets of about equally many examples, each oldest first, people whole unless one of them overfills a set."""
    groups = by_person(conversations)
    total = sum(len(one.rows) for one in conversations)
    if any(number * sum(len(one.rows) for one in group) > total for group in groups):
        groups = [[one] for one in conversations]
    found: list[list[Conversation]] = [[] for _ in range(number)]
    sizes = [0] * number
    for group in sorted(groups, key=lambda group: max(map(_recency, group)), reverse=True):
        smallest = sizes.index(min(sizes))
        found[smallest].extend(group)
        sizes[smallest] += sum(len(one.rows) for one in group)
    return [sorted(one, key=_recency) for one in found]


def count(dataset: Dataset, conversations: Sequence[Conversation]) -> dict[str, int]:
    """What there is to learn from, as ``refuse_too_few`` and the run's record want it."""
    scored = [one for one in conversations if one.scored]
    return {
        "conversations": len(conversations),
        "scored_conversations": len(scored),
        "failures": sum(
            any(row.feedback_score is not None and row.feedback_score < FAILED_BELOW for row in one.rows)
            for one in scored
        ),
        "raters": count_raters(scored),
        "examples": len({(row.id, row.window) for row in (*dataset.golden, *dataset.failures)}),
    }


def count_raters(conversations: Iterable[Conversation]) -> int:
    """People who voted: the known ones, and one unknown for each conversation with an anonymous vote."""
    known: set[str] = set()
    unknown = 0
    for conversation in conversations:
        known |= conversation.raters
        unknown += any(is_anonymous(rater) for row in conversation.rows for rater in row.raters)
    return len(known) + unknown


def refuse_too_few(counts: Mapping[str, int], *, scored_conversations: int, failures: int, raters: int) -> None:
    """Raise TrainingRefusedError that says every lack at once: have, need, and what to do."""
    needs = {
        "scored_conversations": ("conversations with feedback", scored_conversations),
        "failures": ("conversations that users disliked", failures),
        "raters": ("people who voted", raters),
    }
    lacks = [f"{counts[key]} {what}, need {need}" for key, (what, need) in needs.items() if counts[key] < need]
    if lacks:
        raise TrainingRefusedError(
            f"Too little to learn from: have {'; have '.join(lacks)}. Nothing was spent or deployed. "
            "Collect more feedback, then train again."
        )


def split_or_refuse(
    conversations: Sequence[Conversation],
    *,
    fewest: int,
    select: int,
    train_rows: int,
    optimizer: str,
    spent: Collection[str],
) -> Split:
    """Split with three tenths of the conversations, at least ``fewest``, in *accept*.

    Raises TrainingRefusedError when fewer are left to prove, or fewer than ``train_rows`` examples to train
    ``optimizer`` on.
    """
    accept = max(fewest, min(_MOST_ACCEPT, int(_ACCEPT_SHARE * len(conversations))))
    split = split_conversations(conversations, accept=accept, select=select, train_rows=train_rows, spent=spent)
    if len(split.accept) < fewest:
        missing = fewest - len(split.accept)
        raise TrainingRefusedError(
            f"Too little to prove a gain on: have {len(split.accept)} conversations that proved nothing before, need "
            f"{fewest}{_days(conversations, missing)}. Nothing was spent or deployed."
        )
    if len(split.train_rows) < train_rows:
        raise TrainingRefusedError(
            f"Too little to train on: {optimizer} needs {train_rows} examples and "
            f"{len(split.train_rows)} are left beside those that choose and prove. Nothing was spent or deployed. "
            "Collect more feedback, then train again."
        )
    return split


def split_conversations(
    conversations: Sequence[Conversation],
    *,
    accept: int,
    select: int,
    train_rows: int,
    spent: Collection[str] = (),
) -> Split:
    """Give the newest conversations to *accept*, the next to *select*, the rest to *train*.

    Conversations that go by a name in ``spent`` proved something before and are not asked again. People stay whole
    when that leaves ``accept`` conversations and ``train_rows`` examples; else only conversations do.
    """
    whole = _deal(by_person(conversations), accept, select, spent, raters_whole=True)
    if len(whole.accept) >= accept and whole.select and len(whole.train_rows) >= train_rows:
        return whole
    return _deal([[one] for one in conversations], accept, select, spent, raters_whole=False)


def _deal(
    groups: Sequence[Sequence[Conversation]], accept: int, select: int, spent: Collection[str], *, raters_whole: bool
) -> Split:
    newest_first = sorted(groups, key=lambda group: max(map(_recency, group)), reverse=True)
    used = set(spent)
    proof: list[Conversation] = []
    choice: list[Conversation] = []
    lesson: list[Conversation] = []
    for group in newest_first:
        fresh = not any(one.names & used for one in group)
        if fresh and len(proof) < accept and len(proof) + len(group) <= _OVERSHOOT * accept:
            proof.extend(group)
        elif len(choice) < select and len(choice) + len(group) <= _OVERSHOOT * select:
            choice.extend(group)
        else:
            lesson.extend(group)
    train, chosen, proven = (tuple(sorted(part, key=_recency)) for part in (lesson, choice, proof))
    return Split(train, chosen, proven, raters_whole)


def _joined(items: Sequence[Item], names: Callable[[Item], Iterable[str]]) -> list[list[Item]]:
    """Group items that share a name, directly or through others."""
    leader = list(range(len(items)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    first_of: dict[str, int] = {}
    for index, item in enumerate(items):
        for name in names(item):
            leader[find(index)] = find(first_of.setdefault(name, index))
    groups: dict[int, list[Item]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[find(index)].append(item)
    return list(groups.values())


def _names(row: Interaction) -> list[str]:
    return [name for name in (row.unit_id, row.context_id) if name] or [str(row.id)]


def _age(row: Interaction) -> tuple[datetime, str, int]:
    return row.created_at or _EPOCH, str(row.id), row.window or 0


def _recency(conversation: Conversation) -> tuple[datetime, str]:
    return conversation.last_at, conversation.id


def _days(conversations: Sequence[Conversation], missing: int) -> str:
    """How long that takes at the pace so far."""
    span = (conversations[-1].last_at - conversations[0].last_at).total_seconds() / 86_400
    return f", about {ceil(missing * span / len(conversations))} days at the present pace" if span > 0 else ""
