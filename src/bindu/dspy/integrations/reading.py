"""What was asked and what was answered, in the shapes that frameworks have for it. None of them is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["answer_of", "question_of"]

_ASKS: Final = ("input", "message", "messages", "new_message", "prompt", "user_prompt", "question", "query", "inputs")
# OpenAI Agents, Pydantic AI, Agno, CrewAI, OpenAI's responses, a string or message of whatever else
_ANSWERS: Final = ("final_output", "output", "content", "raw", "output_text", "text")
_ROLES: Final = {"human": "user", "ai": "assistant", "model": "assistant"}


def question_of(arguments: Sequence[Any], named: Mapping[str, Any], result: Any = None) -> list[dict[str, Any]]:
    """The messages that a framework's call was given, empty when there are none.

    A crew says in its ``result`` what its last task was; a program of DSPy is asked by the names of its inputs.
    """
    tasks = getattr(result, "tasks_output", None)
    described = getattr(tasks[-1], "description", None) if isinstance(tasks, list) and tasks else None
    for value in (described, *arguments, *(named.get(name) for name in _ASKS)):
        messages = _messages(value)
        if messages:
            return messages
    return _messages(_fields({name: value for name, value in named.items() if isinstance(value, str)}))


def answer_of(result: Any) -> str | None:
    """The text of what a framework's call returned, None when there is none. A structured answer is its JSON."""
    match result:
        case str():
            return result
        case {"messages": messages}:  # LangChain's state
            return answer_of(messages)
        case [*several]:  # messages, or Google ADK's events
            return next(filter(None, map(answer_of, reversed(several))), None)
    return _last_field(result) or next(filter(None, (_said(getattr(result, name, None)) for name in _ANSWERS)), None)


def _last_field(result: Any) -> str | None:
    """The last output of a DSPy prediction."""
    fields = getattr(result, "toDict", None)
    values = list(fields().values()) if callable(fields) else []
    return str(values[-1]) if values else None


def _said(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    dump = getattr(value, "model_dump_json", None)
    if callable(dump) and not hasattr(value, "parts"):
        return str(dump())
    return str(value) if isinstance(value, int | float) else _text(value)


def _messages(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}] if value.strip() else []
    if isinstance(value, Mapping) and "role" not in value:  # LangChain's state, a crew's inputs
        return _messages(value.get("messages")) or _messages(_fields(value))
    if isinstance(value, list):
        messages = [_message(one) for one in value]
        return [message for message in messages if message is not None] if all(messages) else []
    message = _message(value)
    return [] if message is None else [message]


def _message(value: Any) -> dict[str, Any] | None:
    """One message of a dictionary, a pair (role, text), or an object with a role or a type."""
    if isinstance(value, Mapping):
        role, content = value.get("role"), value.get("content")
    elif isinstance(value, tuple) and len(value) == 2:  # noqa: PLR2004 - role and text
        role, content = value
    else:
        role = getattr(value, "role", None) or getattr(value, "type", None)
        content = getattr(value, "content", None) or value
    text = content if isinstance(content, str) else _text(content)
    return {"role": _ROLES.get(role, role), "content": text} if isinstance(role, str) and text else None


def _text(content: Any) -> str | None:
    """The text of a list of parts, or of an object that has ``parts``."""
    parts = content if isinstance(content, list | tuple) else getattr(content, "parts", None)
    texts = map(_part, parts) if isinstance(parts, list | tuple) else ()
    return "\n".join(text for text in texts if isinstance(text, str)) or None


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return part
    return part.get("text") if isinstance(part, Mapping) else getattr(part, "text", None)


def _fields(values: Mapping[str, Any]) -> str:
    """Named inputs as one text; the name of a single one says nothing."""
    plain = {name: value for name, value in values.items() if isinstance(value, str | int | float)}
    if len(plain) == 1:
        return str(next(iter(plain.values())))
    return "\n".join(f"{name}: {value}" for name, value in plain.items())
