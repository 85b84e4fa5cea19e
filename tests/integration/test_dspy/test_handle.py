"""The prompt handle: one object, from memory, in any thread and loop, and what it served is what counts."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from bindu.dspy.collector import read_exchange
from bindu.dspy.errors import (
    InvalidArgumentError,
    InvalidFeedbackError,
    InvalidHistoryError,
    InvalidPromptError,
    UnknownTaskError,
)
from bindu.dspy.integrations import flush, last_task_id, prompt_handle, recorded, recorded_async, turn
from bindu.dspy.integrations.background import background, end_background
from bindu.dspy.prompts import update_prompt_traffic
from bindu.settings import app_settings
from conftest import execute, value
from handles import ACTIVE, CANDIDATE, begin_trial, handles_on, recorded_tasks, recorded_votes

TEXTS = {1: ACTIVE, 2: CANDIDATE}


@pytest.fixture
def url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    with handles_on(postgres_url, tmp_path):
        yield postgres_url


def until(holds: Callable[[], bool]) -> None:
    """Wait until that is so."""
    deadline = monotonic() + 10
    while not holds():
        assert monotonic() < deadline
        threading.Event().wait(0.02)


def test_the_first_run_saves_the_default_as_version_1(url: str) -> None:
    handle = prompt_handle(
        "support",
        default="""
        You are kind.
    """,
    )
    assert handle() == "You are kind."
    assert handle.select()["id"] == 1
    assert prompt_handle("support", default="You are stern.")() == "You are kind."


def test_it_takes_what_frameworks_pass_and_stays_itself_when_they_copy_it(url: str) -> None:
    handle = prompt_handle("support", default="You are kind.")
    assert handle(object(), object()) == handle(run_context=None, agent=None) == "You are kind."
    assert copy.deepcopy({"instructions": handle})["instructions"] is handle
    assert pickle.loads(pickle.dumps(handle))() == "You are kind."


def test_a_default_that_cannot_be_served_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidPromptError):
        prompt_handle("support", default=" ")
    with pytest.raises(InvalidArgumentError):
        prompt_handle("sup\x00port", default="You are kind.")


def test_a_rollout_reaches_threads_and_loops_alike(url: str) -> None:
    handle = prompt_handle("support", default=ACTIVE)
    begin_trial(share=0.1)
    background().submit(update_prompt_traffic(2, 1.0, agent_id="support")).result(10)
    until(lambda: handle.select()["id"] == 2 and handle.select()["traffic"] == 1)

    async def in_a_loop() -> str:
        return handle()

    with ThreadPoolExecutor(8) as pool:
        texts = set(pool.map(lambda _: asyncio.run(in_a_loop()), range(8)))
    assert texts == {CANDIDATE}


def test_a_turn_has_one_prompt_in_child_tasks_and_threads_too(url: str) -> None:
    begin_trial()
    handle = prompt_handle("support", default=ACTIVE)

    async def talk(number: int) -> set[str]:
        with turn():
            children = [asyncio.create_task(asyncio.to_thread(handle)) for _ in range(3)]
            with ThreadPoolExecutor(1) as pool:
                copied = pool.submit(copy_context().run, handle)
            return {handle(), copied.result(), *await asyncio.gather(*children)}

    async def talks() -> list[set[str]]:
        return [await talk(number) for number in range(30)]

    served = asyncio.run(talks())
    assert all(len(texts) == 1 for texts in served)
    assert set.union(*served) == {ACTIVE, CANDIDATE}
    assert {handle() for _ in range(50)} == {ACTIVE, CANDIDATE}  # without a turn each call is drawn


def test_a_conversation_keeps_its_prompt_over_turns(url: str) -> None:
    begin_trial()
    handle = prompt_handle("support", default=ACTIVE)
    for number in range(20):
        with turn(number):
            first = handle.select()
        with turn(context_id=number):
            second = handle.select()
        assert (first["id"], first["unit_id"]) == (second["id"], str(number))


def test_each_agent_of_a_turn_has_its_own_prompt_and_the_exchange_counts_for_both(url: str) -> None:
    support, sales = prompt_handle("support", default="You help."), prompt_handle("sales", default="You sell.")
    with turn("conversation-1") as opened:
        assert (support(), sales()) == ("You help.", "You sell.")
        first = opened.record("Where?", "There.")
        assert [*opened.tasks] == ["support", "sales"]
        opened.feedback({"thumbs_up": False}, rater_id="alice").result(10)
        alone = opened.record("How much?", "Ten.", agent="sales")
        assert opened.tasks == {"sales": alone}
    tasks = recorded_tasks(url)
    assert [(task["agent_id"], task["unit_id"]) for task in tasks] == [
        ("support", "conversation-1"),
        ("sales", "conversation-1"),
        ("sales", "conversation-1"),
    ]
    assert first == tasks[0]["id"]
    assert sorted(vote["agent_id"] for vote in recorded_votes(url)) == ["sales", "support"]


def test_an_exchange_counts_for_the_agents_that_took_part_in_it(url: str) -> None:
    support, sales = prompt_handle("support", default="You help."), prompt_handle("sales", default="You sell.")

    def ask_sales(question: str) -> str:
        return sales()

    def ask_support(question: str) -> str:
        return support() + recorded(ask_sales, "How much?")

    with turn("conversation-1") as outer:
        recorded(ask_support, "Where?")
        assert [*outer.tasks] == ["support"]
        recorded(ask_sales, "Which?")
        assert [*outer.tasks] == ["sales"]
        assert [*outer.served] == ["support", "sales"]
    told = [(task["agent_id"], task["history"][0]["content"]) for task in recorded_tasks(url)]
    assert told == [("sales", "How much?"), ("support", "Where?"), ("sales", "Which?")]


class SharedAgent:
    """What frameworks have in common: instructions, as a text or a function, read after some awaits."""

    def __init__(self, instructions: str | Callable[[], str]) -> None:
        self.instructions = instructions
        self._random = random.Random(3)

    async def run(self, question: str) -> str:
        """The text that a model was given."""
        await asyncio.sleep(self._random.random() / 100)
        text = self.instructions if isinstance(self.instructions, str) else self.instructions()
        await asyncio.sleep(self._random.random() / 100)
        return text


def misattributed(url: str) -> int:
    tasks = recorded_tasks(url)
    assert len(tasks) == 200
    return sum(task["history"][-1]["content"] != TEXTS[task["prompt_id"]] for task in tasks)


def test_of_200_conversations_at_once_none_counts_for_another_prompt(url: str) -> None:
    begin_trial()
    agent = SharedAgent(prompt_handle("support", default=ACTIVE))

    async def talk(number: int) -> None:
        with turn(f"conversation-{number}"):
            await recorded_async(agent.run, f"Question {number}?")

    async def talks() -> None:
        await asyncio.gather(*map(talk, range(200)))

    asyncio.run(talks())
    assert misattributed(url) == 0
    assert {task["prompt_id"] for task in recorded_tasks(url)} == {1, 2}


def test_setting_the_instructions_of_a_shared_agent_would_mis_attribute(url: str) -> None:
    begin_trial()
    handle, agent = prompt_handle("support", default=ACTIVE), SharedAgent("")

    async def talk(number: int) -> None:
        with turn(f"conversation-{number}") as opened:
            agent.instructions = handle()
            opened.record(f"Question {number}?", await agent.run(f"Question {number}?"))

    async def talks() -> None:
        await asyncio.gather(*map(talk, range(200)))

    asyncio.run(talks())
    assert misattributed(url) > 50


def test_a_failed_call_is_recorded_as_failed_and_raised(url: str) -> None:
    handle = prompt_handle("support", default=ACTIVE)

    def run(question: str) -> str:
        handle()
        raise ConnectionError(question)

    async def run_long(question: str) -> None:
        handle()
        await asyncio.sleep(60)

    async def give_up() -> None:
        async with asyncio.timeout(0.05):
            await recorded_async(run_long, "How?")

    with pytest.raises(ConnectionError, match="Where"):
        recorded(run, "Where?")
    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert [(task["state"], task["history"]) for task in recorded_tasks(url)] == [
        ("failed", [{"role": "user", "content": "Where?"}]),
        ("canceled", [{"role": "user", "content": "How?"}]),
    ]


def test_a_result_is_not_lost_when_nothing_can_be_recorded(url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert recorded(lambda question: "There.", "Where?") == "There."
    assert "No prompt was served" in caplog.text
    handle = prompt_handle("support", default=ACTIVE)
    assert recorded(handle) == ACTIVE
    assert "no question" in caplog.text

    async def answer(question: str) -> str:
        return handle()

    recorded(answer, "Where?").close()
    assert "recorded_async" in caplog.text
    assert recorded_tasks(url) == []


def test_what_cannot_be_recorded_by_hand_is_said(url: str) -> None:
    handle = prompt_handle("support", default=ACTIVE)
    with turn() as opened:
        with pytest.raises(InvalidPromptError, match="No prompt was served"):
            opened.record("Where?", "There.")
        handle()
        with pytest.raises(InvalidHistoryError):
            opened.record([], None)
        with pytest.raises(InvalidArgumentError, match="record"):
            opened.feedback({"rating": 5})
        assert opened.task_id is None


def test_a_vote_is_stored_after_its_exchange_and_an_unknown_one_is_said(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    handle = prompt_handle("support", default=ACTIVE)
    recorded(lambda question: handle(), "Where?")
    task_id = last_task_id()
    assert task_id is not None
    handle.feedback(task_id, {"rating": 4, "comment": "Fine."}, rater_id="alice").result(10)
    [vote] = recorded_votes(url)
    assert (vote["task_id"], vote["score"], vote["rater_id"]) == (task_id, 0.8, "alice")
    with pytest.raises(InvalidFeedbackError):
        handle.feedback(task_id, {"rating": 99})
    with pytest.raises(UnknownTaskError):
        handle.feedback(UUID(int=0), {"rating": 5}).result(10)
    assert "A vote was not stored" in caplog.text


def test_an_attempt_to_vote_that_is_repeated_with_its_key_is_stored_once(url: str) -> None:
    handle = prompt_handle("support", default=ACTIVE)
    with turn() as opened:
        handle()
        opened.record("Where?", "There.")
        for _ in range(2):
            opened.feedback({"rating": 5}, rater_id="alice", idempotency_key="click-1").result(10)
    assert len(recorded_votes(url)) == 1


def test_what_waits_and_was_dropped_is_in_the_process_own_figures(url: str) -> None:
    handle = prompt_handle("support", default=ACTIVE)
    recorded(lambda question: handle(), "Where?")
    stranger = read_exchange([{"role": "user", "content": "Where?"}], prompt_id=99, agent_id="support")
    background().record(stranger)
    flush(10)
    read = REGISTRY.get_sample_value
    assert (read("bindu_spool_bytes"), read("bindu_spool_exchanges")) == (0, 0)
    assert read("bindu_dropped_exchanges_total", {"reason": "refused"}) == 1
    end_background()
    assert read("bindu_spool_bytes") is None


def test_words_without_a_vote_are_counted_as_a_remark(url: str) -> None:
    labels = {"agent": "support", "kind": "remark"}
    before = REGISTRY.get_sample_value("bindu_feedback_total", labels) or 0
    handle = prompt_handle("support", default=ACTIVE)
    with turn() as opened:
        handle()
        opened.record("Where?", "There.")
        opened.feedback({"comment": "Hm."}).result(10)
    assert REGISTRY.get_sample_value("bindu_feedback_total", labels) == before + 1


def test_without_a_database_the_default_is_served_until_there_is_one(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app_settings.storage, "postgres_url", SecretStr("postgresql://127.0.0.1:9/nothing"))
    began = monotonic()
    handle = prompt_handle("support", default="You are kind.")
    recorded(lambda question: handle(), "Where?")
    assert monotonic() - began < 3
    assert handle.select()["id"] is None
    monkeypatch.setattr(app_settings.storage, "postgres_url", SecretStr(url))
    until(lambda: handle.select()["id"] == 1)
    until(lambda: asyncio.run(value(url, "SELECT count(*) FROM bindu_dspy.tasks")) == 1)  # it waited on disk
    assert [task["prompt_id"] for task in recorded_tasks(url)] == [1]


def test_a_database_that_was_never_named_is_said_and_the_default_served(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app_settings.storage, "postgres_url", None)
    assert prompt_handle("support", default="You are kind.")() == "You are kind."
    assert "STORAGE__POSTGRES_URL" in caplog.text


def test_the_last_good_prompt_is_served_while_the_database_is_away(url: str, server_url: str) -> None:
    background().submit(_bootstrap_other()).result(10)
    handle = prompt_handle("support", default="You are kind.")
    assert handle() == "You are another."
    database = urlsplit(url).path.removeprefix("/")
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    asyncio.run(execute(server_url, f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false", end))
    try:
        recorded(lambda question: handle(), "Where?")
        assert handle() == "You are another."
    finally:
        asyncio.run(execute(server_url, f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true"))
    until(lambda: asyncio.run(value(url, "SELECT count(*) FROM bindu_dspy.tasks")) == 1)


async def _bootstrap_other() -> None:
    from bindu.dspy.prompts import bootstrap_prompt

    await bootstrap_prompt("You are another.", agent_id="support")


PROGRAM = """
import os, sys
from bindu.dspy.integrations import flush, last_task_id, prompt_handle, recorded
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"agno", "agents", "dspy", "langchain", "crewai", "openfeature", "google", "starlette"}, loaded

