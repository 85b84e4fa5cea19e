"""What every page has around it: errors as pages, and strangers sent to sign in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from bindu.dspy.web.dashboard.rendering import link, page
from bindu.dspy.web.dashboard.sessions import SignInNeeded, to_sign_in
from bindu.dspy.web.operations import PATIENCE
from bindu.dspy.web.problems import Problem, problem_of
from bindu.utils.patience import within

__all__ = ["Handler", "as_page", "refusal"]

_TOO_SLOW: Final = (
    "This took too long, and was given up. The database is busy or away: /readyz tells this machine which."
)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def as_page(handler: Handler) -> Handler:
    """A handler whose refusals are pages too."""

    async def wrapped(request: Request) -> Response:
        try:
            return await within(PATIENCE, handler(request))
        except SignInNeeded:
            return to_sign_in(request)
        except TimeoutError:
            return refusal(request, Problem(504, "too_slow", _TOO_SLOW))
        except Exception as error:  # noqa: BLE001 - problem_of logs what nobody expected, and people get a page
            return refusal(request, error)

    return wrapped


def refusal(request: Request, error: Exception) -> Response:
    """The page that says what went wrong; what is only known to be wrong for now is tried again by the browser."""
    problem = problem_of(error)
    again: dict[str, Any] = {"refresh": "5"} if problem.status == 503 and request.method == "GET" else {}  # noqa: PLR2004
    context = {
        "status": problem.status,
        "sentence": str(problem),
        "back": link("", agent=request.query_params.get("agent")),
    }
    return page("error.html", context, status=problem.status, headers={**problem.headers, **again})
