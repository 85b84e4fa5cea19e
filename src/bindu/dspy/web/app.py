"""The application of ``bindu serve``: its routes, what they share, and how it begins and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from bindu.dspy.errors import BinduError
from bindu.dspy.prompt_selector import stop_prompt_refresh
from bindu.dspy.recorder import Recorder
from bindu.dspy.storage import close_storage
from bindu.dspy.telemetry import refresh_gauges, show_spool
from bindu.dspy.web.a2a import feedback_routes
from bindu.dspy.web.api import Api
from bindu.dspy.web.callers import Callers
from bindu.dspy.web.fences import fences
from bindu.dspy.web.health import Health
from bindu.dspy.web.labels import LabelledRoute
from bindu.dspy.web.measured import Measured
from bindu.dspy.web.openapi import document
from bindu.dspy.web.operations import route
from bindu.dspy.web.problems import Problem, respond
from bindu.dspy.web.proxy import Proxy
from bindu.dspy.web.widget import cross_origin, widget_routes
from bindu.settings import app_settings

__all__ = ["create_app"]

GAUGES_SECONDS: Final = 15.0


def create_app() -> Starlette:
    """Build it from the settings. Everything begins with its lifespan, and what waits is stored when that ends."""
    callers, recorder = Callers(app_settings.dspy.server), Recorder()
    health, proxy = Health(callers, recorder), Proxy(app_settings.dspy.proxy, callers, recorder)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        recorder.start()
        show_spool(health.spool)
        gauges = asyncio.get_running_loop().create_task(_keep_gauges())
        try:
            async with proxy.connected():
                yield
        finally:
            gauges.cancel()
            with suppress(asyncio.CancelledError):
                await gauges
            await recorder.close()
            show_spool(None)
            await stop_prompt_refresh()
            await close_storage()

    return Starlette(
        routes=[*_own_routes(callers, recorder, health), *proxy.routes()],
        middleware=[Middleware(Measured)],
        exception_handlers=dict.fromkeys((Problem, BinduError, HTTPException), respond),
        lifespan=lifespan,
    )


def _own_routes(callers: Callers, recorder: Recorder, health: Health) -> list[BaseRoute]:
    settings = app_settings.dspy.server
    operations = Api(settings, recorder).operations
    text = msgspec.json.encode(document(operations))

    async def openapi(_: Request) -> Response:
        return Response(text, media_type="application/json")

    async def may_write(request: Request, agent_id: str) -> None:
        await callers.admit(request)
        await callers.authorise(request, "write", agent_id)

    return [
        *(
            route(
                operation,
                callers,
                most=settings.max_body,
                middleware=cross_origin(settings.origins) if operation.by_token else (),
            )
            for operation in operations
        ),
        *widget_routes(settings.origins),
        *fences(operations),
        *feedback_routes("/a2a/{agent}", authorise=may_write, recorder=recorder),
        LabelledRoute("/openapi.json", openapi),
        LabelledRoute("/livez", health.livez),
        LabelledRoute("/readyz", health.readyz),
        LabelledRoute("/metrics", health.metrics),
    ]


async def _keep_gauges() -> None:
    while True:
        await refresh_gauges()
        await asyncio.sleep(GAUGES_SECONDS)
