"""What is said of a candidate: every state has its words, and no certainty is claimed that the tests do not have."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.evidence import Standing
from bindu.dspy.policy import Policy
from bindu.dspy.reports import ArmReport, TrialReport
from bindu.dspy.rules.evidence import Win
from bindu.dspy.sentences import caution, trial_sentence

END = datetime(2026, 3, 15, tzinfo=UTC)
STANDING = Standing(
    superiority=0.1,
    harm=-1.0,
    futility=-1.0,
    non_inferiority=0.5,
    after_win=None,
    mismatch=-1.0,
    feedback_mismatch=-1.0,
    guards={"error": 0.0},
    estimate=0.11,
    low=0.03,
    high=0.19,
    p_value=0.02,
)
TRIAL = TrialReport(
    champion=False,
    window=30,
    standing=STANDING,
    active=ArmReport(units=200, rated=100),
    candidate=ArmReport(units=80, rated=59),
    win=None,
    feedback_alarm=False,
    needs_person=None,
    paused=False,
    next_window_at=END - timedelta(days=9),
    windows_due=0,
    ends_at=END,
    plan=None,
    days_left=2.8,
    band=(),
)


def said(share: float = 0.3, **fields: object) -> str:
    standing = {name: fields.pop(name) for name in ("estimate", "low", "high") if name in fields}
    return trial_sentence(7, replace(TRIAL, standing=replace(STANDING, **standing), **fields), share, Policy())


def test_a_certain_difference_is_said_with_its_band_its_units_and_the_time_left() -> None:
    assert said() == (
        "Candidate 7 is better: +0.110 (95 % +0.03 to +0.19) on 159 rated of 280 units; it has 30% of traffic; "
        "about 3 days left."
    )


@pytest.mark.parametrize(
    ("estimate", "low", "high", "word"),
    [
        (0.11, 0.01, 0.19, "better"),
        (0.11, 0.0, 0.19, "ahead"),
        (0.0004, -0.1, 0.1, "level"),
        (-0.02, -0.1, 0.1, "behind"),
        (-0.02, -0.1, 0.0, "behind"),
        (-0.08, -0.1, -0.01, "worse"),
    ],
)
def test_better_and_worse_are_only_said_when_the_band_excludes_zero(
    estimate: float, low: float, high: float, word: str
) -> None:
    assert said(estimate=estimate, low=low, high=high).startswith(f"Candidate 7 is {word}: ")


@pytest.mark.parametrize(
    ("fields", "beginning"),
    [
        ({"window": 0}, "Too early to say: no window of candidate 7 has been closed yet; it has"),
        ({"estimate": None}, "Too early to say: candidate 7 has 59 rated of 80 units; it has"),
        (
            {"candidate": ArmReport(units=30, rated=19), "low": -0.2},
            "Too early to say: candidate 7 has 19 rated of 30 units; it has",
        ),
        ({"candidate": ArmReport(units=30, rated=20), "low": -0.2}, "Candidate 7 is ahead: "),
        ({"candidate": ArmReport(units=30, rated=19)}, "Candidate 7 is better: "),
        ({"champion": True}, "Champion 7 is better: "),
    ],
)
def test_it_is_too_early_until_there_is_something_to_say(fields: dict[str, object], beginning: str) -> None:
    assert said(**fields).startswith(beginning)


def test_a_win_is_rising_unless_it_is_paused() -> None:
    win = Win(window=25, log_e=4.0, hours=5.0)
    assert said(win=win, ends_at=None).startswith("Candidate 7 has won and is rising: +0.110")
    paused = said(win=win, ends_at=None, paused=True, days_left=None)
    assert paused.startswith("Candidate 7 has won but is paused: ")
    assert paused.endswith("it has 30% of traffic; it waits until you say 'bindu canary resume'.")


@pytest.mark.parametrize("days", [None, 0.0])
def test_after_a_win_there_is_no_timeout_left_to_tell_of(days: float | None) -> None:
    sentence = said(win=Win(window=25, log_e=4.0, hours=5.0), days_left=days)
    assert sentence.endswith("; it has 30% of traffic; it waits for feedback on both prompts.")


def test_whoever_must_decide_is_told_why_and_how() -> None:
    sentence = said(needs_person="Needs a person: the candidate changes how many users vote.")
    assert sentence.startswith("Needs a person: the candidate changes how many users vote. Candidate 7: +0.110")
    assert sentence.endswith("; it waits until you say 'bindu canary promote' or 'bindu canary rollback'.")


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (2.5001, "about 3 days left"),
        (1.2, "about a day left"),
        (0.4, "less than a day left"),
        (0.0, "longer than planned, it ends undecided on 2026-03-15 at the latest"),
        (None, "it ends undecided on 2026-03-15 at the latest"),
    ],
)
def test_the_time_left_is_said_or_when_it_ends_at_the_latest(days: float | None, words: str) -> None:
    assert said(days_left=days).endswith(f"; {words}.")


def test_a_pause_is_said() -> None:
    assert "; paused, so its share does not rise; " in said(paused=True)


def test_only_the_means_rule_is_cautioned_against() -> None:
    assert caution(Policy(rule="evidence")) is None
    assert "knows no uncertainty" in (caution(Policy(rule="means")) or "")


standings = st.builds(
    lambda bounds, estimate: replace(STANDING, low=min(bounds), high=max(bounds), estimate=estimate),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    st.none() | st.floats(-1, 1),
)
trials = st.builds(
    replace,
    st.just(TRIAL),
    standing=standings,
    window=st.integers(0, 3),
    candidate=st.builds(ArmReport, units=st.just(40), rated=st.integers(0, 40)),
    paused=st.booleans(),
    win=st.sampled_from([None, Win(window=1, log_e=3.0, hours=0.0)]),
    days_left=st.none() | st.floats(0, 1000),
)


@given(trials)
def test_whatever_the_state_it_is_one_sentence_that_never_claims_too_much(trial: TrialReport) -> None:
    sentence = trial_sentence(7, trial, 0.3, Policy())
    assert sentence.endswith(".")
    assert "andidate 7 " in sentence
    assert "it has 30% of traffic" in sentence
    assert ("is better" in sentence) <= (trial.standing.low > 0)
    assert ("is worse" in sentence) <= (trial.standing.high < 0)
    assert ("has won" in sentence) == (trial.win is not None)
    assert ("Too early" in sentence) <= (trial.win is None)
    assert ("at the latest" in sentence) <= (trial.win is None)
