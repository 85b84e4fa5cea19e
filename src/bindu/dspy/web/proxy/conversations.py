"""Which conversation a request belongs to, so that it keeps its prompt: what the caller says, else what was said."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from bindu.dspy.collector import new_id
from bindu.dspy.models import JsonObject

__all__ = ["FIELDS", "Conversations"]

_MOST: Final = 100_000  # conversations in memory
_LONGEST: Final = 500  # characters of an id in a body; a longer one is ignored, as cut it might be another's
_NAMES: Final = ("conversation", "previous_response_id")
_USERS: Final = ("safety_identifier", "user")  # who asks, if the caller says so
FIELDS: Final = ("metadata", *_NAMES, *_USERS)  # of a request that it is known by


class Conversations:
    """One process's memory. Without an id from the caller a conversation is known by its user and first answer."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()

    def of(self, header: str | None, fields: Mapping[str, Any], said: Sequence[JsonObject]) -> str:
        """The conversation's id: by header, ``metadata.conversation_id``, a field of the request, or one of our own."""
        metadata = fields.get("metadata")
        named = header or (metadata.get("conversation_id") if isinstance(metadata, dict) else None)
        if isinstance(named, str) and 0 < len(named) <= _LONGEST:
            return named
        for name in _NAMES:
            value = fields.get(name)
            value = value.get("id") if isinstance(value, dict) else value
            if isinstance(value, str) and (value in self._known or 0 < len(value) <= _LONGEST):
                return self._known.get(value, value)
        mark = _mark(fields, said)
        return str(new_id()) if mark is None else self._known.get(mark, mark)

    def remember(
        self,
        conversation: str,
        response_id: str | None,
        fields: Mapping[str, Any],
        messages: Sequence[JsonObject],
    ) -> None:
        """What this answer, and the beginning of the conversation up to its first answer, will be known by."""
        for name in (response_id, _mark(fields, messages)):
            if name is not None and self._known.setdefault(name, conversation) == conversation:
                self._known.move_to_end(name)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)


def _mark(fields: Mapping[str, Any], messages: Sequence[JsonObject]) -> str | None:
    """A digest of who asks and of everything up to the first answer; None before it."""
    for place, message in enumerate(messages):
        if message.get("role") == "assistant":
            texts = [[one.get("role"), one.get("content")] for one in messages[: place + 1]]
            texts.append([fields.get(name) for name in _USERS])
            return blake2b(_encoded(texts), digest_size=16).hexdigest()
    return None


def _encoded(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return repr(value).encode("utf-8", "surrogatepass")
