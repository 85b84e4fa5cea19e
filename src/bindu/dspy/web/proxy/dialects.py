"""The two request formats of OpenAI: where the prompt stands in them, and what was said.

Everything but the prompt stays as it came, byte for byte: requests are taken apart into raw JSON and put together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from bindu.dspy.models import JsonObject
from bindu.utils.lenient import loads

__all__ = ["CHAT", "RESPONSES", "Answer", "Dialect", "Question"]

_PROMPT_ROLES: Final = ("system", "developer")
_HALF: Final = re.compile("[\ud800-\udfff]")
_LONGEST_WORD: Final = 10_000  # letters without a space
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_LONGEST_DATA: Final = 1_000  # characters of a file inside a message, which is not what was said

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Answer:
    """What was read of an answer."""

    id: str | None = None
    messages: list[JsonObject] = field(default_factory=list)
    usage: JsonObject | None = None
    complete: bool = False


class Question:
    """A request's body. Raises ValueError when it is not a JSON object."""

    def __init__(self, body: bytes, place: str) -> None:
        self.body = body
        self._place = place  # the field with the messages
        self.fields = _objects(body)
        self.text: str | None = None  # the prompt that the caller sent
        self._where: str | None = None  # "instructions", or the field whose first message it is
        self._find()

    @property
    def messages(self) -> list[Any]:
        """What stands in the field with the messages, the prompt left out: objects, or one text."""
        given = _value(self.fields.get(self._place))
        if given is None:
            return []
        messages = given if isinstance(given, list) else [{"role": "user", "content": given}]
        return messages[1:] if self._where == self._place else messages

    def get(self, name: str) -> Any:
        """One field, None when it is missing."""
        return _value(self.fields.get(name))

    def with_prompt(self, text: str) -> bytes:
        """The body with another prompt, or with one when there was none."""
        if text == self.text:
            return self.body
        if self._where == "instructions" or (self._where is None and self._place == "input"):
            return msgspec.json.encode(self.fields | {"instructions": text})
        items = _items(self.fields[self._place])
        first = _value(items[0]) if self._where else {"role": "system"}
        content = _with_text(first.get("content"), text)
        items[: 1 if self._where else 0] = [msgspec.Raw(msgspec.json.encode(first | {"content": content}))]
        return msgspec.json.encode(self.fields | {self._place: items})

    def _find(self) -> None:
        instructions = _value(self.fields.get("instructions")) if self._place == "input" else None
        if isinstance(instructions, str):
            self.text, self._where = instructions, "instructions"
            return
        items = self.fields.get(self._place)
        if items is None or bytes(memoryview(items)[:1]) != b"[":
            if self._place == "messages":
                raise ValueError("The messages are not a list")
            return
        first = next(iter(_items(items)), None)
        message = None if first is None else _value(first)
        if isinstance(message, dict) and message.get("role") in _PROMPT_ROLES:
            self.text, self._where = _text(message.get("content")), self._place


class Dialect(Protocol):
    """One format: how to read a request, and an answer that came whole or as a stream of events."""

    def question(self, body: bytes) -> Question: ...

    def said(self, question: Question) -> list[JsonObject]:
        """The messages of the request, without the prompt, as they are recorded."""

    def answer(self, body: bytes) -> Answer: ...

    def streamed(self, events: Sequence[JsonObject]) -> Answer: ...


class _Chat:
    """``/v1/chat/completions``."""

    def question(self, body: bytes) -> Question:
        return Question(body, "messages")

    def said(self, question: Question) -> list[JsonObject]:
        return [_saying(message) for message in question.messages if isinstance(message, dict)]

    def answer(self, body: bytes) -> Answer:
        whole = _loaded(body)
        choices = whole.get("choices", ())[:1]
        usage = _ended(whole.get("usage"), *(choice.get("finish_reason") for choice in choices))
        messages = [_saying(choice["message"]) for choice in choices]
        return Answer(whole.get("id"), messages, usage, complete=bool(messages))

    def streamed(self, events: Sequence[JsonObject]) -> Answer:
        message: JsonObject = {"role": "assistant", "content": ""}
        calls: dict[int, JsonObject] = {}
        known: dict[str, Any] = {}
        finished: str | None = None
        for event in events:
            known |= {name: event[name] for name in ("id", "usage") if event.get(name)}
            for choice in event.get("choices", ())[:1]:
                delta = choice.get("delta") or {}
                for name in ("content", "refusal"):
                    if isinstance(delta.get(name), str):
                        message[name] = message.get(name, "") + delta[name]
                for call in delta.get("tool_calls") or ():
                    _add_call(calls.setdefault(call.get("index", 0), {}), call)
                finished = choice.get("finish_reason") or finished
        message |= {name: _paired(message[name]) for name in ("content", "refusal") if name in message}
        if calls:
            message["tool_calls"] = [call for _, call in sorted(calls.items())]
        spoke = bool(message["content"] or calls or message.get("refusal"))
        usage = _ended(known.get("usage"), finished)
        return Answer(known.get("id"), [message] if spoke else [], usage, complete=finished is not None)


