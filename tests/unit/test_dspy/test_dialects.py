"""Requests keep every byte but the prompt, and a streamed answer is read as the whole one is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bindu.dspy.models import JsonObject
from bindu.dspy.web.proxy.conversations import Conversations
from bindu.dspy.web.proxy.dialects import CHAT, RESPONSES, Dialect
from bindu.dspy.web.proxy.events import Events

PROMPT = "You are the new prompt: 'kind', \"brief\" \\ ✓"

words = st.text(max_size=20)
numbers = st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=8,
)
others = st.dictionaries(words.filter(lambda name: name not in ("messages", "input", "instructions")), values)
spoken = st.fixed_dictionaries({"role": st.just("user"), "content": words}, optional={"name": words, "x": values})
prompts = st.sampled_from(("system", "developer")).flatmap(
    lambda role: st.fixed_dictionaries(
        {"role": st.just(role), "content": words | st.tuples(words).map(_part)}, optional={"name": words}
    )
)
ends = st.sampled_from(("\n", "\r\n", "\r"))
spaces = st.sampled_from((None, 1))


def _part(text: tuple[str]) -> list[JsonObject]:
    return [{"type": "text", "text": text[0], "cache_control": {"type": "ephemeral"}}]


def with_text(content: object, text: str) -> object:
    """A single part keeps what else it says."""
    return [content[0] | {"text": text}] if isinstance(content, list | tuple) else text


def encoded(body: JsonObject, indent: int | None) -> bytes:
    return json.dumps(body, indent=indent).encode()  # escapes all but ASCII, as no encoder of ours would


def texts_of(body: bytes) -> dict[str, str]:
    """The raw text of every field; the last of two that have one name."""
    found: dict[str, str] = {}
    text, decoder = body.decode(), json.JSONDecoder()
    at = text.index("{") + 1
    while (at := _next(text, at)) < len(text) and text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        begin = _next(text, at)
        _, at = decoder.raw_decode(text, begin)
        found[name] = text[begin:at]
    return found


def items_of(text: str) -> list[str]:
    items, at, decoder = [], 1, json.JSONDecoder()
    while (at := _next(text, at)) < len(text) and text[at] != "]":
        begin = at
        _, at = decoder.raw_decode(text, begin)
        items.append(text[begin:at])
    return items


def _next(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \n\r\t,:":
        at += 1
    return at


@given(others, prompts, st.lists(spoken, min_size=1, max_size=4), spaces)
def test_of_a_chat_everything_but_the_prompt_stays_byte_for_byte(
    more: JsonObject, prompt: JsonObject, said: list[JsonObject], indent: int | None
) -> None:
    body = encoded(more | {"messages": [prompt, *said]}, indent)
    question = CHAT.question(body)
    sent = question.with_prompt(PROMPT)
    before, after = texts_of(body), texts_of(sent)
    assert list(before) == list(after)
    assert {name: text for name, text in after.items() if name != "messages"} == {
        name: text for name, text in before.items() if name != "messages"
    }
    assert items_of(after["messages"])[1:] == items_of(before["messages"])[1:]
    assert json.loads(items_of(after["messages"])[0]) == prompt | {"content": with_text(prompt["content"], PROMPT)}
    assert question.text == (prompt["content"] if isinstance(prompt["content"], str) else prompt["content"][0]["text"])
    assert question.with_prompt(question.text) == body


@given(others, st.lists(spoken, max_size=3), spaces)
def test_a_chat_without_a_prompt_gets_one_in_front(
    more: JsonObject, said: list[JsonObject], indent: int | None
) -> None:
    body = encoded(more | {"messages": said}, indent)
    question = CHAT.question(body)
    assert question.text is None
    [first, *rest] = items_of(texts_of(question.with_prompt(PROMPT))["messages"])
    assert json.loads(first) == {"role": "system", "content": PROMPT}
    assert rest == items_of(texts_of(body)["messages"])


@given(others, words | st.none(), words | st.lists(spoken, min_size=1, max_size=3), spaces)
def test_of_a_response_only_the_instructions_change(
    more: JsonObject, prompt: str | None, asked: Any, indent: int | None
) -> None:
    given_prompt = {} if prompt is None else {"instructions": prompt}
    body = encoded(given_prompt | more | {"input": asked}, indent)
    question = RESPONSES.question(body)
    assert question.text == prompt
    before, after = texts_of(body), texts_of(question.with_prompt(PROMPT))
    assert json.loads(after.pop("instructions")) == PROMPT
    before.pop("instructions", None)
    assert list(before.items()) == list(after.items())


@given(prompts, st.lists(spoken, min_size=1, max_size=3))
def test_of_a_response_a_first_developer_message_is_the_prompt(prompt: JsonObject, said: list[JsonObject]) -> None:
    body = encoded({"model": "m", "input": [prompt, *said]}, None)
    sent = texts_of(RESPONSES.question(body).with_prompt(PROMPT))
    assert "instructions" not in sent
    assert json.loads(items_of(sent["input"])[0]) == prompt | {"content": with_text(prompt["content"], PROMPT)}
    assert items_of(sent["input"])[1:] == items_of(texts_of(body)["input"])[1:]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("seed", "123456789012345678901234567890123456789012345678901234567890"),
        ("temperature", "0.10000000000000000555"),
        ("top_p", "1E-2"),
        ("x", r'"\u0041\/"'),
        ("tools", '[{"type":"function","function":{"name":"f","parameters":{"b":1,"a":2,"a":3}}}]'),
    ],
)
def test_what_another_encoder_would_rewrite_is_left_alone(field: str, text: str) -> None:
    body = f'{{"{field}": {text}, "messages":[{{"role":"system","content":"old"}}]}}'.encode()
    assert texts_of(CHAT.question(body).with_prompt(PROMPT))[field] == text


def test_a_lone_surrogate_and_a_huge_number_pass() -> None:
    messages = rb'[{"role":"system","content":"a"},{"role":"user","content":"\ud83d"}]'
    body = b'{"n":123456789012345678901234567890,"messages":' + messages + b"}"
    sent = CHAT.question(body).with_prompt(PROMPT)
    assert rb'"\ud83d"' in sent
    assert texts_of(sent)["n"] == "123456789012345678901234567890"
    assert json.loads(sent)["messages"][0]["content"] == PROMPT


def test_of_two_fields_with_one_name_the_last_counts_and_one_is_sent() -> None:
    body = b'{"messages":[{"role":"system","content":"a"}],"n":1,"messages":[{"role":"system","content":"b"}],"n":2}'
    question = CHAT.question(body)
    assert question.text == "b"
    assert question.with_prompt("c") == b'{"messages":[{"role":"system","content":"c"}],"n":2}'


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[]", b"3", b"{", b"\xff\xfe\x00", b"{}"),
        *(b'{"messages": "hello"}', b'{"messages": null}', b'{"messages": {"role": "user"}}'),
        b'{"messages": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    ],
)
def test_what_is_no_chat_is_told_by_the_errors_that_the_proxy_passes_over(body: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        CHAT.said(CHAT.question(body))


@pytest.mark.parametrize("content", [[], None, 3, [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]])
def test_a_prompt_of_several_parts_or_none_is_nobodys_and_is_replaced_when_an_agent_is_named(content: Any) -> None:
    body = encoded({"messages": [{"role": "system", "content": content}, {"role": "user", "content": "x"}]}, None)
    question = CHAT.question(body)
    assert question.text is None
    assert json.loads(question.with_prompt("new"))["messages"] == [
        {"role": "system", "content": "new"},
        {"role": "user", "content": "x"},
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "assistant", "audio": {"id": "a"}},
        {"role": "user"},
    ],
)
def test_a_message_without_text_is_recorded_without_text(message: JsonObject) -> None:
    [said] = CHAT.said(CHAT.question(encoded({"messages": [message]}, None)))
    assert said == message | {"content": ""}


def test_the_bytes_of_a_file_are_not_recorded() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000}}
    question = CHAT.question(encoded({"messages": [{"role": "user", "content": [picture]}]}, None))
    assert len(json.dumps(CHAT.said(question))) < 300
    assert b"A" * 5_000 in question.with_prompt(PROMPT)


# answers


def stream_of(events: list[JsonObject], end: str, *, named: bool = False) -> bytes:
    lines = [f": hello{end}{end}"]
    for event in events:
        kind = f"event: {event['type']}{end}" if named else ""
        lines.append(f"{kind}data: {json.dumps(event)}{end}{end}")
    return "".join([*lines, f"data: [DONE]{end}{end}"]).encode()


def chunk(delta: JsonObject, finish: str | None = None, **more: Any) -> JsonObject:
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


pieces = st.lists(st.text(max_size=6), min_size=1, max_size=6)
calls = st.lists(st.tuples(words.filter(bool), st.lists(st.text(max_size=5), max_size=4)), max_size=3)


@given(pieces, calls, ends)
@example(["\ud83d", "\ude00"], [], "\n")
def test_a_streamed_chat_is_read_as_the_whole_one(
    said: list[str], tools: list[tuple[str, list[str]]], end: str
) -> None:
    usage = {"prompt_tokens": 3, "total_tokens": 5}
    deltas: list[JsonObject] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in said)]
    whole: JsonObject = {"role": "assistant", "content": "".join(said)}
    for number, (name, parts) in enumerate(tools):
        head = {"index": number, "id": f"call_{number}", "type": "function"}
        deltas.append({"tool_calls": [head | {"function": {"name": name, "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": number, "function": {"arguments": part}}]} for part in parts]
    if tools:
        whole["tool_calls"] = [
            {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": "".join(parts)}}
            for number, (name, parts) in enumerate(tools)
        ]
    if whole["content"] == "\ud83d\ude00":
        whole["content"] = "😀"
    events = [chunk(delta) for delta in deltas] + [chunk({}, "stop"), {"id": "x", "choices": [], "usage": usage}]
    events[-1]["id"] = "chatcmpl-1"
    streamed = CHAT.streamed(Events(stream_of(events, end)).objects)
    choice = {"index": 0, "message": whole, "finish_reason": "stop"}
    read = CHAT.answer(encoded({"id": "chatcmpl-1", "choices": [choice], "usage": usage}, None))
    assert streamed.complete
    assert (streamed.id, streamed.usage) == (read.id, read.usage) == ("chatcmpl-1", usage | {"finish_reason": "stop"})
    assert streamed.messages == (read.messages if whole["content"] or tools else [])


def response_of(said: list[str], status: str = "completed") -> JsonObject:
    parts = [{"type": "output_text", "text": "".join(said), "annotations": []}]
    output = [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant", "content": parts}]
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    return {"id": "resp_1", "status": status, "output": [*output, call], "usage": {"input_tokens": 3}}


def response_events(said: list[str]) -> list[JsonObject]:
    begun = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "output": []}}
    deltas = [{"type": "response.output_text.delta", "delta": piece} for piece in said]
    return [begun, *deltas, {"type": "response.completed", "response": response_of(said)}]


@given(pieces, ends)
def test_a_streamed_response_is_read_as_the_whole_one(said: list[str], end: str) -> None:
    streamed = RESPONSES.streamed(Events(stream_of(response_events(said), end, named=True)).objects)
    assert streamed == RESPONSES.answer(encoded(response_of(said), None))
    assert streamed.complete
    assert streamed.messages[0] == {"role": "assistant", "content": "".join(said)}
    assert streamed.messages[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize("dialect", [CHAT, RESPONSES])
@given(said=pieces, end=ends, share=st.floats(0, 1))
def test_a_stream_torn_at_any_byte_gives_what_was_said_until_then(
    dialect: Dialect, said: list[str], end: str, share: float
) -> None:
    if dialect is CHAT:
        events = [chunk({"content": piece}) for piece in said] + [chunk({}, "stop")]
    else:
        events = response_events(said)
    stream = stream_of(events, end)
    torn = stream[: int(share * len(stream))]
    answer = dialect.streamed(Events(torn).objects)
    spoken = "".join(message["content"] for message in answer.messages[:1])
    assert "".join(said).startswith(spoken)
    last = json.dumps(events[-1])
    assert answer.complete == (last.encode() in torn)
    assert torn.count(b"data: ") <= 1 or answer.id is not None


def test_an_answer_that_comes_later_or_failed_is_not_a_complete_one() -> None:
    with pytest.raises(ValueError, match="background"):
        RESPONSES.answer(encoded({"id": "r", "status": "queued", "output": []}, None))
    assert not RESPONSES.answer(encoded(response_of(["a"], "failed"), None)).complete
    assert not CHAT.answer(b'{"id": "c", "choices": []}').complete


def test_without_any_id_a_conversation_is_known_by_its_user_and_first_answer() -> None:
    conversations = Conversations()
    hello: list[JsonObject] = [{"role": "user", "content": "Hi"}]
    talk = [*hello, {"role": "assistant", "content": "Hello!"}]
    longer = [*talk, {"role": "user", "content": "And?"}]
    ids = {}
    for name in ("ann", "bob", None):
        fields = {"user": name}
        ids[name] = conversations.of(None, fields, hello)
        conversations.remember(ids[name], f"r-{name}", fields, talk)
    assert len(set(ids.values())) == 3
    for name, known in ids.items():
        assert conversations.of(None, {"user": name}, longer) == known
        assert conversations.of(None, {"previous_response_id": f"r-{name}"}, hello) == known
    assert conversations.of(None, {}, hello) not in ids.values()


@pytest.mark.parametrize("fields", [{"metadata": {"conversation_id": "c"}}, {"conversation": {"id": "c"}}, {}])
def test_a_conversation_is_what_the_caller_says_it_is(fields: JsonObject) -> None:
    assert Conversations().of(None if fields else "c", fields, []) == "c"


def test_the_bytes_of_files_are_not_what_was_said() -> None:
    said = [
        {"type": "text", "text": "word " * 5_000},
        {"type": "input_audio", "input_audio": {"data": "QUJD" * 5_000, "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 500}},
    ]
    body = encoded({"messages": [{"role": "user", "content": said}]}, None)
    [message] = CHAT.said(CHAT.question(body))
    text, audio, image = message["content"]
    assert text == said[0]
    assert len(json.dumps([audio, image])) < 400
