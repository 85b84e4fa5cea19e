"""Messages as they were stored become clean ones; examples know where they come from."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.extractor import InteractionExtractor, clean_messages
from bindu.dspy.models import Funnel, Interaction, RawTask, Vote
from bindu.dspy.strategies import (
    STRATEGIES,
    BaseExtractionStrategy,
    FirstNTurnsStrategy,
    FullHistoryStrategy,
    KeyTurnsStrategy,
    LastNTurnsStrategy,
    SimilarityStrategy,
    SlidingWindowStrategy,
    parse_turns,
)

TASK = UUID("01920000-0000-7000-8000-000000000001")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "parts", "kind", "type", "text", "data"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)
texts = st.text(alphabet="ab e\u0301\n", min_size=1, max_size=5).filter(str.strip)
histories = st.lists(
    st.lists(
        st.tuples(texts, texts).map(
            lambda pair: [{"role": "user", "content": pair[0]}, {"role": "agent", "content": pair[1]}]
        ),
        min_size=1,
        max_size=2,
    ).map(lambda exchanges: [message for exchange in exchanges for message in exchange]),
    min_size=1,
    max_size=4,
)


def raw(history: list[Any], *earlier: list[Any], votes: tuple[Vote, ...] = ()) -> RawTask:
    return RawTask(
        id=TASK, prompt_id=7, context_id="talk", created_at=NOON, history=history, votes=votes, earlier=tuple(earlier)
    )


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def agent(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        ({"role": " USER ", "content": "  hi\n\n- a\n- b \n"}, user("hi\n\n- a\n- b")),
        ({"role": "Agent", "content": "e\u0301"}, agent("\u00e9")),
        ({"role": "ROLE_AGENT", "parts": [{"text": "v1"}]}, agent("v1")),
        ({"role": "agent", "parts": [{"kind": "text", "text": "a"}, {"type": "text", "text": "b"}]}, agent("a\nb")),
        ({"role": "user", "parts": [{"kind": "file", "file": {}}, {"kind": "text", "text": "see"}]}, user("see")),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, "b"]}, user("a\nb")),
        ({"role": "user", "content": [{"type": "input_text", "text": "q"}]}, user("q")),
        ({"role": "assistant", "content": [{"type": "output_text", "text": "r"}]}, agent("r")),
        ({"role": "assistant", "content": "", "parts": [{"kind": "text", "text": "p"}]}, agent("p")),
        ({"role": "tool", "content": "42"}, {"role": "tool", "content": "42"}),
    ],
)
def test_every_stored_shape_of_a_message_is_read(message: dict[str, Any], cleaned: dict[str, str]) -> None:
    assert clean_messages([message]) == [cleaned]


@pytest.mark.parametrize(
    "message",
    [
        None,
        "user: hi",
        {},
        {"role": "user"},
        {"content": "hi"},
        {"role": "user", "content": None},
        {"role": "user", "content": " \n"},
        {"role": "", "content": "hi"},
        {"role": 3, "content": "hi"},
        {"role": "user", "content": {"text": "hi"}},
        {"role": "agent", "parts": [{"kind": "data", "text": "hi"}, {"kind": ["text"], "text": "hi"}]},
    ],
)
def test_empty_and_invalid_messages_are_dropped(message: Any) -> None:
    assert clean_messages([message]) == []


@given(st.lists(json_values, max_size=6))
def test_cleaning_never_raises_and_once_is_enough(messages: list[Any]) -> None:
    cleaned = clean_messages(messages)
    assert clean_messages(cleaned) == cleaned
    for message in cleaned:
        assert set(message) == {"role", "content"}
        text = message["content"]
        assert text == text.strip() == unicodedata.normalize("NFC", text) != ""


def test_without_a_strategy_the_last_turn_is_taken() -> None:
    found = InteractionExtractor().extract(TASK, [user("q"), agent("r"), user(" q2 "), agent("r2")], 0.4, "rating")
    assert found == Interaction(TASK, "q2", "r2", 0.4, "rating")
    assert InteractionExtractor().extract_all(TASK, [user("q")]) == []


def test_an_example_knows_where_it_comes_from() -> None:
    votes = (
        Vote(kind="rating", score=1.0, rater_id="ann", comment="good", correction="first"),
        Vote(kind="rating", score=0.2, rater_id="bob", correction="better"),
        Vote(kind="thumbs_up", score=0.0),
    )
    [found] = InteractionExtractor().extract_task(raw([user("q"), agent("r")], votes=votes))
    assert found == Interaction(
        TASK,
        "q",
        "r",
        pytest.approx(0.4),
        "rating",
        context_id="talk",
        created_at=NOON,
        prompt_id=7,
        raters=("ann", "bob", ""),
        comments=("good",),
        correction="better",
    )


def test_the_last_turn_does_not_look_at_earlier_tasks() -> None:
    assert InteractionExtractor().extract_task(raw([agent("r")], [user("q"), agent("old")])) == []


@given(histories)
def test_new_messages_only_or_everything_every_time_is_the_same_conversation(parts: list[list[dict[str, str]]]) -> None:
    """Unless a later part repeats the whole talk so far: then nobody can tell the two ways of storing apart."""
    whole = [[message for part in parts[: i + 1] for message in part] for i in range(len(parts))]
    extractor = InteractionExtractor(FullHistoryStrategy())
    [everything] = extractor.extract_task(raw(whole[-1], *whole[:-1]))
    assert parse_turns(clean_messages(whole[-1]))[0].user == everything.user_input
    assert everything == extractor.extract_task(raw(whole[-1]))[0]
    repeated = any(
        clean_messages(part)[: len(before)] == before
        for part, before in zip(parts[1:], map(clean_messages, whole), strict=False)
    )
    if not repeated:
        assert extractor.extract_task(raw(parts[-1], *parts[:-1])) == [everything]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_question_without_an_answer_puts_no_feedback_on_what_was_said_before(name: str) -> None:
    extractor, funnel = InteractionExtractor(STRATEGIES[name]()), Funnel()
    liked, old = (Vote(kind="thumbs_up", score=1.0),), [user("q"), agent("old")]
    for history in ([user("q2")], [agent("more")], [*old, user("q2")]):
        if name != "last_turn" or history[:2] != old:  # it reads a task for itself: that one holds an answer
            assert extractor.extract_task(raw(history, old, votes=liked), funnel=funnel) == []
    assert funnel.drops == {"no_turn": 2 if name == "last_turn" else 3}


def test_the_same_exchange_again_is_a_turn_of_its_own() -> None:
    old = [user("q"), agent("old")]
    [repeated] = InteractionExtractor(LastNTurnsStrategy()).extract_task(raw(old, old))
    assert (repeated.user_input, repeated.agent_output) == ("User: q\nAssistant: old\n\nUser: q", "old")


class FirstAnswer(BaseExtractionStrategy):
    """A custom strategy that does not say whose answer it gives."""

    name = "first_answer"

    def extract(self, task_id: UUID, messages: Any, feedback_score: Any = None, feedback_type: Any = None) -> Any:
        return Interaction(task_id, messages[0]["content"], messages[1]["content"], feedback_score, feedback_type)


@pytest.mark.parametrize("answers", [("a0", "a1", "a2"), ("same", "same", "same")])
@pytest.mark.parametrize("whole", [False, True], ids=["new messages", "whole talk"])
@pytest.mark.parametrize(
    "strategy",
    [
        SlidingWindowStrategy(1),
        SlidingWindowStrategy(2),
        FirstNTurnsStrategy(1),
        SimilarityStrategy("q0", 1),
        KeyTurnsStrategy(keywords=["q0"], include_final=False),
    ],
    ids=lambda strategy: strategy.name,
)
def test_an_earlier_tasks_answer_keeps_that_tasks_score(
    strategy: BaseExtractionStrategy, whole: bool, answers: tuple[str, ...]
) -> None:
    exchanges = [[user(f"q{i}"), agent(answer)] for i, answer in enumerate(answers)]
    talks = list(accumulate(exchanges)) if whole else exchanges
    scores = (1.0, 0.8, 0.2)
    funnel, found = Funnel(), []
    for i, score in enumerate(scores):
        task = raw(talks[i], *talks[:i], votes=(Vote(kind="rating", score=score),))
        found += InteractionExtractor(strategy).extract_task(task, funnel=funnel)
    several = isinstance(strategy, SlidingWindowStrategy)
    assert [one.feedback_score for one in found] == ([1.0, 0.8, 0.2] if several else [1.0])
    assert [one.user_input.rpartition("q")[2] for one in found] == (["0", "1", "2"] if several else ["0"])
    dropped = {1: 3, 2: 1}[strategy.window_size] if several else 2
    assert funnel.drops == {"earlier_answer": dropped}


def test_a_custom_strategy_that_does_not_say_whose_answer_it_gives_is_read_by_its_text() -> None:
    extractor, funnel = InteractionExtractor(FirstAnswer()), Funnel()
    old, new = [user("q"), agent("old")], [user("q2"), agent("new")]
    [first] = extractor.extract_task(raw(old), funnel=funnel)
    assert (first.agent_output, funnel.drops) == ("old", {})
    assert extractor.extract_task(raw(new, old), funnel=funnel) == []
    assert extractor.extract_task(raw(old + new, old), funnel=funnel) == []
    assert funnel.drops == {"earlier_answer": 2}


one_or_more_turns = st.lists(st.integers(1, 3), min_size=1, max_size=4)


@given(one_or_more_turns, st.booleans(), st.sampled_from([cls() for cls in STRATEGIES.values()]))
def test_every_example_ends_with_an_answer_of_its_own_task(
    sizes: list[int], whole: bool, strategy: BaseExtractionStrategy
) -> None:
    parts = [
        [said(f"{side}{task}.{turn}") for turn in range(size) for side, said in (("q", user), ("a", agent))]
        for task, size in enumerate(sizes)
    ]
    talks = list(accumulate(parts)) if whole else parts
    for i in range(len(parts)):
        funnel = Funnel()
        found = InteractionExtractor(strategy).extract_task(raw(talks[i], *talks[:i]), funnel=funnel)
        assert bool(found) or funnel.drops == {"earlier_answer": 1}
        for one in found:
            assert f"a{i}." in one.agent_output[-4:]


class Windowless(BaseExtractionStrategy):
    """A custom strategy that gives two examples and forgets feedback and windows."""

    name = "windowless"

    def extract(self, task_id: UUID, messages: Any, feedback_score: Any = None, feedback_type: Any = None) -> Any:
        return Interaction(task_id, messages[0]["content"], "r")

    def extract_all(self, task_id: UUID, messages: Any, feedback_score: Any = None, feedback_type: Any = None) -> Any:
        return [self.extract(task_id, messages)] * 2


def test_windows_and_scores_that_a_custom_strategy_forgets_are_filled_in() -> None:
    liked = (Vote(kind="thumbs_up", score=1.0),)
    found = InteractionExtractor(Windowless()).extract_task(raw([user("q")], votes=liked))
    assert [(one.window, one.feedback_score, one.feedback_type) for one in found] == [
        (0, 1.0, "thumbs_up"),
        (1, 1.0, "thumbs_up"),
    ]


def test_windows_of_one_task_carry_its_provenance() -> None:
    found = InteractionExtractor(SlidingWindowStrategy(1)).extract_task(
        raw([user("q"), agent("r"), user("s"), agent("t")])
    )
    assert [(one.id, one.window, one.context_id) for one in found] == [(TASK, 0, "talk"), (TASK, 1, "talk")]
