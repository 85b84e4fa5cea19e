"""An operation of the JSON API: one description that is served, and shown in the OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import UnsetType
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.headers import PROMPT_NAME, usable
from bindu.dspy.housekeeping import Scope
from bindu.dspy.storage import agent_named
from bindu.dspy.web.bodies import read_body
from bindu.dspy.web.callers import Callers
from bindu.dspy.web.labels import LabelledRoute
from bindu.dspy.web.problems import Problem, plain
from bindu.dspy.web.tokens import Grant
from bindu.utils.patience import within

__all__ = ["Asked", "Operation", "agent_of", "route"]

PATIENCE: Final = 15.0  # seconds for the database, whatever is asked of it

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")  # a lone one, which models emit, only the standard library reads


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was admitted and read."""

    request: Request
    body: Any  # an instance of the operation's ``takes``, or a list of them
    callers: Callers
    grant: Grant | None  # what a feedback token allows instead

    async def allowed(self, scope: Scope, named: str | UnsetType | None) -> str:
        """The agent that is meant, once the caller may do that for it. Raises Problem."""
        agent = agent_of(self.request, named or None)
        await self.callers.authorise(self.request, scope, agent)
        return agent

    async def may(self, scope: Scope, agent_id: str) -> bool:
        """Whether the caller may do that too."""
        try:
            await self.callers.authorise(self.request, scope, agent_id)
        except Problem:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """``takes`` is the type of the body, of the query with GET; ``gives`` that of the answer."""

    method: str
    path: str
    summary: str
    handler: Callable[[Asked], Coroutine[Any, Any, Any]]
    takes: Any
    gives: Any
    scope: Scope
    status: int = 200
    refusals: tuple[int, ...] = ()  # beside those that every operation has
    by_token: bool = False  # whether a feedback token is enough


def agent_of(request: Request, named: str | None) -> str:
    """Whose prompt: the name in the request, else in its header, else the server's own."""
    return agent_named(named or usable(request.headers.get(PROMPT_NAME)))


def route(operation: Operation, callers: Callers, *, most: int, middleware: Sequence[Middleware] = ()) -> LabelledRoute:
    """The operation as a route of Starlette; ``most`` is the largest body in bytes."""
    decode = msgspec.json.Decoder(operation.takes).decode

    async def endpoint(request: Request) -> Response:
        grant = await callers.admit(request, by_token=operation.by_token)
        if grant is None:
            await callers.authorise(request, operation.scope, None)  # before a large body is read
        body = _query(request, operation.takes) if operation.method == "GET" else None
        if body is None:
            body = _decoded(decode, await read_body(request, most), operation.takes)
        try:
            answer = await within(PATIENCE, operation.handler(Asked(request, body, callers, grant)))
        except TimeoutError:
            raise StorageUnavailableError("the database", "it did not answer in time") from None
        return Response(plain(answer), operation.status, media_type="application/json")

    return LabelledRoute(operation.path, endpoint, methods=[operation.method], middleware=middleware)


def _decoded(decode: Callable[[bytes], Any], body: bytes, takes: Any) -> Any:
    try:
        try:
            return decode(body)
        except msgspec.DecodeError as error:
            if isinstance(error, msgspec.ValidationError) or not _SURROGATE.search(body):
                raise
            return msgspec.convert(json.loads(body, parse_constant=_refused), takes)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid_request", f"{error}.") from None
    except (ValueError, RecursionError) as error:
        raise Problem(400, "invalid_json", f"The body is not JSON: {error}.") from None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")


def _query(request: Request, takes: Any) -> Any:
    asked: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in asked:
            raise Problem(422, "invalid_request", f"The parameter {name} is given twice.")
        asked[name] = value
    try:
        return msgspec.convert(asked, takes, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid_request", f"{error}.") from None
