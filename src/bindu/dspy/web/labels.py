"""Routes that say which of them matched, for the figures: a path would make a series of its own."""

from __future__ import annotations

from typing import Final

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

__all__ = ["ENDLESS", "LABEL", "LabelledRoute"]

LABEL: Final = "bindu.route"  # where a request's scope holds it
ENDLESS: Final = "bindu.endless"  # true in the scope of a stream that lasts as long as somebody looks on


class LabelledRoute(Route):
    """Writes its pattern, such as ``/v1/tasks/{id}``, into the scope of each request that it takes."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[LABEL] = self.path_format
        await super().handle(scope, receive, send)
