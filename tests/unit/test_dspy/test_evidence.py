"""The e-processes against their slow reference, and what makes them valid: no bet expects to win under its null."""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from math import comb, exp, inf, isclose, log, prod

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bindu.dspy.evidence import (
    Band,
    Evidence,
    Share,
    Standing,
    Stratum,
    Window,
    fold,
    log_e,
    log_mismatch,
    log_vote_mismatch,
    standing,
    start_after_win,
)
from bindu.dspy.policy import Policy
from slow_evidence import GRID, SlowEvidence, exact, log_mean_exp, mismatch

TESTS = ("superiority", "harm", "futility", "non_inferiority")
SHARES = {1: 0.1, 2: 0.3, 3: 0.5}
GUARDED = Policy(slow_ms=900.0, cost_cap=0.02, judged=True)
NO_BETS = (0.0, 0.0, 0.0, 0.0)

ratings = st.sampled_from(sorted({Fraction(total, 4 * votes) for votes in (1, 2, 3) for total in range(4 * votes + 1)}))
thumbs = st.sampled_from(sorted({Fraction(up, votes) for votes in (1, 2, 3) for up in range(votes + 1)}))
hundredths = st.integers(0, 100).map(lambda hundredth: Fraction(hundredth, 100))
VALUES = {"rating": ratings, "thumbs_up": thumbs, "cost": hundredths} | dict.fromkeys(("error", "refusal"), thumbs)
margins = st.integers(0, 90).map(lambda hundredth: hundredth / 100)


def band_of(*shifts: float) -> Band:
    """A band of a few shifts, for what needs no more."""
    return Band(shifts, (NO_BETS,) * len(shifts), (NO_BETS,) * len(shifts))


START = Evidence(band=band_of(-0.2, 0.0, 0.2))


