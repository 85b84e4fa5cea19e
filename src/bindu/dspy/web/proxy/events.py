"""Server-sent events of a provider, read after they were passed on."""

from __future__ import annotations

import re
from typing import Any, Final

from bindu.utils.lenient import loads

__all__ = ["Events"]

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


class Events:
    """The JSON objects in the data of a stream; what is no JSON, such as ``[DONE]`` or a torn end, is left out."""

    def __init__(self, stream: bytes) -> None:
        self.objects: list[dict[str, Any]] = []
        data: list[bytes] = []
        for line in [*_LINE_END.split(stream), b""]:
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
            elif not line and data:
                self._add(b"\n".join(data))
                data = []

    def _add(self, text: bytes) -> None:
        try:
            found = loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(found, dict):
            self.objects.append(found)
