"""What looks like a path of ours and is none is refused here, before the proxy would send it to the provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bindu.dspy.web.labels import LabelledRoute
from bindu.dspy.web.operations import Operation
from bindu.dspy.web.problems import Problem

__all__ = ["fences"]

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def fences(operations: Sequence[Operation]) -> list[Route]:
    """Routes to stand behind those of the operations: other methods of their paths, and all that begins like these."""
    allowed: dict[str, set[str]] = {}
    for operation in operations:
        allowed.setdefault(operation.path, set()).add(operation.method)
    begins = sorted({path.split("/")[2] for path in allowed})
    return [
        *(LabelledRoute(path, _refused(path, methods), methods=list(_METHODS)) for path, methods in allowed.items()),
        *(Route(f"/v1/{begin}/{{rest:path}}", _unknown, methods=list(_METHODS)) for begin in begins),
        *(Route(f"/v1/{begin}", _unknown, methods=list(_METHODS)) for begin in begins),
    ]


def _refused(path: str, methods: set[str]) -> Callable[[Request], Awaitable[Response]]:
    allow = {"Allow": ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))}

    async def refused(request: Request) -> Response:
        raise Problem(405, "method_not_allowed", f"{path} takes {allow['Allow']}, not {request.method}.", allow)

    return refused


async def _unknown(_: Request) -> Response:
    raise Problem(404, "not_found", "There is no such path. /openapi.json shows those there are.")
