"""A click of any shape becomes a score, or a sentence that says what is accepted."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy import dataset
from bindu.dspy.errors import InvalidFeedbackError
from bindu.dspy.feedback import (
    anonymous_rater,
    is_anonymous,
    is_remark,
    normalize_feedback,
    parse_feedback,
    task_score,
)
from bindu.dspy.models import Vote

VOTES = ("rating", "thumbs_up", "score", "label")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
votes = st.builds(
    Vote,
    kind=st.sampled_from(["rating", "thumbs_up"]),
    score=st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    rater_id=st.text(max_size=3),
)


@pytest.mark.parametrize(
    ("given", "kind", "score"),
    [
        ({"rating": 1}, "rating", 0.2),
        ({"rating": 4.5}, "rating", 0.9),
        ({"rating": " 3 "}, "rating", 0.6),
        ({"rating": "2.5"}, "rating", 0.5),
        ({"rating": 5, "thumbs_up": False}, "rating", 1.0),
        ({"rating": None, "thumbs_up": True}, "thumbs_up", 1.0),
        ({"thumbs_up": "Down"}, "thumbs_up", 0.0),
        ({"thumbs_up": " YES ", "comment": "nice"}, "thumbs_up", 1.0),
        ({"thumbs_up": "no"}, "thumbs_up", 0.0),
        ({"thumbs_up": "0"}, "thumbs_up", 0.0),
        ({"thumbs_up": 1}, "thumbs_up", 1.0),
        ({"thumbs_up": 0}, "thumbs_up", 0.0),
        ({"score": 0.35}, "thumbs_up", 0.35),
        ({"score": "1"}, "thumbs_up", 1.0),
        ({"score": 0, "label": "good"}, "thumbs_up", 0.0),
        ({"thumbs_up": True, "score": 0}, "thumbs_up", 1.0),
        ({"label": "Good"}, "thumbs_up", 1.0),
        ({"label": " thumbs down "}, "thumbs_up", 0.0),
    ],
)
def test_every_accepted_shape_has_its_score(given: dict[str, Any], kind: str, score: float) -> None:
    assert parse_feedback(given) == (kind, score)
    assert normalize_feedback(given) == (score, kind)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"stars": 5},
        {"rating": 99},
        {"rating": 0},
        {"rating": 5.01},
        {"rating": -1},
        {"rating": True},
        {"rating": float("nan")},
        {"rating": "nan"},
        {"rating": float("inf")},
        {"rating": 10**5000},
        {"rating": "five"},
        {"rating": [5]},
        {"rating": 99, "thumbs_up": True},
        {"thumbs_up": 2},
        {"thumbs_up": 0.5},
        {"thumbs_up": "maybe"},
        {"thumbs_up": []},
    ],
)
def test_other_shapes_are_refused_and_the_sentence_says_what_is_accepted(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidFeedbackError, match=r"1 to 5.*true or false"):
        parse_feedback(given)
    assert normalize_feedback(given) == (None, None)


def test_a_refused_rating_is_named() -> None:
    with pytest.raises(InvalidFeedbackError, match="99"):
        parse_feedback({"rating": 99})


@given(st.dictionaries(st.sampled_from(["rating", "thumbs_up", "comment"]), json_values))
def test_any_object_is_a_vote_in_zero_to_one_or_refused(data: dict[str, Any]) -> None:
    try:
        kind, score = parse_feedback(data)
    except InvalidFeedbackError:
        assert normalize_feedback(data) == (None, None)
    else:
        assert kind in data
        assert 0 <= score <= 1
        assert normalize_feedback(data) == (score, kind)


@given(json_values)
def test_the_lenient_reading_never_raises(data: Any) -> None:
    score, kind = normalize_feedback(data)
    assert (score is None) == (kind is None)


def test_the_lenient_reading_lives_in_the_dataset_module_too() -> None:
    assert dataset.normalize_feedback is normalize_feedback


@given(st.lists(votes, min_size=1, max_size=9))
def test_a_tasks_score_is_the_mean_over_all_raters_whatever_they_clicked(given: list[Vote]) -> None:
    score, kind = task_score(given)
    assert score == pytest.approx(fmean(vote.score for vote in given))
    stars = sum(vote.kind == "rating" for vote in given)
    assert kind == ("rating" if 2 * stars >= len(given) else "thumbs_up")
    assert task_score(given[::-1]) == (score, kind)


def test_equal_votes_keep_their_exact_score() -> None:
    for score in (0.2, 0.4, 0.6, 0.8):
        assert task_score([Vote(kind="rating", score=score)] * 3) == (score, "rating")


def test_a_task_without_votes_has_no_score() -> None:
    assert task_score([]) == (None, None)


@given(st.integers(1, 10_000), st.text(min_size=1), st.sampled_from([None, "up", "down"]))
def test_a_made_up_rater_is_known_to_be_nobody(number: int, row: str, thumb: Any) -> None:
    assert is_anonymous(anonymous_rater(number, row, thumb))


@pytest.mark.parametrize("rater", ["", "anonymous-1@m", "anonymous-up-12@a@b\n", "anonymous-down-1@x y"])
def test_votes_without_a_person_are_anonymous(rater: str) -> None:
    assert is_anonymous(rater)


@pytest.mark.parametrize(
    "rater", ["anonymous", "anonymous-", "anonymous-ann", "anonymous-1", "anonymous-1@", "anonymous-left-1@m", "x-1@m"]
)
def test_people_may_call_themselves_anonymous(rater: str) -> None:
    assert not is_anonymous(rater)


@pytest.mark.parametrize("given", [{"comment": "Late."}, {"correction": "On Friday.", "rating": None}])
def test_words_without_a_vote_are_a_remark(given: dict[str, Any]) -> None:
    assert is_remark(given)
    with pytest.raises(InvalidFeedbackError):
        parse_feedback(given)


@given(st.dictionaries(st.sampled_from([*VOTES, "comment", "correction", "other"]), json_values, max_size=4))
def test_feedback_is_a_vote_or_a_remark_or_refused_and_never_two_of_them(data: dict[str, Any]) -> None:
    try:
        _, score = parse_feedback(data)
    except InvalidFeedbackError:
        assert not is_remark(data) or all(data.get(name) is None for name in VOTES)
    else:
        assert 0 <= score <= 1
        assert not is_remark(data)
