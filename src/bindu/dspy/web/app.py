"""The application of ``bindu serve``: its routes, what they share, and how it begins and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from bindu.dspy.errors import BinduError
from bindu.dspy.prompt_selector import snapshot_ages, stop_prompt_refresh
from bindu.dspy.recorder import Recorder
from bindu.dspy.storage import close_storage
from bindu.dspy.telemetry import refresh_gauges, show_spool
from bindu.dspy.web.a2a import feedback_routes
from bindu.dspy.web.api import Api
from bindu.dspy.web.callers import Callers
from bindu.dspy.web.dashboard.routes import Dashboard
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

__all__ = ["Clock", "create_app"]

Clock = Callable[[], datetime]

GAUGES_SECONDS: Final = 15.0


def create_app(*, clock: Clock | None = None, also: Sequence[BaseRoute] = ()) -> Starlette:
    """Build it from the settings. Everything begins with its lifespan, and what waits is stored when that ends.

    ``clock`` is what pages take for now, None the database's time; ``also`` are routes that stand beside ours.
    """
    callers, recorder = Callers(app_settings.dspy.server), Recorder()
    health, proxy = Health(callers, recorder), Proxy(app_settings.dspy.proxy, callers, recorder)
    dashboard = Dashboard(app_settings.dspy.server, callers, snapshot_ages, clock)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        recorder.start()
        show_spool(health.spool)
        gauges = asyncio.get_running_loop().create_task(_keep_gauges())
        try:
            async with proxy.connected():
                yield
        finally:
            dashboard.events.end()
            gauges.cancel()
            with suppress(asyncio.CancelledError):
                await gauges
            await recorder.close()
            show_spool(None)
            await stop_prompt_refresh()
            await close_storage()

    app = Starlette(
        routes=[*also, *dashboard.routes(), *_own_routes(callers, recorder, health), *proxy.routes()],
        middleware=[Middleware(Measured)],
        exception_handlers=dict.fromkeys((Problem, BinduError, HTTPException), respond),
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would send people to whatever host they named
    app.state.end_streams = dashboard.events.end  # what never ends by itself, for a server that stops
    return app


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
