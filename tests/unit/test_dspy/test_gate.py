"""The gate lets luck through one time in twenty at most, and a real gain nearly always."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bindu.dspy.gate import Paired, accept_candidate

SCORES = st.floats(0, 1)
PAIRS = st.lists(st.builds(Paired, SCORES, SCORES, st.floats(1, 2_000), st.floats(1, 2_000)), min_size=2, max_size=40)


def drawn(seed: int, gain: float, n: int = 40) -> list[Paired]:
    draw = random.Random(seed)
    scores = [(draw.gauss(0.5, 0.2), draw.gauss(0.5 + gain, 0.2)) for _ in range(n)]
    return [Paired(a, b, draw.uniform(300, 500), draw.uniform(300, 500)) for a, b in scores]


def test_of_400_tries_of_a_prompt_against_itself_at_most_5_percent_pass() -> None:
    passed = sum(accept_candidate(drawn(seed, 0.0), margin=0.0, seed=seed).improved for seed in range(400))
    assert passed <= 20


def test_a_gain_of_a_standard_deviation_passes_nearly_always() -> None:
    passed = sum(accept_candidate(drawn(seed, 0.2), seed=seed).improved for seed in range(100))
    assert passed >= 95


@given(PAIRS)
@settings(max_examples=50)
def test_accepting_means_that_every_bar_was_cleared(pairs: list[Paired]) -> None:
    verdict = accept_candidate(pairs, margin=0.01)
    clear = verdict.lower > 0.01 and verdict.p_value <= 0.05 and verdict.growth <= 1.25 and verdict.adjusted_gain > 0
    assert verdict.improved == clear
    assert verdict.lower <= verdict.gain <= verdict.upper
    assert 0 < verdict.p_value <= 1
    assert (verdict.outcome == "worse") == (verdict.upper < 0)


@given(PAIRS)
@settings(max_examples=50)
def test_swapping_the_prompts_turns_the_figures_around(pairs: list[Paired]) -> None:
    swapped = [Paired(one.candidate, one.active, one.candidate_length, one.active_length) for one in pairs]
    there, back = accept_candidate(pairs), accept_candidate(swapped)
    assert there.gain == pytest.approx(-back.gain)
    assert there.lower == pytest.approx(-back.upper)
    assert there.p_value == pytest.approx(back.p_value)
    assert not (there.improved and back.improved)


@given(PAIRS, st.integers(0, 5))
@settings(max_examples=30)
def test_the_same_pairs_get_the_same_verdict(pairs: list[Paired], seed: int) -> None:
    assert accept_candidate(pairs, seed=seed) == accept_candidate(pairs, seed=seed)


def test_the_interval_is_the_textbook_one() -> None:
    pairs = drawn(1, 0.1)
    gains = np.array([one.candidate - one.active for one in pairs])
    expected = stats.t.interval(0.95, len(gains) - 1, gains.mean(), stats.sem(gains))
    verdict = accept_candidate(pairs)
    assert (verdict.lower, verdict.upper) == pytest.approx(expected)


def test_the_sign_flip_test_agrees_with_scipys() -> None:
    pairs = drawn(3, 0.08)
    gains = np.array([one.candidate - one.active for one in pairs])
    theirs = stats.permutation_test(
        (gains,), np.mean, permutation_type="samples", n_resamples=9_999, rng=np.random.default_rng(1)
    )
    assert accept_candidate(pairs).p_value == pytest.approx(theirs.pvalue, abs=0.02)


def test_a_gain_bought_with_length_is_no_gain() -> None:
    grown = [Paired(0.4, 0.8 + i / 1_000, 100, 140) for i in range(40)]
    verdict = accept_candidate(grown)
    assert not verdict.improved
    assert "1.40 times as long" in verdict.reason


def test_a_gain_that_vanishes_at_equal_length_is_no_gain() -> None:
    growths = [1 + i / 100 for i in range(40)]
    verdict = accept_candidate([Paired(0.3, 0.3 + (growth - 1), 100, 100 * growth) for growth in growths])
    assert verdict.gain > 0.1
    assert verdict.adjusted_gain < 0.01
    assert not verdict.improved


def test_a_margin_must_be_cleared_by_the_lower_bound() -> None:
    pairs = drawn(5, 0.15)
    lower = accept_candidate(pairs).lower
    assert accept_candidate(pairs, margin=lower - 0.001).improved
    refused = accept_candidate(pairs, margin=lower + 0.001)
    assert (refused.outcome, "No proof of a gain" in refused.reason) == ("unchanged", True)


def test_one_conversation_proves_nothing() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        accept_candidate([Paired(0.1, 0.9)])


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", ["active", "candidate", "active_length", "candidate_length"])
def test_a_figure_that_is_no_finite_number_proves_nothing(wrong: float, field: str) -> None:
    pairs = drawn(1, 0.3)
    pairs[7] = replace(pairs[7], **{field: wrong})
    with pytest.raises(ValueError, match="no finite number"):
        accept_candidate(pairs)


@pytest.mark.parametrize("bar", ["margin", "max_growth"])
def test_a_bar_that_is_no_number_lets_nobody_through(bar: str) -> None:
    with pytest.raises(ValueError, match="no finite number"):
        accept_candidate(drawn(1, 0.3), **{bar: float("nan")})  # type: ignore[arg-type]
