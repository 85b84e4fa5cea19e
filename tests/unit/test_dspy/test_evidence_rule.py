"""The ordered decision on evidence: every branch at its boundary, which one comes first, and what never happens."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from math import log, nextafter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.evidence import Standing, threshold
from bindu.dspy.policy import Policy
from bindu.dspy.rules.base import Move
from bindu.dspy.rules.evidence import EvidenceInputs, StratumCount, Win, decide, move
from bindu.dspy.units import CountedUnit
from bindu.dspy.windows import without_heaviest

SCORED = (StratumCount(47, "rating", 1, 30, 4),)
QUIET = Standing(
    superiority=0.0,
    harm=0.0,
    futility=0.0,
    non_inferiority=0.0,
    after_win=None,
    mismatch=0.0,
    feedback_mismatch=0.0,
    guards={"error": 0.0, "refusal": 0.0},
    estimate=0.02,
    low=-0.05,
    high=0.09,
    p_value=1.0,
)
WIN = Win(window=24, log_e=3.1, hours=24.0)
BEHIND_A_WIN = {"win": WIN, "strata": SCORED}


def says(**numbers: Any) -> Standing:
    return replace(QUIET, **numbers)


def seen(**given: Any) -> EvidenceInputs:
    """A candidate of two days at 10 %, about to rise; a name of the standing goes there."""
    numbers = {name: given.pop(name) for name in list(given) if name in {one.name for one in fields(Standing)}}
    quiet = {
        "policy": Policy(),
        "active_id": 1,
        "candidate_id": 2,
        "share": 0.1,
        "paused": False,
        "window": 48,
        "age_hours": 48.0,
        "hours_at_step": 12.0,
        "rated_at_step": 60,
        "standing": says(**numbers),
        "strata": SCORED,
    }
    return EvidenceInputs(**{**quiet, **given})


def said(**given: Any) -> tuple[str, float, str | None]:
    found = decide(seen(**given))
    return found.verdict, found.share_after, found.outcome


STEP_UP = ("step_up", 0.2, None)
HOLD = ("hold", 0.1, None)
WON = ("won", 0.1, None)
ASK = ("ask", 0.1, None)
ROLLED_BACK = ("roll_back", 0.0, "rolled_back")
INCONCLUSIVE = ("roll_back", 0.0, "inconclusive")


@pytest.mark.parametrize(
    ("test", "alpha", "reached", "below"),
    [
        ("mismatch", 0.001, INCONCLUSIVE, STEP_UP),
        ("harm", 0.10, ROLLED_BACK, HOLD),
        ("superiority", 0.05, WON, STEP_UP),
        ("futility", 0.10, INCONCLUSIVE, STEP_UP),
    ],
)
def test_a_test_decides_at_one_over_alpha_and_not_below(
    test: str, alpha: float, reached: tuple[Any, ...], below: tuple[Any, ...]
) -> None:
    limit = threshold(alpha)
    assert limit == pytest.approx(log(1 / alpha))
    assert said(**{test: limit}) == reached
    assert said(**{test: nextafter(limit, 0)}) == below


@pytest.mark.parametrize("name", ["error", "refusal", "slow", "cost", "judge"])
@pytest.mark.parametrize("watched", [2, 5])
def test_a_guardrail_decides_at_its_part_of_alpha(name: str, watched: int) -> None:
    others = [other for other in ("error", "refusal", "slow", "cost", "judge") if other != name][: watched - 1]
    limit = threshold(0.01 / watched)
    guards = dict.fromkeys(others, 0.0)
    assert said(guards={**guards, name: limit}) == ROLLED_BACK
    assert said(guards={**guards, name: nextafter(limit, 0)}) == STEP_UP


def test_every_alarm_of_a_guardrail_is_named() -> None:
    reason = decide(seen(guards={"error": 9.0, "refusal": 0.0, "cost": 9.0})).reason
    assert reason == "Candidate 2 fails more often and costs more than the active prompt."


def test_other_alphas_of_the_policy_are_gone_by() -> None:
    strict = Policy(alpha_mismatch=0.01, alpha_guard=0.02, alpha_harm=0.2, alpha_win=0.2, alpha_futility=0.3)
    for test, alpha, reached in (
        ("mismatch", 0.01, INCONCLUSIVE),
        ("harm", 0.2, ROLLED_BACK),
        ("superiority", 0.2, WON),
        ("futility", 0.3, INCONCLUSIVE),
    ):
        assert said(policy=strict, **{test: threshold(alpha)}) == reached
        assert said(policy=strict, **{test: nextafter(threshold(alpha), 0)}) != reached
    assert said(policy=strict, guards={"error": threshold(0.02)}) == ROLLED_BACK


# which comes first: everything speaks at once, and what comes first falls silent, one after the other


Layer = tuple[dict[str, Any], str]
STOPS: list[Layer] = [
    ({"mismatch": 9.0}, "not assigned by the shares"),
    ({"guards": {"error": 9.0}}, "fails more often"),
    ({"harm": 9.0}, "is worse"),
]
AFTER_A_WIN: list[Layer] = [
    ({"win": WIN, "after_win": 9.0}, "won and is worse since"),
    ({"win": WIN, "feedback_alarm": True}, "changes how many users vote"),
    ({"win": WIN, "without_heaviest": -0.1}, "without the rater"),
    ({"win": replace(WIN, hours=1.0)}, "its share rests for 24 hours"),
    ({"win": WIN, "after_win": log(4)}, "scores have dipped"),
    ({"win": WIN, "strata": ()}, "needs new feedback on both"),
    ({"win": WIN}, "nothing speaks against it"),
]
WINNING: list[Layer] = [
    ({"superiority": 9.0, "feedback_alarm": True}, "changes how many users vote"),
    ({"superiority": 9.0, "without_heaviest": 0.0}, "without the rater"),
    ({"superiority": 9.0}, "Candidate 2 is better"),
]
NO_WIN: list[Layer] = [
    ({"futility": 9.0}, "not better by 0.03"),
    ({"age_hours": 336.0}, "ended undecided after 14 days"),
    ({"harm": log(4)}, "Harm is possible"),
    ({"harm": log(2)}, "Harm is not ruled out"),
    ({"share": 0.5}, "Not decided"),
    ({"hours_at_step": 1.0}, "rests for 2 hours"),
    ({"rated_at_step": 19}, "19 of the 20 rated units"),
    ({}, "No harm is visible"),
]


@pytest.mark.parametrize("place", range(len(STOPS + WINNING + NO_WIN)))
def test_the_first_reason_in_the_order_is_the_one_that_counts(place: int) -> None:
    layers = (STOPS + WINNING + NO_WIN)[place:]
    assert layers[0][1] in decide(seen(**together(layers))).reason


@pytest.mark.parametrize("place", range(len(STOPS + AFTER_A_WIN)))
def test_after_a_win_only_stops_and_new_harm_come_before_its_steps(place: int) -> None:
    layers = (STOPS + AFTER_A_WIN)[place:]
    assert layers[0][1] in decide(seen(**together([*layers, WINNING[-1], *NO_WIN]))).reason


def together(layers: list[Layer]) -> dict[str, Any]:
    """All of them at once; where two set the same number, the earlier one."""
    given: dict[str, Any] = {}
    for layer, _ in reversed(layers):
        given |= layer
    return given


# a win


@pytest.mark.parametrize(("age", "verdict"), [(24.0, "won"), (nextafter(24, 0), "step_up"), (1.0, "step_up")])
def test_a_win_needs_a_day(age: float, verdict: str) -> None:
    assert said(superiority=9.0, age_hours=age)[0] == verdict


def test_a_win_is_latched_before_any_traffic_moves() -> None:
    assert said(superiority=9.0, share=0.5) == ("won", 0.5, None)
    assert said(superiority=9.0, share=0.95) == ("won", 0.95, None)
    assert said(superiority=9.0, paused=True) == WON  # pausing forbids increases, not findings


@pytest.mark.parametrize(("without", "verdict"), [(None, "won"), (nextafter(0, 1), "won"), (0.0, "ask"), (-0.1, "ask")])
def test_a_win_that_hangs_on_one_rater_needs_a_person(without: float | None, verdict: str) -> None:
    assert said(superiority=9.0, without_heaviest=without)[0] == verdict
    after = {None: "step_up", 0.0: "ask", -0.1: "ask"}.get(without, "step_up")
    assert said(without_heaviest=without, **BEHIND_A_WIN)[0] == after


def test_a_win_in_an_experiment_that_changed_who_votes_needs_a_person() -> None:
    assert said(superiority=9.0, feedback_alarm=True) == ASK
    assert said(feedback_alarm=True, **BEHIND_A_WIN) == ASK
    assert said(feedback_alarm=True) == STEP_UP  # nothing is at stake yet


def test_whether_a_candidate_is_not_worse_is_another_test() -> None:
    policy = Policy(goal="not_worse", tolerance=0.02, stated_gain="half the tokens")
    limit = threshold(policy.alpha_win)
    assert said(policy=policy, non_inferiority=limit) == WON
    assert said(policy=policy, non_inferiority=nextafter(limit, 0), superiority=99.0) == STEP_UP
    assert said(policy=policy, futility=99.0) == STEP_UP  # not better is what was expected
    assert said(policy=policy, non_inferiority=9.0, without_heaviest=-0.02) == ASK
    assert said(policy=policy, non_inferiority=9.0, without_heaviest=nextafter(-0.02, 0)) == WON
    assert said(superiority=0.0, non_inferiority=99.0) == STEP_UP  # not the goal of this one


@pytest.mark.parametrize(
    ("gain", "shown"),
    [
        ("half the tokens", " (what is gained: half the tokens):"),
        (" Half\nthe tokens. ", " (what is gained: Half the tokens):"),
        ("", ":"),
    ],
)
def test_a_win_by_what_is_not_worse_says_what_is_gained(gain: str, shown: str) -> None:
    found = decide(seen(policy=Policy(goal="not_worse", stated_gain=gain), non_inferiority=9.0))
    assert (found.verdict, found.reason.partition("+")[0]) == ("won", f"Candidate 2 is not worse by 0.02{shown} ")
    better = decide(seen(policy=Policy(stated_gain=gain), superiority=9.0))
    assert "gained" not in better.reason


# after a win


@pytest.mark.parametrize(("hours", "share"), [(0.0, 0.1), (nextafter(24, 0), 0.1), (24.0, 0.2)])
def test_after_a_win_the_share_rests_for_a_day(hours: float, share: float) -> None:
    assert said(**{**BEHIND_A_WIN, "win": replace(WIN, hours=hours)})[1] == share


def test_harm_since_the_win_rolls_back_at_twenty_and_holds_from_four() -> None:
    for share in (0.1, 0.95):
        assert said(after_win=threshold(0.05), share=share, **BEHIND_A_WIN) == ROLLED_BACK
        assert said(after_win=nextafter(threshold(0.05), 0), share=share, **BEHIND_A_WIN) == ("hold", share, None)
        assert said(after_win=log(4), share=share, **BEHIND_A_WIN) == ("hold", share, None)
    assert said(after_win=nextafter(log(4), 0), **BEHIND_A_WIN) == STEP_UP


def test_old_harm_still_rolls_a_winner_back() -> None:
    assert said(harm=threshold(0.10), **BEHIND_A_WIN) == ROLLED_BACK


@pytest.mark.parametrize(
    ("strata", "verdict"),
    [
        ((), "hold"),
        ((StratumCount(47, "rating", 1, 30, 0),), "hold"),
        ((StratumCount(47, "rating", 1, 0, 30),), "hold"),
        ((StratumCount(47, "rating", 1, 1, 0), StratumCount(48, "thumbs_up", 2, 0, 1)), "step_up"),
    ],
)
def test_a_step_after_a_win_needs_scores_on_both_sides(strata: tuple[StratumCount, ...], verdict: str) -> None:
    assert said(win=WIN, strata=strata)[0] == verdict


def test_the_way_up_after_a_win_goes_in_steps_to_the_end() -> None:
    share, way = 0.1, []
    while (found := decide(seen(share=share, **BEHIND_A_WIN))).outcome is None:
        assert found.verdict == "step_up"
        way.append(share := found.share_after)
    assert way == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert (found.verdict, found.share_after, found.outcome) == ("promote", 1.0, "promoted")


def test_a_pause_holds_a_winner_and_does_not_save_a_loser() -> None:
    for share in (0.1, 0.9):
        assert said(paused=True, share=share, **BEHIND_A_WIN) == ("hold", share, None)
    assert said(paused=True, harm=9.0) == ROLLED_BACK
    assert said(paused=True, after_win=9.0, **BEHIND_A_WIN) == ROLLED_BACK
    assert said(paused=True, share=0.3, harm=log(4)) == ("step_down", 0.2, None)
    assert said(paused=True) == HOLD


def test_a_winner_is_not_thrown_away_for_its_age_or_a_dip() -> None:
    assert said(age_hours=9999.0, futility=9.0, superiority=-3.0, **BEHIND_A_WIN) == STEP_UP


# no verdict


@pytest.mark.parametrize(("planned", "hours"), [(None, 336), (3.0, 336), (28 / 3, 336), (20.0, 720)])
def test_the_wait_ends_after_14_days_or_one_and_a_half_times_the_plan(planned: float | None, hours: float) -> None:
    policy = Policy(planned_days=planned)
    assert said(policy=policy, age_hours=float(hours)) == INCONCLUSIVE
    assert said(policy=policy, age_hours=nextafter(hours, 0)) == STEP_UP


def test_a_timeout_at_any_share_never_promotes() -> None:
    assert said(age_hours=9999.0, share=0.95, superiority=nextafter(threshold(0.05), 0)) == INCONCLUSIVE


# the safety ramp


@pytest.mark.parametrize(("harm", "verdict"), [(0.0, "step_up"), (nextafter(log(2), 0), "step_up"), (log(2), "hold")])
def test_the_ramp_rises_below_harm_of_two(harm: float, verdict: str) -> None:
    assert said(harm=harm)[0] == verdict


@pytest.mark.parametrize(("hours", "verdict"), [(2.0, "step_up"), (nextafter(2, 0), "hold"), (-5.0, "hold")])
def test_the_ramp_rests_two_hours_a_step(hours: float, verdict: str) -> None:
    assert said(hours_at_step=hours)[0] == verdict


@pytest.mark.parametrize(("units", "verdict"), [(20, "step_up"), (19, "hold"), (0, "hold")])
def test_the_ramp_needs_twenty_rated_units_at_the_step(units: int, verdict: str) -> None:
    assert said(rated_at_step=units)[0] == verdict


@pytest.mark.parametrize(("share", "after"), [(0.1, 0.2), (0.4, 0.5), (0.45, 0.5), (0.5, 0.5), (0.7, 0.7)])
def test_the_ramp_ends_at_half_of_the_traffic(share: float, after: float) -> None:
    assert said(share=share)[1] == after


@pytest.mark.parametrize(
    ("share", "after"), [(0.5, 0.4), (0.2, 0.1), (0.15, 0.1), (0.1, 0.1), (0.05, 0.05), (0.9, 0.8)]
)
def test_possible_harm_takes_a_step_back_but_not_below_the_floor(share: float, after: float) -> None:
    assert said(harm=log(4), share=share)[1] == after
    assert said(harm=nextafter(log(4), 0), share=share)[1] == share


@pytest.mark.parametrize("most", [1.0, 1 - 1e-12, 7.0])
def test_a_ramp_to_all_of_the_traffic_stops_just_below_it(most: float) -> None:
    found = decide(seen(policy=Policy(ramp_share=most), share=0.95))
    assert (found.verdict, found.share_after) == ("step_up", 1 - 1e-9)
    assert decide(seen(policy=Policy(ramp_share=most), share=1 - 1e-9)).verdict == "hold"


# whatever comes


logs = st.one_of(
    st.floats(-60, 60), st.sampled_from([threshold(alpha) for alpha in (0.05, 0.1, 0.001)] + [log(2), log(4), 0.0])
)
hours = st.one_of(st.floats(-1000, 2000), st.sampled_from((0.0, 2.0, 24.0, 336.0)))
shares = st.one_of(
    st.integers(1, 9).map(lambda tenth: tenth / 10), st.floats(1e-9, 1 - 1e-9).map(lambda x: round(x, 9))
)
differences = st.none() | st.floats(-1, 1)
standings = st.builds(
    Standing,
    superiority=logs,
    harm=logs,
    futility=logs,
    non_inferiority=logs,
    after_win=st.none() | logs,
    mismatch=logs,
    feedback_mismatch=logs,
    guards=st.dictionaries(st.sampled_from(("error", "refusal", "slow", "cost", "judge")), logs),
    estimate=differences,
    low=st.floats(-1, 1),
    high=st.floats(-1, 1),
    p_value=st.floats(0, 1),
)
calm = st.builds(  # nothing ends it: the way up is often walked
    replace,
    st.just(QUIET),
    superiority=logs,
    harm=st.floats(-9, 0.5),
    after_win=st.none() | st.floats(-9, 1.5),
    non_inferiority=logs,
)
policies = st.builds(
    Policy,
    goal=st.sampled_from(("better", "not_worse")),
    step=st.floats(0.01, 1),
    planned_days=st.none() | st.floats(0, 60),
    ramp_share=st.floats(0.1, 1) | st.just(1.0),
    floor_share=st.floats(0.01, 0.5),
)
counts = st.integers(0, 5)
anything = st.builds(
    EvidenceInputs,
    policy=st.just(Policy()) | policies,
    active_id=st.just(1),
    candidate_id=st.just(2),
    share=shares,
    paused=st.booleans(),
    window=st.integers(1, 9999),
    age_hours=hours,
    hours_at_step=hours,
    rated_at_step=st.integers(0, 60),
    standing=standings | calm,
    win=st.none() | st.builds(Win, window=st.integers(1, 999), log_e=logs, hours=hours),
    feedback_alarm=st.booleans(),
    without_heaviest=differences,
    strata=st.lists(
        st.builds(StratumCount, st.integers(1, 9), st.sampled_from(("rating", "thumbs_up")), counts, counts, counts),
        max_size=3,
    ).map(tuple),
)


@given(anything)
def test_a_share_stays_a_share_and_ends_are_named(given: EvidenceInputs) -> None:
    found = decide(given)
    assert 0 <= found.share_after <= 1
    assert found.outcome in {0.0: ("rolled_back", "inconclusive"), 1.0: ("promoted",)}.get(found.share_after, (None,))
    assert (found.verdict == "promote") is (found.share_after == 1)
    assert (found.verdict == "roll_back") is (found.share_after == 0)
    assert (found.verdict in ("hold", "won", "ask")) is (found.share_after == given.share)
    assert (found.verdict == "step_down") is (0 < found.share_after < given.share)
    assert found.reason.endswith(".")


@given(anything)
def test_a_step_is_never_longer_than_the_policy_s(given: EvidenceInputs) -> None:
    found = decide(given)
    assert found.share_after <= given.share + given.policy.step + 1e-9
    if found.share_after:
        assert found.share_after >= given.share - given.policy.step - 1e-9


@given(anything)
def test_paused_it_never_rises(given: EvidenceInputs) -> None:
    assert decide(replace(given, paused=True)).share_after <= given.share


@given(anything)
def test_nothing_is_promoted_without_a_latched_win(given: EvidenceInputs) -> None:
    assert decide(replace(given, win=None, policy=Policy())).verdict != "promote"
    found = decide(given)
    if found.share_after > max(given.share, given.policy.ramp_share) + 1e-9:
        assert given.win is not None
    if found.verdict == "promote":
        assert given.win is not None
        assert given.win.hours >= given.policy.settle_hours
        assert given.share >= 1 - given.policy.step - 1e-9
        assert (given.standing.after_win or 0) < log(given.policy.settle_hold_at)
        assert not given.paused
        assert not given.feedback_alarm
        assert max(stratum.active for stratum in given.strata) > 0
        assert max(stratum.candidate for stratum in given.strata) > 0


@given(anything)
def test_won_is_said_only_when_the_evidence_shows_it(given: EvidenceInputs) -> None:
    if decide(given).verdict == "won":
        goal = given.standing.superiority if given.policy.goal == "better" else given.standing.non_inferiority
        assert goal >= log(1 / given.policy.alpha_win) - 1e-12
        assert given.age_hours >= 24
        assert given.win is None


@given(anything)
def test_what_was_stored_decides_as_what_was_seen_bit_for_bit(given: EvidenceInputs) -> None:
    stored = json.loads(json.dumps(msgspec.to_builtins(given)))
    assert msgspec.convert(stored, EvidenceInputs) == given
    now, again = decide(given), move(stored)
    assert again == now
    assert json.dumps(again.evidence) == json.dumps(now.evidence)


@given(anything, st.floats(0, 5))
def test_more_harm_never_gives_more_traffic(given: EvidenceInputs, more: float) -> None:
    worse = replace(given, standing=replace(given.standing, harm=given.standing.harm + more))
    assert decide(worse).share_after <= decide(given).share_after


def test_a_candidate_of_which_nothing_is_known_holds_where_it_is() -> None:
    nothing: Move = decide(seen(estimate=None, rated_at_step=0, strata=()))
    assert (nothing.verdict, nothing.share_after) == ("hold", 0.1)
    assert "nothing could be compared" in decide(seen(estimate=None, share=0.5)).reason


def test_a_win_that_hangs_on_one_rater_altogether_asks_for_a_person() -> None:
    units = [
        CountedUnit(
            unit_id=str(number),
            arm=arm,
            epoch=0,
            window=1 + number // 2,
            kind="thumbs_up",
            rater_id="fan" if arm == "candidate" else f"user {number}",
            rated_at=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=number // 2),
            score=float(arm == "candidate"),
        )
        for number, arm in enumerate(("active", "candidate") * 20)
    ]
    left = without_heaviest(units, {0: 0.5}, Policy())
    for goal in ("better", "not_worse"):
        policy = Policy(goal=goal, stated_gain="cheaper")  # type: ignore[arg-type]
        found = decide(seen(policy=policy, superiority=9.0, non_inferiority=9.0, without_heaviest=left))
        assert found.verdict == "ask"
        assert "without the rater who counts most nothing is left to compare" in found.reason
