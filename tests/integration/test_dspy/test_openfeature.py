"""The OpenFeature provider: a prompt is a string flag, a conversation its targeting key, a vote a tracked event."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context
from pathlib import Path

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.track import TrackingEventDetails

from bindu.dspy.collector import record_task
from bindu.dspy.integrations import turn
from bindu.dspy.integrations.background import background
from bindu.dspy.integrations.openfeature import PromptProvider, recorded
from bindu.dspy.prompts import bootstrap_prompt
from bindu.settings import app_settings
from handles import ACTIVE, CANDIDATE, begin_trial, handles_on, recorded_tasks, recorded_votes
from samples import TALK


@pytest.fixture
def url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    with handles_on(postgres_url, tmp_path):
        yield postgres_url


@pytest.fixture
def flags(url: str) -> Iterator[OpenFeatureClient]:
    api.set_provider_and_wait(PromptProvider())
    yield api.get_client()
    api.shutdown()
    api.clear_providers()


def conversation(name: str) -> EvaluationContext:
    return EvaluationContext(targeting_key=name)


def test_the_default_becomes_version_1(flags: OpenFeatureClient) -> None:
    details = flags.get_string_details("support", "You are kind.", conversation("1"))
    assert (details.value, details.variant, details.reason) == ("You are kind.", "1", Reason.STATIC)
    assert details.flag_metadata == {"agent_id": "support", "id": 1, "arm": "active", "epoch": 0}
    assert flags.get_string_value("support", "You are stern.", conversation("1")) == "You are kind."


def test_a_trial_splits_the_conversations_and_each_keeps_its_prompt(flags: OpenFeatureClient) -> None:
    begin_trial()
    served = [flags.get_string_details("support", ACTIVE, conversation(str(number))) for number in range(40)]
    again = [flags.get_string_value("support", ACTIVE, conversation(str(number))) for number in range(40)]
    assert [details.value for details in served] == again
    assert {(details.value, details.variant, details.reason) for details in served} == {
        (ACTIVE, "1", Reason.SPLIT),
        (CANDIDATE, "2", Reason.SPLIT),
    }


def test_an_exchange_counts_for_what_was_evaluated_and_its_vote_is_tracked(flags: OpenFeatureClient, url: str) -> None:
    def answer(question: str) -> str:
        return flags.get_string_value("support", "You are kind.", conversation("1"))

    recorded(answer, "Where?")
    flags.track("feedback", conversation("alice"), TrackingEventDetails(4, {"comment": "Fine."}))
    with turn():
        answer("And now?")
        recorded(answer, "And now?")
        flags.track("feedback", conversation("alice"), TrackingEventDetails(attributes={"thumbs_up": False}))
    first, second = recorded_tasks(url)
    assert [task["unit_id"] for task in (first, second)] == ["1", "1"]
    by_bob = {"task_id": str(first["id"]), "flag_key": "support", "score": 1}
    flags.track("feedback", conversation("bob"), TrackingEventDetails(attributes=by_bob))
    assert [(vote["task_id"], vote["rater_id"], vote["score"]) for vote in recorded_votes(url)] == [
        (first["id"], "alice", 0.8),
        (second["id"], "alice", 0.0),
        (first["id"], "bob", 1.0),
    ]


def test_a_process_that_evaluated_nothing_votes_by_agent_and_task(flags: OpenFeatureClient, url: str) -> None:
    for agent in ("support", app_settings.dspy.agent_id):
        background().submit(bootstrap_prompt("You help.", agent_id=agent)).result(10)
        background().submit(record_task(TALK, task_id="t1", agent_id=agent)).result(10)
    flags.get_string_value("sales", "You sell.")  # evaluated first, and nobody's vote
    for attributes in ({"flag_key": "support", "rating": 5}, {"rating": 1}):
        details = TrackingEventDetails(attributes={"task_id": "t1", **attributes})
        flags.track("feedback", conversation("alice"), details)
    assert sorted((vote["agent_id"], vote["score"]) for vote in recorded_votes(url)) == [
        (app_settings.dspy.agent_id, 0.2),
        ("support", 1.0),
    ]


def test_a_vote_without_a_task_is_for_the_exchange_recorded_last_and_its_agents(
    flags: OpenFeatureClient, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(question: str) -> str:
        return flags.get_string_value("support", "You help.") + flags.get_string_value("sales", "You sell.")

    recorded(answer, "Where?")
    flags.track("feedback", conversation("alice"), TrackingEventDetails(attributes={"thumbs_up": True}))
    only = TrackingEventDetails(attributes={"thumbs_up": False, "flag_key": "sales"})
    flags.track("feedback", conversation("bob"), only)
    voted = sorted((vote["agent_id"], vote["rater_id"]) for vote in recorded_votes(url))
    assert voted == [("sales", "alice"), ("sales", "bob"), ("support", "alice")]
    flags.track("feedback", conversation("bob"), TrackingEventDetails(5, {"flag_key": "stranger"}))
    assert "nothing was recorded here for 'stranger'" in caplog.text


def test_what_cannot_be_stored_is_logged_and_stops_nothing(
    flags: OpenFeatureClient, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    flags.track("purchase", conversation("alice"), TrackingEventDetails(99))  # somebody else's event
    assert caplog.text == ""
    Context().run(flags.track, "feedback", conversation("alice"), TrackingEventDetails(5))  # nothing was recorded in it
    assert "task_id" in caplog.text
    recorded(lambda question: flags.get_string_value("support", "You are kind."), "Where?")
    flags.track("feedback", conversation("alice"), TrackingEventDetails(99))
    assert "from 1 to 5" in caplog.text
    assert recorded_votes(url) == []


def test_a_prompt_is_a_string_and_needs_a_text(flags: OpenFeatureClient) -> None:
    for details in (
        flags.get_boolean_details("support", True),
        flags.get_integer_details("support", 1),
        flags.get_float_details("support", 1.0),
        flags.get_object_details("support", {}),
    ):
        assert details.error_code == ErrorCode.TYPE_MISMATCH
    empty = flags.get_string_details("support", "")
    assert (empty.value, empty.error_code) == ("", ErrorCode.GENERAL)
