"""Reads JSON as models write it."""

import json
from typing import Any

import msgspec

__all__ = ["loads"]

_decode = msgspec.json.Decoder().decode


def loads(text: bytes) -> Any:
    """Any JSON, half characters (lone surrogates) included, which the quick decoder refuses. Raises ValueError."""
    try:
        return _decode(text)
    except msgspec.DecodeError:
        return json.loads(text)
