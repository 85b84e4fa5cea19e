"""Whether this process lives, whether it is ready, and its figures."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bindu.dspy.access import EVERY_AGENT
from bindu.dspy.errors import BinduError
from bindu.dspy.prompt_selector import snapshot_ages
from bindu.dspy.recorder import Recorder
from bindu.dspy.storage import get_storage
from bindu.dspy.telemetry import SpoolFigures, metrics_text
from bindu.dspy.web.callers import Callers, is_local
from bindu.settings import app_settings
from bindu.utils.patience import within

__all__ = ["Health"]

_PATIENCE: Final = 2.0  # seconds for the database
_FRESH_SECONDS: Final = 0.5
_READY: Final = {True: "ready", False: "not ready"}


class Health:
    """Probes and metrics of one process."""

    def __init__(self, callers: Callers, recorder: Recorder) -> None:
        self._callers = callers
        self._recorder = recorder
        self._looking = asyncio.Lock()
        self._looked: tuple[str | None, float] = (None, -_FRESH_SECONDS)

    def spool(self) -> SpoolFigures:
        """What waits for the database."""
        return SpoolFigures.of(self._recorder)

    async def livez(self, _: Request) -> Response:
        """The process answers; nothing else is looked at, or an outage of the database would restart everything."""
        return JSONResponse({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """The database answers and has this code's schema; this machine also hears why not, and how old what is."""
        problem = await self._trouble()
        status = 200 if problem is None else 503
        if not is_local(request):
            return JSONResponse({"status": _READY[problem is None]}, status)
        ages: dict[str, Any] = {agent: round(age, 1) for agent, age in snapshot_ages().items()}
        report = {
            "status": _READY[problem is None],
            "problem": problem,
            "snapshot_age_seconds": ages,
            "spool_bytes": self._recorder.spooled,
            "dropped": dict(self._recorder.dropped),
        }
        return JSONResponse(report, status)

    async def metrics(self, request: Request) -> Response:
        """Prometheus text, for this machine and for keys that may read, unless it is open to all."""
        if not app_settings.dspy.server.open_metrics:
            await self._callers.admit(request)
            await self._callers.authorise(request, "view", EVERY_AGENT)
        body, content_type = metrics_text()
        return Response(body, headers={"content-type": content_type})

    async def _trouble(self) -> str | None:
        """What keeps it from being ready; anybody may ask, so the database is not asked each time."""
        async with self._looking:
            problem, at = self._looked
            if monotonic() - at >= _FRESH_SECONDS:
                problem = await _trouble()
                self._looked = problem, monotonic()
            return problem


async def _check() -> None:
    await (await get_storage()).check_schema()


async def _trouble() -> str | None:
    try:
        await within(_PATIENCE, _check())
    except (BinduError, TimeoutError) as error:
        return str(error) or "The database does not answer in time."
    return None
