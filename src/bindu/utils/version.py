"""Which version of the code this is."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["code_version"]


@cache
def code_version() -> str:
    """The installed version, ``unknown`` when it runs from a source tree that was never installed."""
    try:
        return version("bindu-dspy")
    except PackageNotFoundError:
        return "unknown"
