"""What goes wrong becomes a status and a sentence, in the shape that OpenAI's clients read too."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bindu.dspy import errors
from bindu.utils.logging import get_logger

__all__ = ["RETRY_SECONDS", "Problem", "ProblemOut", "plain", "printable", "problem_of", "respond"]

RETRY_SECONDS: Final = 2  # what a caller is asked to wait for the database

_STATUS: Final[tuple[tuple[type[BaseException], int, str], ...]] = (
    (errors.NoActivePromptError, 404, "not_found"),
    (errors.UnknownTaskError, 404, "not_found"),
    (errors.UnknownPromptError, 404, "not_found"),
    (errors.UnknownDecisionError, 404, "not_found"),
    (errors.UnknownRunError, 404, "not_found"),
    (errors.BinduError, 422, "invalid_request"),  # all others say what is wrong with what was sent
)

_AWAY: Final = (errors.StorageNotConfiguredError, errors.StorageUnavailableError, errors.SchemaError)
_NOT_NOW: Final = "The database cannot be used right now. Try again in a moment; /readyz tells this machine why."
_REFUSED: Final = "The database does not take what was sent, and nothing was stored. The server's log says why."
_QUIET_SECONDS: Final = 10.0  # between two log lines about the same outage

logger = get_logger("bindu.dspy.web")
_told: dict[type[BaseException], float] = {}


class ErrorOut(msgspec.Struct, frozen=True):
    """What went wrong."""

    message: str  # a sentence for people
    type: str  # a word for programs
    param: str | None = None
    code: str | None = None


class ProblemOut(msgspec.Struct, frozen=True):
    """The body of every refusal."""

    error: ErrorOut


class Problem(Exception):  # noqa: N818 - it is an answer, most often not an error
    """A refusal that only HTTP knows."""

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = dict(headers or {})

    def response(self) -> Response:
        body = msgspec.json.encode(ProblemOut(ErrorOut(printable(str(self)), self.kind)))
        return Response(body, self.status, self.headers, media_type="application/json")


def problem_of(error: BaseException) -> Problem:
    """The answer to any error. What nobody expected, and where the database is, is logged and not told to callers."""
    match error:
        case Problem():
            return error
        case HTTPException():
            kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
            return Problem(error.status_code, kind, f"{error.detail}.", error.headers)
        case errors.BinduError() if isinstance(error, _AWAY):
            _log_outage(error)
            return Problem(503, "storage_unavailable", _NOT_NOW, {"Retry-After": str(RETRY_SECONDS)})
        case errors.BinduError() if _is_of_driver(error):
            logger.warning("The database refused what a request held: %s", error)
            return Problem(422, "invalid_request", _REFUSED)
    for known, status, kind in _STATUS:
        if isinstance(error, known):
            return Problem(status, kind, str(error))
    logger.error("A request failed in a way nobody expected", exc_info=error)
    return Problem(500, "internal_error", "Something went wrong here; the server's log says what.")


def _log_outage(error: BaseException) -> None:
    now = monotonic()
    if now - _told.get(type(error), -_QUIET_SECONDS) >= _QUIET_SECONDS:
        _told[type(error)] = now
        logger.warning("Requests are turned away: %s", error)


def _is_of_driver(error: errors.BinduError) -> bool:
    """Whether its sentence is the database's own."""
    return type(error) is errors.BinduError and not isinstance(error.__cause__, errors.BinduError | None)


async def respond(_: Request, error: Exception) -> Response:
    """Starlette's handler for all exceptions."""
    return problem_of(error).response()


def printable(text: str) -> str:
    """Without what JSON cannot hold: a refusal may quote what was sent."""
    return text.encode("utf-8", "replace").decode()


def plain(value: Any) -> bytes:
    """JSON of a result; lone surrogates, which logs of models hold, are replaced."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_printable(msgspec.to_builtins(value)))


def _printable(value: Any) -> Any:
    match value:
        case str():
            return printable(value)
        case dict():
            return {_printable(key): _printable(item) for key, item in value.items()}
        case list():
            return [_printable(item) for item in value]
        case _:
            return value
