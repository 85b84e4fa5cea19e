"""Nobody's words teach and prove at the same time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.models import Interaction
from bindu.dspy.splits import Conversation, conversations_of, count_raters, split_conversations

START = datetime(2026, 1, 1, tzinfo=UTC)


def row(number: int, *, context: str | None = None, rater: str = "", window: int | None = None) -> Interaction:
    return Interaction(
        id=UUID(int=number + 1),
        user_input=f"question {number}",
        agent_output="answer",
        feedback_score=0.4,
        context_id=context,
        created_at=START + timedelta(minutes=number),
        window=window,
        raters=(rater,),
    )


ROWS = st.lists(
    st.builds(
        row,
        st.integers(0, 200),
        context=st.none() | st.integers(0, 40).map(str),
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
    assert not spent & {one.id for one in split.accept}


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
    rows = [row(1), row(2), row(3, rater="anonymous-1"), row(4, rater="ann"), row(5, rater="ann")]
    conversations: list[Conversation] = conversations_of(rows)
    assert count_raters(conversations) == 4


def test_sibling_answers_of_one_unit_stay_together() -> None:
    siblings = [replace(row(number, context=f"message-{number}"), unit_id="tree") for number in range(3)]
    assert [one.id for one in conversations_of(siblings)] == ["tree"]
