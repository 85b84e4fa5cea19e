"""The dashboard put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from bindu.dspy.canary.verbs import Verb
from bindu.dspy.web.callers import Callers
from bindu.dspy.web.dashboard.actions import Actions
from bindu.dspy.web.dashboard.assets import asset_routes
from bindu.dspy.web.dashboard.events import Events
from bindu.dspy.web.dashboard.pages import Pages
from bindu.dspy.web.dashboard.readings import Readings
from bindu.dspy.web.dashboard.sessions import Sessions
from bindu.dspy.web.dashboard.signing_in import SignIn
from bindu.dspy.web.dashboard.wrapping import as_page
from bindu.dspy.web.labels import LabelledRoute
from bindu.dspy.web.problems import Problem
from bindu.settings import ServerSettings

__all__ = ["Dashboard"]

_ONLY_SENT: Final = (*get_args(Verb), "sign-out")


class Dashboard:
    """That of one process. ``clock`` is what is taken for now, None the database's; ``ages`` are ``Pages``'."""

    def __init__(
        self,
        settings: ServerSettings,
        callers: Callers,
        ages: Callable[[], Mapping[str, float]],
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        sessions, readings = Sessions(settings, callers), Readings(clock)
        self._pages = Pages(sessions, readings, ages)
        self._actions = Actions(sessions, clock, self._pages.agent)
        self._sign_in = SignIn(sessions, callers)
        self.events = Events(sessions)

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        return [
            *self._pages.routes(),
            *self._actions.routes(),
            *self._sign_in.routes(),
            *self.events.routes(),
            *asset_routes(),
            LabelledRoute("/dashboard/{rest:path}", as_page(_nothing), methods=["GET", "POST"]),
        ]


async def _nothing(request: Request) -> Response:
    if request.path_params["rest"] in _ONLY_SENT:
        raise Problem(405, "method_not_allowed", "This is done by a button on the agent's page.", {"Allow": "POST"})
    raise Problem(404, "not_found", "There is no such page.")
