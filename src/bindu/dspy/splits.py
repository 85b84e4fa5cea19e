"""Which conversations teach, which choose and which prove: never the same person in two of them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bindu.dspy.models import Interaction

__all__ = ["Conversation", "Split", "conversations_of", "count_raters", "split_conversations"]

_EPOCH = datetime.min.replace(tzinfo=UTC)
_OVERSHOOT = 1.5  # a set may grow this much past its size to keep somebody whole; who talked more teaches


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
        return {rater for row in self.rows for rater in row.raters if not _anonymous(rater)}


@dataclass(frozen=True, slots=True)
class Split:
    """Three sets of conversations; *accept* holds the newest and the optimizer never sees it."""

    train: tuple[Conversation, ...]
    select: tuple[Conversation, ...]
    accept: tuple[Conversation, ...]
    raters_whole: bool  # False when so few people rated that only conversations could be kept apart

    @property
    def train_rows(self) -> list[Interaction]:
        return [row for conversation in self.train for row in conversation.rows]


def _anonymous(rater: str) -> bool:
    return not rater or rater.startswith("anonymous")


def conversations_of(rows: Iterable[Interaction]) -> list[Conversation]:
    """Group examples by unit, else by context, else by task; oldest conversation first, ties by id.

    Sibling answers of one conversation, as imported logs have them, stay together by their unit.
    """
    groups: dict[str, dict[tuple[object, ...], Interaction]] = defaultdict(dict)
    for row in rows:
        groups[row.unit_id or row.context_id or str(row.id)].setdefault((row.id, row.window), row)
    made = [
        Conversation(name, tuple(sorted(found.values(), key=lambda row: (row.created_at or _EPOCH, str(row.id)))))
        for name, found in groups.items()
    ]
    return sorted(made, key=lambda conversation: (conversation.last_at, conversation.id))


def count_raters(conversations: Iterable[Conversation]) -> int:
    """People who voted: the known ones, and one unknown for each conversation with an anonymous vote."""
    known: set[str] = set()
    unknown = 0
    for conversation in conversations:
        known |= conversation.raters
        unknown += any(_anonymous(rater) for row in conversation.rows for rater in row.raters)
    return len(known) + unknown


def split_conversations(
    conversations: Sequence[Conversation],
    *,
    accept: int,
    select: int,
    train_rows: int,
    spent: Collection[str] = (),
) -> Split:
    """Give the newest conversations to *accept*, the next to *select*, the rest to *train*.

    Conversations in ``spent`` proved something before and are not asked again. People stay whole when that
    leaves ``accept`` conversations and ``train_rows`` examples; else only conversations do.
    """
    by_person = _deal(_by_person(conversations), accept, select, spent, raters_whole=True)
    if len(by_person.accept) >= accept and by_person.select and len(by_person.train_rows) >= train_rows:
        return by_person
    return _deal([[one] for one in conversations], accept, select, spent, raters_whole=False)


def _deal(
    groups: Sequence[Sequence[Conversation]], accept: int, select: int, spent: Collection[str], *, raters_whole: bool
) -> Split:
    newest_first = sorted(groups, key=lambda group: max((one.last_at, one.id) for one in group), reverse=True)
    proof: list[Conversation] = []
    choice: list[Conversation] = []
    lesson: list[Conversation] = []
    for group in newest_first:
        fresh = not any(one.id in spent for one in group)
        if fresh and len(proof) < accept and len(proof) + len(group) <= _OVERSHOOT * accept:
            proof.extend(group)
        elif len(choice) < select and len(choice) + len(group) <= _OVERSHOOT * select:
            choice.extend(group)
        else:
            lesson.extend(group)
    return Split(tuple(lesson), tuple(choice), tuple(proof), raters_whole)


def _by_person(conversations: Sequence[Conversation]) -> list[list[Conversation]]:
    """Join conversations that share a rater, directly or through others."""
    leader = list(range(len(conversations)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    first_of: dict[str, int] = {}
    for index, conversation in enumerate(conversations):
        for rater in sorted(conversation.raters):
            leader[find(index)] = find(first_of.setdefault(rater, index))
    groups: dict[int, list[Conversation]] = defaultdict(list)
    for index, conversation in enumerate(conversations):
        groups[find(index)].append(conversation)
    return list(groups.values())
