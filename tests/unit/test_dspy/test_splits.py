"""Nobody's words teach and prove at the same time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.models import Interaction
from bindu.dspy.splits import Conversation, by_person, conversations_of, count_raters, folds, split_conversations

START = datetime(2026, 1, 1, tzinfo=UTC)


def row(
    number: int,
    *,
    context: str | None = None,
    unit: str | None = None,
    rater: str = "",
    window: int | None = None,
) -> Interaction:
    return Interaction(
        id=UUID(int=number + 1),
        user_input=f"question {number}",
        agent_output="answer",
        feedback_score=0.4,
        context_id=context,
        created_at=START + timedelta(minutes=number),
        window=window,
        raters=(rater,),
        unit_id=unit,
    )


ROWS = st.lists(
    st.builds(
        row,
        st.integers(0, 200),
        context=st.none() | st.integers(0, 40).map(str),
        unit=st.none() | st.integers(0, 40).map(lambda number: f"u{number}"),
        rater=st.integers(0, 30).map(lambda number: f"rater-{number}" if number else ""),
    ),
    max_size=120,
)


@given(ROWS, st.integers(1, 20), st.integers(1, 10), st.sets(st.integers(0, 40).map(str)))
def test_every_conversation_lands_in_exactly_one_set(
    rows: list[Interaction], accept: int, select: int, spent: set[str]
) -> None:
    conversations = conversations_of(rows)
    split = split_conversations(conversations, accept=accept, select=select, train_rows=8, spent=spent)
    landed = [one.id for part in (split.train, split.select, split.accept) for one in part]
    assert sorted(landed) == sorted(one.id for one in conversations)
    assert not spent & {name for one in split.accept for name in one.names}


@given(ROWS, st.integers(1, 20), st.integers(1, 10))
def test_no_unit_and_no_context_lies_in_two_sets(rows: list[Interaction], accept: int, select: int) -> None:
    split = split_conversations(conversations_of(rows), accept=accept, select=select, train_rows=8)
    parts = [[row for one in part for row in one.rows] for part in (split.train, split.select, split.accept)]
    for field in ("unit_id", "context_id"):
        names = [{getattr(row, field) for row in part} - {None} for part in parts]
        assert sum(map(len, names)) == len(set().union(*names))


@given(ROWS)
def test_conversations_are_what_is_linked_and_nothing_else(rows: list[Interaction]) -> None:
    conversations = conversations_of(rows)
    names = [name for one in conversations for name in one.names]
    assert len(names) == len(set(names))
    assert sorted({(row.id, row.window) for row in rows}, key=str) == sorted(
        ((row.id, row.window) for one in conversations for row in one.rows), key=str
    )
    for one in conversations:  # every row but the first shares a name with the rows linked so far
        linked, waiting = set(one.rows[:1]), list(one.rows[1:])
        while found := [row for row in waiting if any(_link(row, other) for other in linked)]:
            linked.update(found)
            waiting = [row for row in waiting if row not in linked]
        assert waiting == []


def _link(one: Interaction, other: Interaction) -> bool:
    return bool({one.unit_id, one.context_id} & {other.unit_id, other.context_id} - {None})


@given(ROWS, st.integers(1, 20), st.integers(1, 10))
def test_each_set_is_in_time_order(rows: list[Interaction], accept: int, select: int) -> None:
    split = split_conversations(conversations_of(rows), accept=accept, select=select, train_rows=8)
    for part in (split.train, split.select, split.accept):
        assert [one.last_at for one in part] == sorted(one.last_at for one in part)
    ages = [row.created_at or START for row in split.train_rows]
    assert ages == sorted(ages)


@given(ROWS, st.integers(1, 20), st.integers(1, 10))
def test_people_stay_whole_whenever_the_split_says_so(rows: list[Interaction], accept: int, select: int) -> None:
    split = split_conversations(conversations_of(rows), accept=accept, select=select, train_rows=8)
    people = [{rater for one in part for rater in one.raters} for part in (split.train, split.select, split.accept)]
    if split.raters_whole:
        assert not people[0] & people[1]
        assert not people[0] & people[2]
        assert not people[1] & people[2]
        assert len(split.accept) >= accept


def test_without_people_the_newest_prove_and_the_oldest_teach() -> None:
    split = split_conversations(conversations_of([row(n) for n in range(100)]), accept=30, select=16, train_rows=32)
    assert split.raters_whole
    newest_first = [max(int(one.rows[0].user_input.split()[1]) for one in part) for part in (split.train, split.select)]
    assert newest_first == [53, 69]
    assert len(split.accept) == 30


def test_one_person_who_rates_everything_does_not_stop_training() -> None:
    rows = [row(n, rater="qa") for n in range(100)]
    split = split_conversations(conversations_of(rows), accept=30, select=16, train_rows=32)
    assert not split.raters_whole
    assert (len(split.train), len(split.select), len(split.accept)) == (54, 16, 30)


def test_somebody_who_talked_much_teaches_and_the_others_prove() -> None:
    rows = [row(n, rater="regular" if n >= 80 else "") for n in range(160)]
    split = split_conversations(conversations_of(rows), accept=30, select=16, train_rows=32)
    assert split.raters_whole
    assert all("regular" not in one.raters for one in (*split.accept, *split.select))


def test_windows_of_one_task_are_one_conversation_and_repeated_rows_count_once() -> None:
    rows = [row(1, window=0), row(1, window=1), row(1, window=1), row(2, context="c"), row(3, context="c")]
    grouped = conversations_of(rows)
    assert [len(one.rows) for one in grouped] == [2, 2]


def test_anonymous_votes_are_one_person_per_conversation() -> None:
    rows = [row(1), row(2), row(3, rater="anonymous-1@m3"), row(4, rater="ann"), row(5, rater="ann")]
    conversations: list[Conversation] = conversations_of(rows)
    assert count_raters(conversations) == 4


def test_sibling_answers_of_one_unit_stay_together() -> None:
    siblings = [replace(row(number, context=f"message-{number}"), unit_id="tree") for number in range(3)]
    assert [one.id for one in conversations_of(siblings)] == ["tree"]


def test_two_users_of_one_conversation_and_two_conversations_of_one_user_are_one() -> None:
    rows = [row(1, context="a", unit="ann"), row(2, context="a", unit="bob"), row(3, context="b", unit="bob"), row(4)]
    assert [[one.user_input for one in it.rows] for it in conversations_of(rows)] == [
        ["question 1", "question 2", "question 3"],
        ["question 4"],
    ]


def test_a_conversation_that_grew_is_still_the_one_that_was_spent() -> None:
    rows = [row(n, context=f"c{n}") for n in range(100)]
    split = split_conversations(conversations_of(rows), accept=10, select=4, train_rows=8)
    spent = {name for one in split.accept for name in one.names}
    grown = [*rows, *(replace(row(200 + n, context=f"c{n}"), unit_id="a-team") for n in (95, 12))]
    again = split_conversations(conversations_of(grown), accept=10, select=4, train_rows=8, spent=spent)
    assert len(again.accept) == 10
    assert not {"c95", "c12"} & {name for one in again.accept for name in one.names}


def test_somebody_called_anonymous_something_is_somebody() -> None:
    rows = [row(n, rater="anonymous-ann") for n in range(3)]
    assert count_raters(conversations_of(rows)) == 1


@given(ROWS, st.integers(2, 5))
def test_folds_share_nobody_and_lose_nothing(rows: list[Interaction], number: int) -> None:
    conversations = conversations_of(rows)
    parts = folds(conversations, number)
    assert len(parts) == number
    assert sorted(one.id for part in parts for one in part) == sorted(one.id for one in conversations)
    assert all([one.last_at for one in part] == sorted(one.last_at for one in part) for part in parts)
    sizes = [sum(len(one.rows) for one in part) for part in parts]
    groups = [sum(len(one.rows) for one in group) for group in by_person(conversations)]
    if max(groups, default=0) * number <= sum(sizes):
        people = [set[str]().union(*(one.raters for one in part)) for part in parts]
        assert sum(map(len, people)) == len(set[str]().union(*people))
        assert max(sizes) - min(sizes) <= max(groups, default=0)
