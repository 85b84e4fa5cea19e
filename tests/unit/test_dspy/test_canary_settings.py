"""The canary's settings are the policy's numbers, and together they make sense or change nothing."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import pytest
from pydantic import ValidationError

from bindu.dspy.policy import Policy
from bindu.settings import CanarySettings

# Fitted to the past week, derived from judge_share, or the means rule's constant
NOT_SET_BY_USERS = {"window_hours", "planned_days", "slow_ms", "cost_cap", "judged", "min_interactions"}
NOT_OF_THE_POLICY = {
    "initial_share",
    "window_feedback",
    "max_window_hours",
    "similar_text",
    "champion_promotions",
    "champion_days",
    "judge_share",
}


def test_settings_and_policy_have_the_same_names_and_defaults() -> None:
    policy = {field.name: field.default for field in fields(Policy)}
    settings = {name: field.default for name, field in CanarySettings.model_fields.items()}
    assert MISSING not in policy.values()
    assert settings.keys() - NOT_OF_THE_POLICY == policy.keys() - NOT_SET_BY_USERS
    shared = settings.keys() - NOT_OF_THE_POLICY - {"rule"}
    assert {name: settings[name] for name in shared} == {name: policy[name] for name in shared}


def test_every_default_passes_its_own_bounds() -> None:
    assert CanarySettings.model_validate(CanarySettings().model_dump()) == CanarySettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rule", "bayes"),
        ("initial_share", 0.0),
        ("initial_share", 1.0),
        ("step", 0.0),
        ("goal", "cheaper"),
        ("gain", 0.0),
        ("tolerance", 1.0),
        ("harm_margin", -0.1),
        ("alpha_win", 0.0),
        ("alpha_win", 0.6),
        ("alpha_guard", float("nan")),
        ("window_feedback", 0),
        ("max_window_hours", 0),
        ("min_age_hours", -1.0),
        ("max_age_days", float("inf")),
        ("ramp_share", 1.0),
        ("floor_share", 0.0),
        ("ramp_units", 0),
        ("hold_at", 1.0),
        ("back_at", 0.5),
        ("settle_hours", -1.0),
        ("guard_margin", 1.0),
        ("judge_share", 1.1),
        ("similar_text", 0.0),
        ("champion_promotions", -1),
        ("champion_days", 0.0),
    ],
)
def test_a_number_out_of_bounds_is_refused_and_leaves_the_old_one(name: str, value: Any) -> None:
    settings = CanarySettings()
    with pytest.raises(ValidationError):
        setattr(settings, name, value)
    assert settings == CanarySettings()


def test_not_worse_needs_a_stated_gain_and_a_champion() -> None:
    settings = CanarySettings()
    with pytest.raises(ValidationError, match="STATED_GAIN"):
        settings.goal = "not_worse"
    assert settings.goal == "better"  # a refused assignment changes nothing
    settings.stated_gain = "half the cost"
    settings.goal = "not_worse"
    with pytest.raises(ValidationError, match="CHAMPION_PROMOTIONS"):
        settings.champion_promotions = 0
    with pytest.raises(ValidationError, match="STATED_GAIN"):
        settings.stated_gain = "  "
    assert (settings.goal, settings.stated_gain, settings.champion_promotions) == ("not_worse", "half the cost", 5)


def test_an_experiment_that_could_not_win_before_it_ends_is_refused() -> None:
    with pytest.raises(ValidationError, match="no experiment could win"):
        CanarySettings(min_age_hours=48, max_age_days=2)