class _Responses:
    """``/v1/responses``."""

    def question(self, body: bytes) -> Question:
        return Question(body, "input")

    def said(self, question: Question) -> list[JsonObject]:
        return [_lean(message) for item in question.messages for message in _messages(item)]

    def answer(self, body: bytes) -> Answer:
        return self._of(_loaded(body))

    def streamed(self, events: Sequence[JsonObject]) -> Answer:
        ends = [event["response"] for event in events if event.get("type") in _ENDS]
        if ends:
            return self._of(ends[-1])
        begun: JsonObject = next((event["response"] for event in events if event.get("type") == "response.created"), {})
        text = _paired("".join(event["delta"] for event in events if event.get("type") == "response.output_text.delta"))
        return Answer(begun.get("id"), [{"role": "assistant", "content": text}] if text else [])

    def _of(self, whole: JsonObject) -> Answer:
        if whole.get("status") in _LATER:
            raise ValueError("it is given later, in the background")
        messages = [_lean(message) for item in whole.get("output", ()) for message in _messages(item)]
        complete = bool(messages) and whole.get("status") != "failed"
        usage = _ended(whole.get("usage"), (whole.get("incomplete_details") or {}).get("reason"))
        return Answer(whole.get("id"), messages, usage, complete=complete)


_LATER: Final = ("queued", "in_progress")
_ENDS: Final = ("response.completed", "response.incomplete", "response.failed")
CHAT: Final[Dialect] = _Chat()
RESPONSES: Final[Dialect] = _Responses()


def _objects(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _fields(body)
    except msgspec.DecodeError:  # a lone surrogate, which the standard library reads
        whole = json.loads(body)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    if not isinstance(whole, dict):
        raise ValueError("It is not an object")
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in whole.items()}


def _items(raw: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _parts(raw)
    except msgspec.DecodeError:  # likewise
        return [msgspec.Raw(json.dumps(item).encode()) for item in json.loads(bytes(raw))]


def _value(raw: msgspec.Raw | None) -> Any:
    return None if raw is None else loads(bytes(raw))


def _loaded(body: bytes) -> JsonObject:
    whole = loads(body)
    return whole if isinstance(whole, dict) else {}


def _text(content: object) -> str | None:
    """A prompt as text; parts only if there is one, as of several nobody knows which is the prompt."""
    match content:
        case str():
            return content
        case [{"type": "text" | "input_text", "text": str(text)}]:
            return text
        case _:
            return None


def _with_text(content: object, text: str) -> object:
    """The text in the shape of what stood there: a single part keeps what else it says, such as what may be cached."""
    match content:
        case [dict() as part] if _text(content) is not None:
            return [part | {"text": text}]
        case _:
            return text


def _messages(item: object) -> Iterator[JsonObject]:
    """An item of the Responses format as messages of a chat."""
    match item:
        case {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}:
            call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            yield {"role": "assistant", "tool_calls": [call]}
        case {"type": "function_call_output", "call_id": call_id, "output": output}:
            yield {"role": "tool", "tool_call_id": call_id, "content": output}
        case {"role": str(role), "content": content}:
            yield {"role": role, "content": _plain_parts(content)}


def _plain_parts(content: object) -> object:
    """The parts ``input_text`` and ``output_text`` are text, all of them."""
    texts = [part.get("text") for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    is_text = bool(texts) and all(isinstance(text, str) for text in texts) and len(texts) == len(content)  # type: ignore[arg-type]
    return "".join(map(str, texts)) if is_text else content


def _ended(usage: JsonObject | None, reason: str | None = None) -> JsonObject | None:
    """The usage with the reason why the answer ended, by which the guardrails know a content filter."""
    return (usage or {}) | {"finish_reason": reason} if reason else usage


def _add_call(call: JsonObject, delta: Mapping[str, Any]) -> None:
    for name in ("id", "type"):
        if delta.get(name):
            call[name] = delta[name]
    function = call.setdefault("function", {"name": "", "arguments": ""})
    for name in ("name", "arguments"):
        function[name] += (delta.get("function") or {}).get(name) or ""


def _paired(text: str) -> str:
    """The halves of a character that came in two events, together."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") if _HALF.search(text) else text


def _saying(message: JsonObject) -> JsonObject:
    """A message as it is recorded: one that says nothing we know of, such as by voice, has an empty text."""
    lean: JsonObject = _lean(message)
    return lean if any(lean.get(name) for name in ("content", "tool_calls", "refusal")) else lean | {"content": ""}


def _is_data(text: str) -> bool:
    """Whether it is a file: said to be one, or so long in nothing but base64's letters."""
    return text.startswith("data:") or (len(text) > _LONGEST_WORD and _BASE64.fullmatch(text) is not None)


def _lean(value: Any) -> Any:
    """Without the bytes of files, which are not what was said."""
    match value:
        case str() if len(value) > _LONGEST_DATA and _is_data(value):
            return f"{value[:40]}... ({len(value):,} characters left out)"
        case dict():
            return {name: _lean(item) for name, item in value.items()}
        case list():
            return [_lean(item) for item in value]
        case _:
            return value