@st.composite
def sides(draw: st.DrawFn, kind: str, largest: int) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """Two arms' values: often of unequal, sometimes of equal size, and sometimes one has none."""
    small = draw(st.integers(0, largest // 3))
    large = draw(st.one_of(st.just(small), st.integers(small, largest)))
    drawn = [draw(st.lists(VALUES[kind], min_size=size, max_size=size)) for size in (small, large)]
    if draw(st.booleans()):
        drawn.reverse()
    return tuple(drawn[0]), tuple(drawn[1])


@st.composite
def strata(draw: st.DrawFn, kinds: tuple[str, ...], largest: int = 40) -> tuple[Stratum, ...]:
    keys = draw(st.lists(st.tuples(st.sampled_from(kinds), st.sampled_from((1, 2, 3))), unique=True, max_size=4))
    return tuple(Stratum(kind, epoch, *draw(sides(kind, largest))) for kind, epoch in keys)  # type: ignore[arg-type]


@st.composite
def streams(draw: st.DrawFn, longest: int = 4, largest: int = 40) -> list[Window]:
    """Windows of exact values; a number is left out now and then."""
    windows, number = [], 0
    for _ in range(draw(st.integers(1, longest))):
        number += draw(st.integers(1, 2))
        scores = draw(strata(("rating", "thumbs_up"), largest))
        firsts = draw(strata(("error", "refusal", "cost"), largest // 2))
        assigned = [Share(epoch, share, *draw(counts), 0, 0) for epoch, share in SHARES.items()]
        windows.append(Window(number, scores, firsts, tuple(assigned)))
    return windows


counts = st.tuples(st.integers(0, 60), st.integers(0, 60))
policies = st.builds(
    Policy,
    harm_margin=margins,
    gain=margins,
    tolerance=margins,
    guard_margin=margins,
    cost_cap=st.sampled_from((None, 0.02)),
)


def rounded(window: Window) -> Window:
    """The same window with floats for fractions."""

    def side(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(float(value) for value in values)

    def each(given: tuple[Stratum, ...]) -> tuple[Stratum, ...]:
        return tuple(replace(one, active=side(one.active), candidate=side(one.candidate)) for one in given)

    return replace(window, scores=each(window.scores), firsts=each(window.firsts))


def folded(windows: list[Window], policy: Policy = GUARDED, start: Evidence = START) -> Evidence:
    for window in windows:
        start = fold(start, rounded(window), policy)
    return start


def close(ours: float, theirs: float) -> bool:
    return isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)


def log_of(fraction: Fraction) -> float:
    """Of a fraction that may be too large or small for a float."""
    return log(fraction.numerator) - log(fraction.denominator)


def all_close(ours: tuple[float, ...], theirs: tuple[float, ...]) -> bool:
    return len(ours) == len(theirs) and all(map(close, ours, theirs))


def alike(one: Evidence, other: Evidence) -> bool:
    """The same bets, up to the order of additions."""
    pairs = [(getattr(one, test), getattr(other, test)) for test in TESTS]
    pairs += [(one.guards[guard], other.guards[guard]) for guard in one.guards | other.guards]
    pairs += list(zip(one.band.above + one.band.below, other.band.above + other.band.below, strict=True))
    plain = ("window", "feedback_alarm", "won_window", "won_log_e", "after_win")
    return (
        all(all_close(*pair) for pair in pairs)
        and all(getattr(one, name) == getattr(other, name) for name in plain)
        and one.band.shifts == other.band.shifts
        and all_close((one.best, one.weight, one.weighted), (other.best, other.weight, other.weighted))
    )


# against the reference


@settings(max_examples=60, deadline=None)
@given(streams(), policies)
def test_every_bet_is_won_and_lost_as_in_the_slow_reference(windows: list[Window], policy: Policy) -> None:
    slow = SlowEvidence(policy, grid=tuple(map(exact, START.band.shifts)))
    quick = START
    for window in windows:
        slow.take(window)
        quick = fold(quick, rounded(window), policy)
        for test in TESTS:
            assert all_close(getattr(quick, test), slow.logs(test)), test
        assert tuple(quick.guards) == policy.guards or not window.firsts
        for guard, logs in quick.guards.items():
            assert all_close(logs, slow.logs(guard)), guard
        assert close(quick.best, slow.best)
        assert quick.feedback_alarm == slow.feedback_alarm
        assert (quick.estimate is None) == (slow.estimate is None)
        assert quick.estimate is None or close(quick.estimate, float(slow.estimate or 0))


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_the_band_rejects_the_shifts_that_the_slow_reference_rejects(data: st.DataObject) -> None:
    slow, quick = SlowEvidence(Policy()), Evidence()
    for number in range(1, 4):
        gap = data.draw(st.sampled_from((-3, 0, 1, 2)))
        base = data.draw(st.lists(st.integers(0, 4), min_size=8, max_size=8))
        better = tuple(Fraction(min(4, max(0, level + gap)), 4) for level in base)
        scores = (Stratum("rating", 3, tuple(Fraction(level, 4) for level in base), better),)
        window = Window(number, scores, (), (Share(3, 0.5, 8, 8, 0, 0),))  # type: ignore[arg-type]
        slow.take(window)
        quick = fold(quick, rounded(window), Policy())
        left = [shift for shift in GRID if shift not in slow.rejected]
        assert [exact(round(shift, 9)) for shift in quick.band.shifts] == left
        assert tuple(exact(round(bound, 9)) for bound in quick.band.bounds) == slow.bounds


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(0, 80), st.integers(0, 80)), max_size=4))
def test_the_mismatch_of_counts_is_the_exact_bayes_factor(epochs: list[tuple[int, int, int]]) -> None:
    exactly = prod((mismatch(Fraction(hundredth, 100), *counted) for hundredth, *counted in epochs), start=Fraction(1))
    found = log_mismatch((hundredth / 100, active, candidate) for hundredth, active, candidate in epochs)
    assert close(found, log_of(exactly))


@settings(max_examples=40, deadline=None)
@given(streams(largest=20), policies)
def test_a_standing_says_what_the_slow_reference_says(windows: list[Window], policy: Policy) -> None:
    slow = SlowEvidence(policy, grid=tuple(map(exact, START.band.shifts)))
    for window in windows:
        slow.take(window)
    now = standing(folded(windows, policy))
    for test in (*TESTS, "after_win"):
        assert getattr(now, test) is None if test == "after_win" else close(getattr(now, test), slow.log_e(test))
    assert close(now.mismatch, log_of(slow.against(slow.assigned)))
    assert close(now.feedback_mismatch, log_of(slow.against_votes()))
    assert all(close(now.guards[guard], slow.log_e(guard)) for guard in policy.guards)
    assert close(now.p_value, exp(-slow.best))
    assert standing(start_after_win(folded(windows, policy), 3.5)).after_win == 0.0


def test_a_standing_before_anything_happened_is_stored_and_read_back_byte_for_byte() -> None:
    stored = msgspec.json.encode(standing(Evidence()))
    assert msgspec.json.encode(msgspec.convert(msgspec.json.decode(stored), Standing)) == stored
    assert standing(Evidence()).p_value == 1.0
    assert standing(Evidence()).estimate is None


@given(st.lists(st.floats(-900, 900), min_size=4, max_size=4))
def test_bets_are_mixed_by_the_mean_of_their_wealth_without_overflow(logs: list[float]) -> None:
    assert close(log_e(tuple(logs)), log_mean_exp(logs))  # type: ignore[arg-type]


def test_values_that_never_differed_are_still_taken_to_vary_a_little() -> None:
    slow, quick = SlowEvidence(Policy(), grid=()), START
    for number, value in enumerate((Fraction(1, 2), Fraction(1, 2), Fraction(3, 4)), start=1):
        sides = (Fraction(1, 2),) * 300, (value,) * 300
        scores, firsts = (Stratum("rating", 3, *sides),), (Stratum("error", 3, *sides),)  # type: ignore[arg-type]
        window = Window(number, scores, firsts, (Share(3, 0.5, 300, 300),))
        slow.take(window)
        quick = fold(quick, rounded(window), Policy())
    assert slow.matched[-1][1] == 2 * Fraction(5, 1000)
    assert all_close(quick.superiority, slow.logs("superiority"))
    assert all_close(quick.guards["error"], slow.logs("error"))


# valid: no bet expects to win under its null hypothesis


@dataclass(frozen=True)
class Null:
    """A hypothesis, how far the difference is inside it, and where its bets are kept."""

    boundary: Callable[[Policy], float]
    inwards: int
    wealth: Callable[[Evidence], tuple[float, ...]]
    guard: bool = False


NULLS = {
    "superiority": Null(lambda policy: 0.0, -1, lambda after: after.superiority),
    "harm": Null(lambda policy: -policy.harm_margin, 1, lambda after: after.harm),
    "after the win": Null(lambda policy: -policy.harm_margin, 1, lambda after: after.after_win or ()),
    "futility": Null(lambda policy: policy.gain, 1, lambda after: after.futility),
    "non-inferiority": Null(lambda policy: -policy.tolerance, -1, lambda after: after.non_inferiority),
    "guardrail": Null(lambda policy: policy.guard_margin, -1, lambda after: after.guards["error"], guard=True),
    "band, above": Null(lambda policy: 0.2, -1, lambda after: after.band.above[-1]),
    "band, below": Null(lambda policy: -0.2, 1, lambda after: after.band.below[0]),
}


def outcomes(
    active: int, candidate: int, chances: tuple[float, float]
) -> Iterator[tuple[float, tuple[float, ...], tuple[float, ...]]]:
    """Every way that units of value 0 or 1 can come out, and its probability."""
    for drawn in product((0.0, 1.0), repeat=active + candidate):
        likely = 1.0
        for place, value in enumerate(drawn):
            chance = chances[place >= active]
            likely *= chance if value else 1 - chance
        if likely > 0:
            yield likely, drawn[:active], drawn[active:]


@pytest.mark.parametrize("name", NULLS)
@settings(max_examples=25, deadline=None)
@given(
    past=streams(longest=1, largest=12),
    policy=policies,
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    unit=st.tuples(st.sampled_from(("rating", "thumbs_up")), st.floats(0, 1)),
    depth=st.sampled_from((0.0, 0.0, 0.01, 0.3)),
)
def test_a_bet_expects_to_keep_its_wealth_at_the_edge_of_its_null_and_to_lose_inside(
    *, name: str, past: list[Window], policy: Policy, sizes: tuple[int, int], unit: tuple[str, float], depth: float
) -> None:
    null, (kind, base) = NULLS[name], unit
    before = start_after_win(folded(past, policy), 3.0)
    if before.band.shifts != START.band.shifts:
        before = replace(before, band=START.band)
    difference = max(-1.0, min(1.0, null.boundary(policy) + null.inwards * depth))
    chance = base * (1 - abs(difference)) + max(0.0, -difference)
    expected = [0.0] * 4
    for likely, active, candidate in outcomes(*sizes, (chance, chance + difference)):
        given = (Stratum("error" if null.guard else kind, 1, active, candidate),)
        window = Window(9, () if null.guard else given, given if null.guard else (), (Share(1, 0.1, *sizes, 0, 0),))
        after = fold(before, window, policy, with_band=name.startswith("band"))
        started = null.wealth(before) if not null.guard else before.guards.get("error", NO_BETS)
        for effect, (now, then) in enumerate(zip(null.wealth(after), started, strict=True)):
            expected[effect] += likely * exp(now - then)
    assert max(expected) <= 1 + 1e-9
    if depth == 0.0:
        assert min(expected) >= 1 - 1e-9


@pytest.mark.parametrize("test", [log_mismatch, log_vote_mismatch])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_mismatch_of_fairly_drawn_counts_expects_one(
    share: float, test: Callable[[Iterable[tuple[float, int, int]]], float]
) -> None:
    for units in (1, 2, 7, 40):
        expected = sum(
            comb(units, candidate)
            * share**candidate
            * (1 - share) ** (units - candidate)
            * exp(test([(share, units - candidate, candidate)]))
            for candidate in range(units + 1)
        )
        assert isclose(expected, 1, rel_tol=1e-9)


unit_scores = st.one_of(st.sampled_from((0.0, 1.0)), st.floats(0, 1))
some = st.lists(unit_scores, min_size=1, max_size=6)


@given(some, some, some, some, policies)
def test_no_bet_ever_stakes_more_than_nine_tenths(
    active: list[float], candidate: list[float], worst: list[float], best: list[float], policy: Policy
) -> None:
    """Whatever the scores and margins, a block leaves at least a tenth of the wealth: none is ever ruined."""
    quick, least = start_after_win(START, 3.0), 0
    for number, (one, other) in enumerate(((active, candidate), (worst, best)), start=1):
        strata = tuple(Stratum(kind, 3, tuple(one), tuple(other)) for kind in ("rating", "error"))
        before = quick
        quick = fold(quick, Window(number, strata[:1], strata[1:], (Share(3, 0.5, 9, 9, 0, 0),)), policy)
        least = least + min(len(one), len(other))
        wealth = [getattr(quick, test) for test in TESTS] + [quick.guards["error"], quick.after_win]
        if before.band.shifts == quick.band.shifts:
            wealth += [*quick.band.above, *quick.band.below]
        assert all(least * log(0.1) - 1e-9 <= log_wealth < inf for logs in wealth for log_wealth in logs)


# what must not matter, and what must


@settings(max_examples=30, deadline=None)
@given(streams(), policies)
def test_a_window_without_values_only_moves_the_number(windows: list[Window], policy: Policy) -> None:
    before = folded(windows, policy)
    assert fold(before, Window(before.window + 3), policy) == replace(before, window=before.window + 3)


@settings(max_examples=30, deadline=None)
@given(streams(), policies)
def test_going_on_from_stored_evidence_gives_every_bit_again(windows: list[Window], policy: Policy) -> None:
    kept = stored = start_after_win(Evidence(), 3.25)
    for window in windows:
        kept = fold(kept, rounded(window), policy)
        stored = fold(stored, rounded(window), policy)
        stored = msgspec.convert(msgspec.json.decode(msgspec.json.encode(stored)), Evidence)
        assert stored == kept
        assert msgspec.json.encode(stored) == msgspec.json.encode(kept)


def swapped(window: Window) -> Window:
    def each(strata: tuple[Stratum, ...]) -> tuple[Stratum, ...]:
        return tuple(replace(one, active=one.candidate, candidate=one.active) for one in strata)

    assigned = tuple(
        replace(one, share=1 - one.share, active=one.candidate, candidate=one.active) for one in window.assigned
    )
    return replace(window, scores=each(window.scores), firsts=each(window.firsts), assigned=assigned)


@settings(max_examples=30, deadline=None)
@given(streams())
def test_swapping_the_arms_swaps_superiority_and_harm(windows: list[Window]) -> None:
    ours, theirs = folded(windows), folded([swapped(window) for window in windows])
    assert all_close(ours.superiority, theirs.harm)
    assert all_close(ours.harm, theirs.superiority)
    assert all_close(tuple(-shift for shift in reversed(ours.band.shifts)), theirs.band.shifts)
    for above, below in zip(ours.band.above, reversed(theirs.band.below), strict=True):
        assert all_close(above, below)
    assert close(ours.weighted, -theirs.weighted)
    assert close(ours.weight, theirs.weight)
    assert ours.feedback_alarm == theirs.feedback_alarm


@settings(max_examples=30, deadline=None)
@given(streams(), st.permutations((4, 7, 12)))
def test_the_names_of_epochs_do_not_matter(windows: list[Window], names: list[int]) -> None:
    name = dict(zip(SHARES, names, strict=True))

    def renamed(window: Window) -> Window:
        return replace(
            window,
            scores=tuple(replace(one, epoch=name[one.epoch]) for one in window.scores),
            firsts=tuple(replace(one, epoch=name[one.epoch]) for one in window.firsts),
            assigned=tuple(replace(one, epoch=name[one.epoch]) for one in window.assigned),
        )

    plain, other = folded(windows), folded([renamed(window) for window in windows])
    assert alike(plain, other)
    assert {replace(share, epoch=name[share.epoch]) for share in plain.shares} == set(other.shares)
    assert all(plain.rated_at(epoch) == other.rated_at(name[epoch]) for epoch in SHARES)


@settings(max_examples=30, deadline=None)
@given(streams(), st.randoms(use_true_random=False))
def test_the_order_of_strata_within_a_window_does_not_matter(windows: list[Window], chance: random.Random) -> None:
    def shuffled(window: Window) -> Window:
        def each(strata: tuple[Stratum, ...]) -> tuple[Stratum, ...]:
            return tuple(chance.sample(strata, len(strata)))

        return replace(window, scores=each(window.scores), firsts=each(window.firsts))

    assert alike(folded(windows), folded([shuffled(window) for window in windows]))


def test_a_window_s_own_values_do_not_set_its_stakes() -> None:
    lively = (0.0, 1.0) * 20
    quiet = (0.5,) * 40
    shares = (Share(3, 0.5, 40, 40, 0, 0),)

    def gain(*first: float) -> float:
        learned = fold(START, Window(1, (Stratum("rating", 3, first, ()),), (), shares), Policy())
        after = fold(learned, Window(2, (Stratum("rating", 3, quiet, (0.75,) * 40),), (), shares), Policy())
        return after.superiority[-1] - learned.superiority[-1]

    assert gain(*quiet) > gain(*lively)  # earlier windows do


@settings(max_examples=30, deadline=None)
@given(streams(), policies)
def test_units_are_counted_per_epoch_and_kind(windows: list[Window], policy: Policy) -> None:
    after = folded(windows, policy)
    for share in after.shares:
        seen = [one for window in windows for one in window.scores if one.epoch == share.epoch]
        given = [one for window in windows for one in window.assigned if one.epoch == share.epoch]
        assert share.share == SHARES[share.epoch]
        assert (share.active, share.candidate) == (sum(o.active for o in given), sum(o.candidate for o in given))
        assert share.rated_active == sum(len(one.active) for one in seen)
        assert share.rated_candidate == after.rated_at(share.epoch) == sum(len(one.candidate) for one in seen)


@settings(max_examples=30, deadline=None)
@given(streams(), streams(), policies)
def test_after_a_win_harm_is_watched_for_from_one(early: list[Window], late: list[Window], policy: Policy) -> None:
    won = start_after_win(folded(early, policy), 3.5)
    assert (won.won_window, won.won_log_e, won.after_win) == (early[-1].number, 3.5, NO_BETS)
    later = folded([replace(window, number=window.number + won.window) for window in late], policy, won)
    assert later.after_win is not None
    gained = tuple(now - then for now, then in zip(later.harm, won.harm, strict=True))
    assert all_close(later.after_win, gained)
    assert (later.won_window, later.won_log_e) == (early[-1].number, 3.5)


def votes(number: int, active: int, candidate: int) -> Window:
    scores = (Stratum("thumbs_up", 3, (1.0, 0.0) * (active // 2), (1.0, 0.0) * (candidate // 2)),)
    return Window(number, scores, (), (Share(3, 0.5, 200, 200, 0, 0),))


def test_the_feedback_alarm_rings_on_when_the_counts_are_even_again() -> None:
    calm = fold(START, votes(1, 60, 60), Policy())
    assert not calm.feedback_alarm
    alarmed = fold(calm, votes(2, 40, 140), Policy())
    assert alarmed.feedback_alarm
    even = fold(fold(alarmed, votes(3, 100, 0), Policy()), votes(4, 2000, 2000), Policy())
    assert log_vote_mismatch([(0.5, even.shares[0].rated_active, even.shares[0].rated_candidate)]) < 0
    assert even.feedback_alarm


@settings(max_examples=30, deadline=None)
@given(streams(), st.integers(0, 9))
def test_a_window_out_of_order_is_refused(windows: list[Window], back: int) -> None:
    after = folded(windows)
    with pytest.raises(ValueError, match="cannot be folded"):
        fold(after, Window(after.window - back), Policy())


@settings(max_examples=40, deadline=None)
@given(streams(longest=5, largest=30))
def test_the_bounds_only_narrow(windows: list[Window]) -> None:
    quick, (low, high) = Evidence(), (-1.0, 1.0)
    assert quick.band.bounds == (low, high)
    for window in windows:
        quick = fold(quick, rounded(window), Policy())
        assert low <= quick.band.bounds[0] <= quick.band.bounds[1] <= high
        low, high = quick.band.bounds


def test_a_band_begins_anew_with_its_estimate_when_no_one_difference_fits() -> None:
    slow, quick = SlowEvidence(Policy()), Evidence()
    for number in range(1, 12):
        sides = [(Fraction(level),) * 9 for level in ((0, 1) if number < 3 else (1, 0))]
        window = Window(number, (Stratum("rating", 3, *sides),), (), (Share(3, 0.5, 9, 9),))  # type: ignore[arg-type]
        slow.take(window)
        quick = fold(quick, rounded(window), Policy())
        assert tuple(exact(bound) for bound in quick.band.bounds) == slow.bounds
        assert quick.estimate is not None
        assert isclose(quick.estimate, float(slow.estimate or 0), rel_tol=1e-9)
    assert quick.band.bounds[0] <= quick.estimate == -1.0


def test_without_its_band_evidence_is_the_same() -> None:
    window = votes(1, 40, 40)
    drawn, plain = (fold(Evidence(), window, Policy(), with_band=asked) for asked in (True, False))
    assert plain == replace(drawn, band=Evidence().band)
    assert plain != drawn


# on long streams


def looks(seed: int, gap: float, shifts: tuple[float, ...], windows: int = 40) -> Iterator[Evidence]:
    """Thirty ratings and thumbs a window; quality drifts by the day, the share climbs, arms differ by the gap."""
    chance = random.Random(seed)
    quick = Evidence(band=band_of(*shifts)) if shifts else Evidence()
    for number in range(1, windows + 1):
        epoch = min(3, 1 + number // 5)
        base = 0.5 + 0.15 * ((number // 12) % 2) - gap / 2
        arms: dict[str, tuple[list[float], list[float]]] = {"rating": ([], []), "thumbs_up": ([], [])}
        for _ in range(30):
            arm = chance.random() < SHARES[epoch]
            mean = base + gap * arm
            thumb = chance.random() < 0.5
            value = float(chance.random() < mean) if thumb else sum(chance.random() < mean for _ in range(4)) / 4
            arms["thumbs_up" if thumb else "rating"][arm].append(value)
        scores = tuple(Stratum(kind, epoch, tuple(both[0]), tuple(both[1])) for kind, both in arms.items())
        rated = [sum(len(both[arm]) for both in arms.values()) for arm in (0, 1)]
        quick = fold(quick, Window(number, scores, (), (Share(epoch, SHARES[epoch], *rated, 0, 0),)), Policy())
        yield quick


def at_most(chance: float, runs: int) -> float:
    """As many as chance explains, but once in a thousand."""
    return float(stats.binom.ppf(0.999, runs, chance))


@pytest.fixture(scope="module")
def even_streams() -> list[list[Evidence]]:
    """Three hundred experiments between equal prompts, at every one of forty looks."""
    return [list(looks(seed, 0.0, (0.0,))) for seed in range(300)]


def test_a_band_misses_the_truth_no_more_often_than_it_says(even_streams: list[list[Evidence]]) -> None:
    missed = sum(0.0 not in seen[-1].band.shifts for seen in even_streams)
    assert missed <= at_most(0.05, 300)


def test_looking_at_equal_prompts_every_hour_rejects_no_more_than_alpha(even_streams: list[list[Evidence]]) -> None:
    for test, alpha in (("superiority", 0.05), ("harm", 0.10)):
        rung = sum(any(log_e(getattr(look, test)) >= -log(alpha) for look in seen) for seen in even_streams)
        assert rung <= at_most(alpha, 300), test
    assert sum(seen[-1].feedback_alarm for seen in even_streams) <= at_most(0.05, 300)
    assert sum(seen[-1].best >= log(20) for seen in even_streams) <= at_most(0.05, 300)


def test_ten_points_are_found_and_a_good_estimate_lies_within_narrow_bounds() -> None:
    better = [list(looks(seed, 0.1, (0.1,))) for seed in range(60)]
    worse = [list(looks(seed, -0.1, (-0.1,))) for seed in range(60)]
    assert sum(seen[-1].best >= log(20) for seen in better) >= 50
    assert sum(any(log_e(look.harm) >= log(10) for look in seen) for seen in worse) >= 50
    for streams, gap in ((better, 0.1), (worse, -0.1)):
        assert sum(gap not in seen[-1].band.shifts for seen in streams) <= at_most(0.05, 60)


@pytest.mark.parametrize("gap", [-0.2, 0.0, 0.1])
def test_with_plenty_of_data_the_bounds_are_narrow_and_hold_the_estimate(gap: float) -> None:
    last = list(looks(7, gap, (), windows=120))[-1]
    low, high = last.band.bounds
    assert high - low <= 0.15
    assert low <= (last.estimate or inf) <= high
    assert low <= gap <= high


def test_the_same_windows_give_the_same_bits_on_every_python() -> None:
    """``sum`` of floats is compensated from Python 3.12 on; a check after an upgrade must not see another evidence."""
    chance, evidence = random.Random(7), Evidence()
    for number in range(1, 31):
        active, candidate = (tuple(chance.choice((0.0, 0.25, 0.5, 0.75, 1.0)) for _ in range(n)) for n in (31, 7))
        scores = (Stratum("rating", 1, active, candidate),)
        evidence = fold(evidence, Window(number, scores, (), (Share(1, 0.2, 60, 15),)), Policy())
    bits = [logs.hex() for logs in (standing(evidence).superiority, standing(evidence).harm, evidence.weighted)]
    assert bits == ["-0x1.6cff528596c55p+0", "-0x1.d7e7df6585175p-1", "-0x1.2828fb444dfa7p+3"]
