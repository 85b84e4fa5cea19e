"""The means rule and somebody's word, step by step, and that a stored decision can be recomputed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.decision import by_means, last_step_at, move_to, policy_of, policy_used, replay, set_paused
from bindu.dspy.errors import UnknownRuleError
from bindu.dspy.models import Decision, ExperimentOutcome, Prompt, PromptMetrics, Rollout, Serving
from bindu.dspy.planning import required_feedback
from bindu.dspy.policy import Policy
from bindu.dspy.rules.means import better_mean, compare_means
from bindu.dspy.units import ShareChange

POLICY = Policy(rule="means", min_interactions=20, step=0.1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
scores = st.none() | st.floats(0, 1)
times = st.none() | st.timedeltas(timedelta(days=-9), timedelta(days=9)).map(lambda delta: NOON + delta)
tenths = st.integers(1, 9).map(lambda tenth: tenth / 10)

rollups = st.builds(
    PromptMetrics,
    prompt_id=st.integers(1, 9),
    num_interactions=st.integers(0, 60),
    num_rated=st.integers(0, 60),
    average_score=scores,
    last_feedback_at=times,
)


def serving(share: float = 0.1) -> Serving:
    active = Prompt(agent_id="support", id=1, text="You help.", status="active", traffic=1 - share)
    candidate = Prompt(agent_id="support", id=2, text="You help well.", status="candidate", traffic=share)
    return Serving(
        agent_id="support", version=5, active=active, candidate=candidate, share=share, experiment_id=3, epoch=1
    )


def metrics(
    prompt_id: int, score: float | None, count: int = 100, rated: int = 50, at: datetime | None = NOON
) -> PromptMetrics:
    return PromptMetrics(
        prompt_id=prompt_id, num_interactions=count, num_rated=rated, average_score=score, last_feedback_at=at
    )


def step(
    active: float | None, candidate: float | None, share: float = 0.1, count: int = 100, last: datetime | None = None
) -> Rollout:
    return by_means(serving(share), metrics(1, active), metrics(2, candidate, count), POLICY, last_step=last)


def test_a_pause_keeps_the_better_candidate_where_it_is_and_lets_the_worse_one_fall() -> None:
    better, worse = (
        by_means(serving(0.3), metrics(1, 0.5), metrics(2, score), POLICY, paused=True) for score in (0.6, 0.4)
    )
    assert (better.verdict, better.share_after) == ("hold", 0.3)
    assert better.reason.startswith("Paused: the share does not rise. Candidate 2 scores 0.600")
    assert (worse.verdict, worse.share_after) == ("step_down", 0.2)


def decision(rollout: Rollout) -> Decision:
    return Decision(
        agent_id=rollout.agent_id,
        id=1,
        experiment_id=rollout.experiment_id,
        window=1,
        verdict=rollout.verdict,
        share_before=rollout.share_before,
        share_after=rollout.share_after,
        reason=rollout.reason,
        inputs=json.loads(json.dumps(rollout.inputs)),
        evidence=json.loads(json.dumps(rollout.evidence)),
        rule=rollout.rule,
        rule_version=rollout.rule_version,
        code_version="0",
        actor=rollout.actor,
        at=NOON,
    )


def test_a_better_candidate_gains_a_tenth_of_the_traffic() -> None:
    rollout = step(0.6, 0.7, share=0.2)
    assert (rollout.verdict, rollout.share_after, rollout.outcome) == ("step_up", 0.3, None)
    assert "0.700 on 50 rated of 100" in rollout.reason


def test_a_worse_candidate_loses_a_tenth_of_the_traffic() -> None:
    rollout = step(0.7, 0.6, share=0.3)
    assert (rollout.verdict, rollout.share_after, rollout.outcome) == ("step_down", 0.2, None)


def test_the_last_step_up_promotes() -> None:
    rollout = step(0.6, 0.7, share=0.9)
    assert (rollout.verdict, rollout.share_after, rollout.outcome) == ("promote", 1.0, "promoted")


def test_the_last_step_down_rolls_back() -> None:
    rollout = step(0.7, 0.6, share=0.1)
    assert (rollout.verdict, rollout.share_after, rollout.outcome) == ("roll_back", 0.0, "rolled_back")


@pytest.mark.parametrize(
    ("active", "candidate", "count", "words"),
    [
        (0.6, 0.6, 100, "tie at 0.600"),
        (0.1 + 0.2, 0.3, 100, "tie at 0.300"),  # the same votes summed in another order
        (0.6, 0.9, 19, "19 of the 20 interactions"),
        (0.6, None, 100, "no feedback yet"),
        (None, 0.9, 100, "no feedback to compare with"),
    ],
)
def test_too_little_data_and_ties_hold_and_say_why(
    active: float | None, candidate: float | None, count: int, words: str
) -> None:
    rollout = step(active, candidate, share=0.4, count=count)
    assert (rollout.verdict, rollout.share_before, rollout.share_after) == ("hold", 0.4, 0.4)
    assert words in rollout.reason


def test_twenty_interactions_of_the_candidate_are_enough() -> None:
    assert step(0.6, 0.7, count=20).verdict == "step_up"


@pytest.mark.parametrize(("last", "verdict"), [(NOON, "hold"), (NOON - timedelta(seconds=1), "step_up")])
def test_a_step_needs_feedback_newer_than_the_last_step(last: datetime, verdict: str) -> None:
    assert step(0.6, 0.7, last=last).verdict == verdict


def test_walking_up_and_down_lands_on_exact_tenths() -> None:
    share, seen = 0.1, []
    while (rollout := step(0.6, 0.7, share=share)).outcome is None:
        seen.append(share := rollout.share_after)
    assert seen == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    back = []
    while (rollout := step(0.7, 0.6, share=share)).outcome is None:
        back.append(share := rollout.share_after)
    assert back == [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


@given(rollups, rollups, tenths, times)
def test_replaying_the_stored_inputs_gives_the_same_verdict(
    active: PromptMetrics, candidate: PromptMetrics, share: float, last: datetime | None
) -> None:
    rollout = by_means(serving(share), active, candidate, POLICY, last_step=last)
    stored = decision(rollout)
    again = replay(stored)
    assert (again.verdict, again.share_after, again.outcome, again.reason) == (
        rollout.verdict,
        rollout.share_after,
        rollout.outcome,
        rollout.reason,
    )
    assert again.evidence == stored.evidence
    assert 0 <= rollout.share_after <= 1
    assert (rollout.outcome is None) is (0 < rollout.share_after < 1)
    assert (rollout.verdict == "hold") is (rollout.share_after == rollout.share_before)


@given(tenths, st.floats(-1, 2), st.sampled_from(("rolled_back", "inconclusive")))
def test_a_persons_move_ends_the_experiment_only_at_the_ends(
    share: float, asked: float, ends: ExperimentOutcome
) -> None:
    rollout = move_to(serving(share), asked, reason="Somebody said so.", actor="person", ends=ends)
    assert 0 <= rollout.share_after <= 1
    assert rollout.outcome == {0.0: ends, 1.0: "promoted"}.get(rollout.share_after)
    again = replay(decision(rollout))
    assert (again.verdict, again.share_after, again.outcome) == (rollout.verdict, rollout.share_after, rollout.outcome)


@given(st.floats(0, 1, exclude_min=True, exclude_max=True), st.sampled_from(("pause", "resume")))
def test_pausing_and_resuming_leave_the_share_to_the_bit(share: float, word: Literal["pause", "resume"]) -> None:
    rollout = set_paused(serving(share), word, reason="Holidays.", actor="person")
    assert (rollout.verdict, rollout.share_after, rollout.outcome) == (word, share, None)
    assert rollout.paused is (word == "pause")
    assert replay(decision(rollout)).verdict == word


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_staying_where_it_is_holds_whatever_the_decimals(share: float) -> None:
    rollout = move_to(serving(share), share, reason="Stay.", actor="person")
    assert (rollout.verdict, rollout.outcome, rollout.share_after) == ("hold", None, share)


def test_a_decision_without_an_experiment_is_refused() -> None:
    alone = Serving(agent_id="support", version=1, active=serving().active)
    with pytest.raises(ValueError, match="no experiment"):
        move_to(alone, 0.5, reason="why not", actor="person")


def test_the_rule_frozen_in_an_experiment_wins_over_the_constants() -> None:
    policy = policy_of({"rule": "means", "min_interactions": 50}, min_interactions=20, step=0.2)
    assert (policy.min_interactions, policy.step) == (50, 0.2)


def test_a_policy_without_a_rule_is_of_the_means_rule_and_what_is_no_number_of_a_policy_is_left_out() -> None:
    assert policy_of({"champion": True}) == Policy(rule="means")
    evidence = Policy(gain=0.04, planned_days=8.5)
    assert policy_of(msgspec.to_builtins(evidence)) == evidence


@pytest.mark.parametrize("rule", ["oracle", "manual", None, 3])
def test_a_policy_of_a_rule_that_is_not_here_is_refused_by_name_wherever_it_is_stored(rule: Any) -> None:
    stored = replace(decision(step(0.6, 0.7)), inputs={"policy": {"rule": rule}})
    for read in (lambda: policy_of({"rule": rule}), lambda: policy_used([stored])):
        with pytest.raises(UnknownRuleError, match=f"'{rule}'; this version has evidence, means"):
            read()


@given(tenths, st.integers(1, 100), tenths)
def test_the_policy_used_is_that_of_the_newest_decision_that_had_one(share: float, needed: int, size: float) -> None:
    policy = Policy(rule="means", min_interactions=needed, step=size)
    followed = decision(by_means(serving(share), metrics(1, 0.5), metrics(2, 0.6), policy))
    by_hand = decision(move_to(serving(share), 0.5, reason="Somebody said so.", actor="person"))
    older = decision(by_means(serving(share), metrics(1, 0.5), metrics(2, 0.6), POLICY))
    assert policy_used([by_hand, followed, older]) == policy
    assert policy_used([by_hand]) is None


def test_stored_inputs_are_not_given_to_another_version_of_their_rule() -> None:
    stored = replace(decision(step(0.6, 0.7)), rule_version=2)
    with pytest.raises(UnknownRuleError, match=r"'means version 2'; this version has .*means version 1"):
        replay(stored)


def test_stored_inputs_of_a_rule_that_is_not_here_are_refused_by_name() -> None:
    with pytest.raises(UnknownRuleError, match="No rule is called 'oracle'"):
        replay(replace(decision(step(0.6, 0.7)), rule="oracle"))


@pytest.mark.parametrize("numbers", [{"step": 0.0}, {"step": 1.5}, {"min_interactions": 0}])
def test_a_policy_that_cannot_be_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="A policy needs"):
        replace(POLICY, **numbers)  # type: ignore[arg-type]


def test_the_last_step_is_the_last_change_of_the_share_since_the_opening() -> None:
    changes = [ShareChange(epoch=epoch, share=0.1, at=NOON + timedelta(hours=epoch)) for epoch in range(3)]
    assert [last_step_at(changes[:known]) for known in range(4)] == [None, None, changes[1].at, changes[2].at]


@given(scores, scores, st.integers(0, 100))
def test_swapping_the_prompts_swaps_the_winner(one: float | None, other: float | None, count: int) -> None:
    swapped = {"active": "candidate", "candidate": "active", None: None}
    assert swapped[better_mean(one, other, count, 20)] == better_mean(other, one, count, 20)


def test_the_difference_is_candidate_minus_active() -> None:
    assert compare_means(metrics(1, 0.5), metrics(2, 0.75)).difference == 0.25
    assert compare_means(metrics(1, None), metrics(2, 0.75)).difference is None


def test_the_plan_for_five_points_is_that_of_the_textbook() -> None:
    assert required_feedback(0.05, variance=0.155) == 1534  # (1.645 + 0.842)^2 * .155 * 4 / .05^2
    assert required_feedback(0.05, share=0.1) > 2.7 * required_feedback(0.05)


@pytest.mark.parametrize(("gain", "share"), [(0, 0.5), (0.05, 0), (0.05, 1)])
def test_a_plan_for_nothing_is_refused(gain: float, share: float) -> None:
    with pytest.raises(ValueError, match="A plan needs"):
        required_feedback(gain, share=share)


def test_an_experiment_ends_by_the_version_of_the_rule_that_it_began_with() -> None:
    assert policy_of({"rule": "evidence", "rule_version": 1}).rule == "evidence"
    with pytest.raises(UnknownRuleError, match="evidence version 7"):
        policy_of({"rule": "evidence", "rule_version": 7})
