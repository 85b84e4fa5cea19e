"""What browsers of other sites need: the feedback component, and leave to send feedback from there."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from bindu.dspy.web.labels import LabelledRoute

__all__ = ["cross_origin", "widget_routes"]


def cross_origin(origins: Sequence[str]) -> list[Middleware]:
    """Lets pages of these origins post; without cookies, as a token says everything."""
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["POST"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["retry-after"],
        )
    ]


def widget_routes(origins: Sequence[str]) -> list[LabelledRoute]:
    """The component's script, and the question that browsers ask before they post."""
    script = (files("bindu.dspy.web") / "static" / "feedback.js").read_bytes()
    tag = f'"{sha256(script).hexdigest()[:16]}"'
    headers = {"etag": tag, "cache-control": "public, max-age=3600", "access-control-allow-origin": "*"}

    async def feedback_js(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(script, headers=headers, media_type="text/javascript")

    async def options(_: Request) -> Response:
        return Response(status_code=204, headers={"allow": "POST, OPTIONS"})

    return [
        LabelledRoute("/feedback.js", feedback_js),
        LabelledRoute("/v1/feedback", options, methods=["OPTIONS"], middleware=cross_origin(origins)),
    ]
