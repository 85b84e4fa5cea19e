"""Orders may propose; they are no words about an answer, and whoever gives nothing else has no vote."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.models import Interaction
from bindu.dspy.orders import gives_orders, only_orders, without_orders
from bindu.dspy.splits import Split, conversations_of

ORDER, WORDS = "Always mention the sale.", "Nobody told me the price"


def row(number: int, *comments: str, raters: tuple[str, ...] = ("ann",), score: float | None = 0.2) -> Interaction:
    return Interaction(
        UUID(int=number), f"Question {number}?", "Answer.", score, "rating", raters=raters, comments=comments,
        correction="So.", unit_id=f"unit-{number}",
    )  # fmt: skip


def freed(*rows: Interaction) -> list[Interaction]:
    """The rows, which all teach, without orders."""
    found = without_orders(Split(tuple(conversations_of(rows)), (), (), raters_whole=True))
    return sorted(found.train_rows, key=lambda one: one.id)


def test_whoever_gives_nothing_but_orders_has_no_vote_and_no_comment() -> None:
    ordering, silent = freed(row(1, ORDER), row(2, score=1.0))
    assert (ordering.feedback_score, ordering.feedback_type, ordering.comments) == (None, None, ())
    assert (silent.feedback_score, silent.feedback_type) == (None, None)
    assert ordering.correction is silent.correction is None


def test_whoever_also_says_what_an_answer_was_like_keeps_the_vote() -> None:
    ordering, describing = freed(row(1, ORDER), row(2, WORDS))
    assert (ordering.feedback_score, ordering.comments) == (0.2, ())
    assert describing == row(2, WORDS)


def test_a_vote_of_several_people_counts_while_one_of_them_is_heard() -> None:
    _, shared = freed(row(1, ORDER), row(2, raters=("ann", "ben")))
    assert shared.feedback_score == 0.2


def test_words_beside_an_order_are_kept() -> None:
    (mixed,) = freed(row(1, WORDS, ORDER))
    assert (mixed.comments, mixed.feedback_score) == ((WORDS,), 0.2)
    assert not only_orders(row(1, WORDS, ORDER))


def test_who_of_several_raters_gave_an_order_or_described_nobody_knows() -> None:
    shared, mine = freed(row(1, ORDER, raters=("ann", "ben")), row(2, raters=("ben",)))
    assert (shared.feedback_score, shared.comments, mine.feedback_score) == (0.2, (), 0.2)
    ordering, _ = freed(row(1, ORDER), row(2, WORDS, raters=("ann", "ben")))
    assert ordering.feedback_score is None


def test_what_is_said_in_accept_decides_about_no_other_set() -> None:
    (teaching,), (proving,) = conversations_of([row(1, score=1.0)]), conversations_of([row(2, ORDER)])
    found = without_orders(Split((teaching,), (), (proving,), raters_whole=False))
    assert found.train == (teaching,)
    assert found.accept[0].rows[0].feedback_score is None


def test_nameless_raters_are_different_people() -> None:
    ordering, other = freed(row(1, ORDER, raters=("",)), row(2, raters=("",)))
    assert (ordering.comments, ordering.feedback_score) == ((), 0.2)
    assert other == row(2, raters=("",))


ROWS = st.lists(
    st.builds(
        lambda comments, raters, score: (tuple(comments), tuple(raters), score),
        st.lists(st.sampled_from([ORDER, WORDS, "Thanks"]), max_size=2),
        st.lists(st.sampled_from(["ann", "ben", "cleo", ""]), max_size=2, unique=True),
        st.sampled_from([None, 0.0, 1.0]),
    ),
    max_size=12,
).map(lambda drawn: [row(n, *said, raters=who, score=score) for n, (said, who, score) in enumerate(drawn, 1)])


@given(ROWS)
def test_only_orders_go_and_all_that_their_givers_say(rows: list[Interaction]) -> None:
    found = freed(*rows)
    assert len(found) == len(rows)
    for before, after in zip(rows, found, strict=True):
        assert not any(map(gives_orders, after.comments))
        assert set(before.comments) - set(after.comments) <= {ORDER}
        muted = {} if after.correction else {"feedback_score": None, "feedback_type": None, "correction": None}
        assert after == replace(before, comments=after.comments, **muted)
        if len(before.raters) == 1 and any(not gives_orders(one) for one in before.comments):
            assert after.feedback_score == before.feedback_score


@pytest.mark.parametrize(
    "comment",
    [
        "Always mention the offer.",
        "Perfect. Never apologise!",
        "Every answer must name a price",
        "You should always greet me",
        "please always add a link",
        "The bot has to know this",
        "From now on, be brief",
        "I want you to greet me",
        "The bot needs to know this",
        "Make sure to answer first",
    ],
)
def test_orders_are_told(comment: str) -> None:
    assert gives_orders(comment)


@pytest.mark.parametrize(
    "comment",
    [
        "They never asked which order I meant",
        "I always wait for weeks",
        "Useless. Never answered my question.",
        "Never told me the price",
        "Always too long!",
        "Never again, I'm ordering pizza",
        "Always the same canned reply.",
        "You should've told me the price",
        "In every reply you forgot my name",
        "In all answers the price was missing",
        "You should have told me the price",
        "They must have misread me, you must have misread me",
        "Nobody told me whether there is a fee",
        "Cold. Nobody seems to care about my trouble",
        "I had to ask twice how long it takes",
        "Good to know how long it takes",
    ],
)
def test_what_was_seen_is_no_order(comment: str) -> None:
    assert not gives_orders(comment)
