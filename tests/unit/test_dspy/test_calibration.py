"""A scorer is trusted for what it sees in an answer, never for the answer's length."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bindu.dspy.calibration import Rated, calibrate

RATED = st.builds(
    Rated,
    score=st.integers(0, 5).map(lambda stars: stars / 5),
    predicted=st.integers(-20, 20).map(float),
    length=st.integers(0, 40),
    kind=st.sampled_from(["rating", "thumbs_up"]),
)
ROWS = st.lists(RATED, max_size=80)


def real_answers(predicted: Callable[[int], float]) -> list[Rated]:
    """The shipped replies with thumbs, as a scorer that sees their length only scores them."""
    source = files("bindu.dspy.simulation").joinpath("data/oasst_en100_turns.jsonl")
    rows = []
    for line in source.read_text(encoding="utf-8").splitlines():
        reply = json.loads(line)
        up, down = reply["feedback"]["thumbs_up"], reply["feedback"]["thumbs_down"]
        if up + down:
            length = len(reply["messages"][-1]["content"])
            rows.append(Rated(up / (up + down), predicted(length), length, "thumbs_up"))
    return rows


def drawn(seed: int, insight: float, n: int) -> list[Rated]:
    """Half stars, half thumbs; users and scorer like long answers, and the scorer sees that much of the rest."""
    draw = np.random.default_rng(seed)
    length, merit, mood = draw.normal(size=(3, n))
    predicted = 0.6 * length + insight * merit + math.sqrt(1 - insight**2) * mood
    felt = 0.5 + 0.2 * (0.4 * length + merit)
    thumbs = draw.random(n) < 0.5
    score = np.where(thumbs, felt > 0.4, np.clip(1 + np.round(4 * felt), 1, 5) / 5)
    characters = np.exp(6 + length).astype(int)
    return [
        Rated(float(score[i]), float(predicted[i]), int(characters[i]), "thumbs_up" if thumbs[i] else "rating")
        for i in range(n)
    ]


def test_on_real_answers_a_ruler_is_refused_though_it_ranks_them_well() -> None:
    rows = real_answers(float)
    found = calibrate(rows)
    alone = stats.spearmanr([one.length for one in rows], [one.score for one in rows])
    assert (found.answers, found.smaller_class, found.enough) == (428, 88, True)
    assert found.auroc == pytest.approx(0.748, abs=0.001)
    assert float(alone.statistic) == pytest.approx(0.327, abs=0.001)
    assert found.correlation == 0.0
    assert not found.passed
    assert "no proof that it sees more than length" in found.reason


@pytest.mark.parametrize(
    "ruler",
    [
        pytest.param(lambda length: float(length > 200), id="long enough"),
        pytest.param(lambda length: float(length > 300), id="longer than most bad ones"),
        pytest.param(lambda length: -abs(math.log(max(length, 1) / 800)), id="neither short nor long"),
        pytest.param(lambda length: length // 100, id="in hundreds"),
    ],
)
def test_on_real_answers_a_bent_ruler_is_refused_too(ruler: Callable[[int], float]) -> None:
    found = calibrate(real_answers(ruler))
    assert found.auroc >= 0.6
    assert found.lower <= 0
    assert not found.passed


def test_a_scorer_that_sees_what_users_see_is_trusted() -> None:
    found = calibrate(drawn(1, 0.6, 120))
    assert found.passed
    assert found.enough
    assert found.reason.startswith("The scorer agrees with the users: over 120 answers")
    assert set(found.by_kind) == {"rating", "thumbs_up"}
    assert all(one.correlation > 0.3 and one.auroc > 0.6 for one in found.by_kind.values())


@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("insight", [0.0, 0.4])
def test_the_lower_bound_is_above_the_truth_at_most_one_time_in_forty(n: int, insight: float) -> None:
    truth = calibrate(drawn(0, insight, 40_000)).correlation
    above = sum(calibrate(drawn(seed, insight, n)).lower > truth for seed in range(1, 401))
    assert above <= 16  # 10 are expected


def test_a_scorer_with_no_insight_but_length_passes_at_most_one_time_in_twenty() -> None:
    assert sum(calibrate(drawn(seed, 0.0, 120)).passed for seed in range(400)) <= 20


@given(ROWS)
@settings(max_examples=80)
def test_trust_means_that_every_bar_was_cleared(rows: list[Rated]) -> None:
    found = calibrate(rows, fewest=20, fewest_smaller=5)
    assert found.enough == (found.answers >= 20 and found.smaller_class >= 5)
    assert found.passed == (found.enough and found.lower > 0 and found.auroc >= 0.6)
    assert -1 <= found.lower <= found.correlation <= 1
    assert 0 <= found.auroc <= 1
    assert f"over {len(rows)} answers" in found.reason


@given(ROWS, st.floats(-1000, 1000))
@settings(max_examples=60)
def test_kinds_are_never_compared_with_each_other(rows: list[Rated], shift: float) -> None:
    shifted = [replace(one, predicted=one.predicted + round(shift)) if one.kind == "rating" else one for one in rows]
    assert calibrate(shifted) == calibrate(rows)


@given(ROWS)
@settings(max_examples=60)
def test_a_scorer_turned_around_has_its_figures_turned_around(rows: list[Rated]) -> None:
    there, back = calibrate(rows), calibrate([replace(one, predicted=-one.predicted) for one in rows])
    assert back.correlation == pytest.approx(-there.correlation, abs=1e-9)
    assert back.auroc == pytest.approx(1 - there.auroc)


@given(ROWS)
@settings(max_examples=60)
def test_auroc_counts_the_pairs_of_a_kind_that_are_in_order_and_ties_half(rows: list[Rated]) -> None:
    pairs = [
        (good.predicted, bad.predicted)
        for good in rows
        for bad in rows
        if good.kind == bad.kind and good.score >= 0.5 > bad.score
    ]
    won = sum((good > bad) + (good == bad) / 2 for good, bad in pairs)
    assert calibrate(rows).auroc == pytest.approx(won / len(pairs) if pairs else 0.5)


def test_constant_predictions_know_nothing() -> None:
    found = calibrate([replace(one, predicted=0.7) for one in drawn(3, 0.5, 100)])
    assert (found.correlation, found.auroc, found.passed, found.enough) == (0.0, 0.5, False, True)
    assert found.lower < 0


def test_answers_of_one_length_are_judged_by_their_rank_alone() -> None:
    assert calibrate([replace(one, length=500) for one in drawn(4, 0.7, 100)]).passed


def test_without_failures_nothing_can_be_told() -> None:
    found = calibrate([replace(one, score=1.0) for one in drawn(5, 0.5, 100)])
    assert (found.smaller_class, found.correlation, found.lower, found.auroc) == (0, 0.0, -1.0, 0.5)
    assert (found.enough, found.passed) == (False, False)
    assert "have 0 in the smaller class, need 15" in found.reason


def test_failures_that_all_have_another_kind_than_the_rest_are_no_smaller_class() -> None:
    rows = [Rated(0.0, i / 50, 100 + i, "thumbs_up") for i in range(50)]
    rows += [Rated(1.0, 1 + i / 50, 100 + i, "rating") for i in range(50)]
    found = calibrate(rows)
    assert (found.smaller_class, found.auroc, found.enough) == (0, 0.5, False)


@pytest.mark.parametrize("n", [0, 1, 2, 5, 59])
def test_too_few_answers_say_how_many_are_missing(n: int) -> None:
    found = calibrate(drawn(6, 0.9, n))
    assert (found.enough, found.passed) == (False, False)
    assert f"have {n} rated answers, need 60" in found.reason


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", ["score", "predicted"])
def test_a_figure_that_is_no_finite_number_proves_nothing(wrong: float, field: str) -> None:
    rows = drawn(7, 0.5, 80)
    rows[11] = replace(rows[11], **{field: wrong})
    with pytest.raises(ValueError, match="no finite number"):
        calibrate(rows)


def test_a_bar_that_is_no_number_lets_nobody_through() -> None:
    with pytest.raises(ValueError, match="no finite number"):
        calibrate(drawn(8, 0.6, 120), least_auroc=float("nan"))
