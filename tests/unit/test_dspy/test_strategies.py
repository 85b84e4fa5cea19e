"""Nine ways to cut an example out of a conversation: their formats, and what holds for all of them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.errors import UnknownStrategyError
from bindu.dspy.models import Turn
from bindu.dspy.strategies import (
    STRATEGIES,
    BaseExtractionStrategy,
    ContextWindowStrategy,
    FirstNTurnsStrategy,
    FullHistoryStrategy,
    KeyTurnsStrategy,
    LastNTurnsStrategy,
    LastTurnStrategy,
    SimilarityStrategy,
    SlidingWindowStrategy,
    SummaryContextStrategy,
    get_strategy,
    parse_strategy,
    parse_turns,
)
from bindu.dspy.strategies.similarity import closest, jaccard, overlap, similarity, tokenize, weighted
from bindu.dspy.strategies.summary_context import clip, first_sentence

TASK = UUID("01920000-0000-7000-8000-000000000001")

words = st.text(alphabet="ab .!?\n\u00e9", min_size=1, max_size=12)
spoken = st.text(alphabet="abc ", min_size=1, max_size=6).filter(str.strip)
cleaned = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text},
        st.sampled_from(["user", "assistant", "system", "tool", "User", "AGENT", " agent "]),
        spoken,
    ),
    max_size=12,
)
junk = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
anything = st.lists(
    junk
    | st.fixed_dictionaries({}, optional={"role": junk | st.sampled_from(["user", "agent"]), "content": junk | words}),
    max_size=8,
)
every_strategy = st.one_of(
    st.sampled_from([LastTurnStrategy(), FullHistoryStrategy(), FullHistoryStrategy(max_length=20)]),
    st.builds(LastNTurnsStrategy, st.integers(-1, 5)),
    st.builds(FirstNTurnsStrategy, st.integers(-1, 5)),
    st.builds(ContextWindowStrategy, st.integers(-1, 5), st.none() | words),
    st.builds(SlidingWindowStrategy, st.integers(-1, 4), st.integers(-1, 3), st.integers(-1, 9)),
    st.builds(
        SummaryContextStrategy,
        st.integers(-1, 5),
        st.integers(-1, 5),
        st.integers(-1, 90),
        st.sampled_from(["bullets", "paragraph"]),
    ),
    st.builds(
        KeyTurnsStrategy,
        st.integers(-1, 5),
        st.lists(words, max_size=2),
        st.sampled_from(["jaccard", "weighted", "overlap"]),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(SimilarityStrategy, st.none() | words, st.integers(-1, 5)),
)
willing = st.sampled_from([cls() for cls in STRATEGIES.values()])  # those that take every complete turn


def talk(*texts: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def turns(count: int) -> list[dict[str, Any]]:
    return talk(*(f"{side}{i}" for i in range(1, count + 1) for side in ("u", "a")))


def cut(strategy: BaseExtractionStrategy, messages: Sequence[Any]) -> tuple[str, str] | None:
    found = strategy.extract(TASK, list(messages))
    return found and (found.user_input, found.agent_output)


def is_role(message: dict[str, Any], *roles: str) -> bool:
    return message["role"].strip().lower() in roles


# formats, by example


@pytest.mark.parametrize(
    ("strategy", "count", "user_input", "agent_output"),
    [
        (LastTurnStrategy(), 1, "u1", "a1"),
        (LastTurnStrategy(), 3, "u3", "a3"),
        (FullHistoryStrategy(), 1, "u1", "Assistant: a1"),
        (FullHistoryStrategy(), 2, "u1", "Assistant: a1\nUser: u2\nAssistant: a2"),
        (LastNTurnsStrategy(), 1, "u1", "a1"),
        (LastNTurnsStrategy(), 4, "User: u2\nAssistant: a2\nUser: u3\nAssistant: a3\n\nUser: u4", "a4"),
        (LastNTurnsStrategy(n_turns=0), 4, "u4", "a4"),
        (FirstNTurnsStrategy(), 1, "u1", "a1"),
        (FirstNTurnsStrategy(n_turns=2), 4, "u1", "Assistant: a1\nUser: u2\nAssistant: a2"),
        (ContextWindowStrategy(), 1, "u1", "a1"),
        (ContextWindowStrategy(), 4, "u2\n\nu3\n\nu4", "a4"),
        (ContextWindowStrategy(n_turns=4), 4, "[Turn 1] u1\n\n[Turn 2] u2\n\n[Turn 3] u3\n\n[Turn 4] u4", "a4"),
        (SlidingWindowStrategy(), 1, "u1", "a1"),
        (SlidingWindowStrategy(), 4, "u3\n\nu4", "a4"),
        (SummaryContextStrategy(), 1, "u1", "a1"),
        (SummaryContextStrategy(), 2, "User: u1\nAssistant: a1\n\nUser: u2", "a2"),
        (
            SummaryContextStrategy(),
            4,
            "[Previous conversation summary]\n- User: u1 Assistant: a1\n- User: u2 Assistant: a2\n\n"
            "[Recent conversation]\nUser: u3\nAssistant: a3\n\nUser: u4",
            "a4",
        ),
        (
            SummaryContextStrategy(summary_turns=2, recent_turns=1, summary_format="paragraph"),
            4,
            "[Previous conversation summary]\nUser: u2 Assistant: a2 User: u3 Assistant: a3\n\n"
            "[Recent conversation]\nUser: u4",
            "a4",
        ),
        (KeyTurnsStrategy(), 1, "u1", "a1"),
        (
            KeyTurnsStrategy(),
            3,
            "[Key context 1]\nUser: u1\nAssistant: a1\n\n[Key context 2]\nUser: u2\nAssistant: a2\n\n"
            "[Current query]\nUser: u3",
            "a3",
        ),
        (
            KeyTurnsStrategy(keywords=["U2"]),
            3,
            "[Key context 1]\nUser: u2\nAssistant: a2\n\n[Current query]\nUser: u3",
            "a3",
        ),
        (KeyTurnsStrategy(keywords=["u2"], include_final=False), 3, "u2", "a2"),
        (SimilarityStrategy(), 1, "u1", "a1"),
        (SimilarityStrategy(n_turns=1), 3, "u3", "a3"),
        (SimilarityStrategy(query="u1 then", n_turns=1), 3, "u1", "a1"),
    ],
)
def test_a_strategy_writes_its_format_to_the_letter(
    strategy: BaseExtractionStrategy, count: int, user_input: str, agent_output: str
) -> None:
    assert cut(strategy, turns(count)) == (user_input, agent_output)


def test_the_last_turn_pairs_the_last_answer_with_the_nearest_question_before_it() -> None:
    messages = [*talk("u1", "a1"), {"role": "Agent", "content": "a2"}, {"role": "USER", "content": "u2"}]
    assert cut(LastTurnStrategy(), messages) == ("u1", "a2")


def test_the_full_history_keeps_every_role_and_refuses_what_is_too_long() -> None:
    messages = [{"role": "system", "content": "s"}, *talk("u1", "a1"), {"role": "tool", "content": "42"}]
    output = "Assistant: a1\nTool: 42"
    assert cut(FullHistoryStrategy(max_length=len(output)), messages) == ("u1", output)
    assert cut(FullHistoryStrategy(max_length=len(output) - 1), messages) is None


def test_the_system_prompt_of_a_context_window_stays_on_the_interaction() -> None:
    found = ContextWindowStrategy(n_turns=3, system_prompt="Be helpful and concise").extract(
        TASK, turns(2), 0.8, "rating"
    )
    assert found is not None
    assert (found.system_prompt, found.feedback_score, found.feedback_type) == ("Be helpful and concise", 0.8, "rating")


def test_keywords_choose_the_newest_turns_that_name_one() -> None:
    strategy = KeyTurnsStrategy(n_turns=2, keywords=["refund"])
    messages = talk("Refunds?", "yes", "my refund", "soon", "hello", "hi", "bye", "ok")
    context, query = "[Key context 1]\nUser: my refund\nAssistant: soon", "[Current query]\nUser: bye"
    assert cut(strategy, messages) == (f"{context}\n\n{query}", "ok")


def test_a_conversation_that_names_no_keyword_teaches_nothing_about_it() -> None:
    assert cut(KeyTurnsStrategy(keywords=["refund"]), turns(3)) is None


def test_the_answers_are_left_out_of_the_comparison_on_demand() -> None:
    messages = talk("a", "refund", "b", "c")
    assert cut(KeyTurnsStrategy(keywords="refund", include_final=False), messages) == ("a", "refund")
    assert cut(KeyTurnsStrategy(keywords="refund", use_both_messages=False), messages) is None


@pytest.mark.parametrize("method", ["jaccard", "overlap", "weighted"])
def test_key_turns_are_those_most_like_the_final_one(method: str) -> None:
    messages = talk("where is my parcel", "there", "opening hours", "nine to five", "my parcel is late", "sorry")
    found = cut(KeyTurnsStrategy(n_turns=2, similarity_method=method), messages)
    assert found is not None
    assert "where is my parcel" in found[0]
    assert "opening hours" not in found[0]


def test_an_embedder_decides_what_is_close() -> None:
    vectors = {"q": (1.0, 0.0), "u1\na1": (0.9, 0.1), "u2\na2": (0.0, 1.0), "u3\na3": (0.1, 1.0)}
    strategy = SimilarityStrategy(query="q", n_turns=1, embedder=lambda texts: [vectors[text] for text in texts])
    assert cut(strategy, turns(3)) == ("u1", "a1")


def test_a_model_may_write_the_summary_and_silence_leaves_only_recent_turns() -> None:
    seen: list[Turn] = []

    def model(given: Sequence[Turn]) -> str:
        seen.extend(given)
        return "they met"

    found = cut(SummaryContextStrategy(recent_turns=1, summarizer=model), turns(2))
    assert found == ("[Previous conversation summary]\nthey met\n\n[Recent conversation]\nUser: u2", "a2")
    assert seen == [Turn("u1", "a1")]
    assert cut(SummaryContextStrategy(recent_turns=1, summarizer=lambda _: " "), turns(2)) == ("u2", "a2")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Hello there. How are you?", "Hello there."),
        ("Use a tool, e.g. a hammer. Then rest.", "Use a tool, e.g. a hammer."),
        ("Ask Dr. Who (i.e. the doctor)! Now.", "Ask Dr. Who (i.e. the doctor)!"),
        ("J. R. Tolkien wrote it. Yes.", "J. R. Tolkien wrote it."),
        ("It costs 3.50 euros. Cheap.", "It costs 3.50 euros."),
        ("1. Open the door\n2. Go", "1. Open the door"),
        ('He said "no." Then left.', 'He said "no."'),
        ("\u597d\u7684\u3002\u518d\u89c1", "\u597d\u7684\u3002"),
        ("no end", "no end"),
        ("word " * 30, "word " * 14 + "word..."),
    ],
)
def test_the_first_sentence_ends_where_a_reader_ends_it(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def test_a_wrong_summary_format_or_similarity_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="bullets"):
        SummaryContextStrategy(summary_format="poem")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="jaccard"):
        KeyTurnsStrategy(similarity_method="telepathy")


# what holds for all


@given(every_strategy, anything)
def test_no_strategy_raises_on_any_messages(strategy: BaseExtractionStrategy, messages: list[Any]) -> None:
    found = strategy.extract_all(TASK, messages, 0.5, "rating")
    one = strategy.extract(TASK, messages, 0.5, "rating")
    assert (one is None) == (not found)
    for interaction in found:
        assert (interaction.id, interaction.feedback_score, interaction.feedback_type) == (TASK, 0.5, "rating")
        assert interaction.user_input.strip()
        assert interaction.agent_output.strip()


@given(willing, cleaned)
def test_there_is_an_example_exactly_when_a_question_was_answered(
    strategy: BaseExtractionStrategy, messages: list[dict[str, Any]]
) -> None:
    asked = [i for i, message in enumerate(messages) if is_role(message, "user")]
    answered = any(is_role(message, "assistant", "agent") for message in messages[asked[0] :]) if asked else False
    assert (strategy.extract(TASK, messages) is not None) == answered


@given(cleaned)
def test_turns_pair_a_question_with_its_first_answer(messages: list[dict[str, Any]]) -> None:
    expected = []
    for i, message in enumerate(messages):
        if not is_role(message, "user"):
            continue
        for later in messages[i + 1 :]:
            if is_role(later, "user"):
                break
            if is_role(later, "assistant", "agent"):
                expected.append(Turn(message["content"], later["content"]))
                break
    assert parse_turns(messages) == expected


@given(cleaned, st.integers(1, 5), st.integers(1, 4), st.integers(0, 4))
def test_sliding_windows_cover_the_talk_and_can_be_told_apart(
    messages: list[dict[str, Any]], size: int, stride: int, offset: int
) -> None:
    found = SlidingWindowStrategy(size, stride, offset).extract_all(TASK, messages)
    answers = [turn.assistant for turn in parse_turns(messages)]
    assert [one.window for one in found] == list(range(len(found)))
    ends = range(min(offset + size, len(answers)), len(answers) + 1, stride) if answers else []
    assert [one.agent_output for one in found] == [answers[end - 1] for end in ends]


@given(st.integers(1, 6), st.integers(1, 6))
def test_windows_of_n_turns_are_the_same_for_all_who_use_them(n: int, count: int) -> None:
    messages = turns(count)
    window = cut(ContextWindowStrategy(n), messages)
    assert cut(SlidingWindowStrategy(window_size=n), messages) == window
    assert cut(FirstNTurnsStrategy(n), messages) == cut(FirstNTurnsStrategy(n), messages[: 2 * n])
    assert cut(LastNTurnsStrategy(n), messages) == cut(LastNTurnsStrategy(n), messages[-2 * n :])


@given(every_strategy)
def test_a_strategy_can_be_sent_to_another_process(strategy: BaseExtractionStrategy) -> None:
    assert pickle.loads(pickle.dumps(strategy)) == strategy


# similarity

texts = st.text(alphabet="ab AB", max_size=12)


@given(texts, texts, st.sampled_from([jaccard, overlap, weighted]))
def test_a_similarity_is_symmetric_between_zero_and_one(first: str, second: str, alike: Any) -> None:
    value = alike(first, second)
    assert -1e-9 <= value <= 1 + 1e-9
    assert value == pytest.approx(alike(second, first))
    assert alike(first, first) == pytest.approx(1.0 if first.strip() else 0.0)
    if not set(tokenize(first)) & set(tokenize(second)):
        assert value == 0


@given(texts, st.lists(texts, min_size=1, max_size=4))
def test_comparing_with_many_is_comparing_with_each(reference: str, corpus: list[str]) -> None:
    for method, pairwise in (("jaccard", jaccard), ("overlap", overlap)):
        assert similarity(method)(reference, corpus) == [pairwise(reference, text) for text in corpus]
    each = [weighted(reference, text, corpus) for text in corpus]
    assert similarity("weighted")(reference, corpus) == pytest.approx(each)


def test_similarities_by_hand() -> None:
    assert tokenize(" To be\nOR ") == ["to", "be", "or"]
    assert jaccard("a b c", "B c d") == 0.5
    assert overlap("a b", "b c d") == 0.5
    # a in both documents: idf 1; b and c in one of two: idf ln 2 + 1 = 1.693
    assert weighted("a b", "a c") == pytest.approx(1 / (1 + 1.693147**2))
    assert weighted("z", "z", ["a", "b"]) == pytest.approx(1.0)  # a word that no document has


def test_an_unknown_similarity_is_refused() -> None:
    with pytest.raises(ValueError, match="'jaccard', 'overlap' or 'weighted'"):
        similarity("cosine")


@given(st.lists(st.floats(0, 1), max_size=8), st.integers(0, 9))
def test_the_closest_are_the_highest_in_time_order(scores: list[float], count: int) -> None:
    chosen = closest(scores, count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, len(scores))
    left = [score for i, score in enumerate(scores) if i not in chosen]
    assert not left or not chosen or min(scores[i] for i in chosen) >= max(left)


def test_of_equally_close_turns_the_later_are_taken() -> None:
    assert closest([0.5, 0.5, 0.5, 0.1], 2) == [1, 2]


@given(words, st.integers(1, 20))
def test_a_clipped_text_is_a_beginning_that_fits(text: str, limit: int) -> None:
    short = clip(text, limit)
    assert len(short) <= limit
    assert text.startswith(short.removesuffix("...") if len(text) > limit else short)


# names


@pytest.mark.parametrize(
    ("spec", "strategy"),
    [
        ("last_turn", LastTurnStrategy()),
        ("full_history", FullHistoryStrategy()),
        ("full_history:5000", FullHistoryStrategy(max_length=5000)),
        ("last_n", LastNTurnsStrategy()),
        ("last_n:5", LastNTurnsStrategy(n_turns=5)),
        ("last_n_turns:5", LastNTurnsStrategy(n_turns=5)),
        ("first_n:2", FirstNTurnsStrategy(n_turns=2)),
        ("first_n_turns:2", FirstNTurnsStrategy(n_turns=2)),
        ("Context-Window:5", ContextWindowStrategy(n_turns=5)),
        ("sliding_window:3", SlidingWindowStrategy(window_size=3)),
        ("sliding_window:3:2", SlidingWindowStrategy(window_size=3, stride=2)),
        ("sliding_window:3:2:0", SlidingWindowStrategy(window_size=3, stride=2, start_offset=0)),
        ("summary_context", SummaryContextStrategy()),
        ("summary_context:6:1", SummaryContextStrategy(summary_turns=6, recent_turns=1)),
        ("key_turns", KeyTurnsStrategy()),
        ("key_turns:refund, invoice", KeyTurnsStrategy(keywords=["refund", "invoice"])),
        ("similarity", SimilarityStrategy()),
        ("similarity:how: refunds?", SimilarityStrategy(query="how: refunds?")),
    ],
)
def test_a_specification_names_its_strategy(spec: str, strategy: BaseExtractionStrategy) -> None:
    assert parse_strategy(spec) == strategy


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("last_tunr", "Did you mean last_turn"),
        ("", "Did you mean"),
        ("sumary_context:3", "Did you mean summary_context"),
        ("last_turn:3", "Write last_turn"),
        ("last_n:0", "Write last_n:3"),
        ("last_n:", "Write last_n:3"),
        ("last_n:three", "Write last_n:3"),
        ("last_n:-1", "Write last_n:3"),
        ("last_n:1:2", "Write last_n:3"),
        ("sliding_window:0", "Write sliding_window:2:1"),
        ("sliding_window:2:1:0:0", "Write sliding_window:2:1"),
        ("sliding_window:101", "A window of 101 turns is too large; 100 are the most"),
        (f"last_n:{'9' * 5_000}", "A number of last_n_turns has 5,000 digits; 9 are the most. Write last_n:3"),
        (f"sliding_window:2:1:{'0' * 10}", "has 10 digits"),
        ("key_turns:refund,,", "Write key_turns:refund,invoice"),
        ("similarity: ", "Write similarity:how"),
    ],
)
def test_a_wrong_specification_is_answered_with_the_right_one(spec: str, hint: str) -> None:
    with pytest.raises(UnknownStrategyError, match=hint) as caught:
        parse_strategy(spec)
    assert isinstance(caught.value, ValueError)


@given(st.text(max_size=20) | st.builds("{}:{}".format, st.sampled_from(list(STRATEGIES)), st.text(max_size=9)))
def test_any_text_is_a_strategy_or_refused(spec: str) -> None:
    try:
        found = parse_strategy(spec)
    except UnknownStrategyError:
        return
    assert found.name in STRATEGIES


def test_every_strategy_is_made_by_its_name() -> None:
    assert len(STRATEGIES) == 9
    for name, cls in STRATEGIES.items():
        made = get_strategy(name)
        assert type(made) is cls
        assert made.name == name
    assert get_strategy("sliding_window", window_size=4) == SlidingWindowStrategy(4)
    with pytest.raises(UnknownStrategyError, match="last_n:3"):
        get_strategy("nope")