handle = prompt_handle("support", default="You are kind.")
def agent(question): return handle()
recorded(agent, "parent, before")
handle.feedback(last_task_id(), {"thumbs_up": True})
child = os.fork()
if child == 0:
    recorded(agent, "child")
    sys.exit(0)  # without flush: the end of a process stores what waits
assert os.waitpid(child, 0)[1] == 0
recorded(agent, "parent, after")
"""


def test_a_fork_starts_its_own_thread_and_the_end_of_a_process_loses_nothing(url: str, tmp_path: Path) -> None:
    environment = os.environ | {"STORAGE__POSTGRES_URL": url}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    questions = [task["history"][0]["content"] for task in recorded_tasks(url)]
    assert sorted(questions) == ["child", "parent, after", "parent, before"]
    assert len(recorded_votes(url)) == 1


def test_the_end_of_a_process_without_a_database_leaves_the_exchange_on_disk(url: str, tmp_path: Path) -> None:
    program = PROGRAM.partition("handle.feedback")[0]
    environment = os.environ | {"STORAGE__POSTGRES_URL": "postgresql://127.0.0.1:9/nothing"}
    command = [sys.executable, "-W", "error", "-c", program]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=60)
    [waiting] = (tmp_path / ".bindu" / "spool").iterdir()
    assert b"parent, before" in waiting.read_bytes()
