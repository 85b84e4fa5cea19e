"""A person's word about the running experiment, said by a button: pause, resume, promote, roll back, abort."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol, get_args

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bindu.dspy.arguments import checked_id
from bindu.dspy.canary.verbs import Verb, carry_out
from bindu.dspy.errors import NoExperimentError, StaleRolloutError
from bindu.dspy.insights import decision_log
from bindu.dspy.web.dashboard.forms import HOME, check_same_origin, read_form
from bindu.dspy.web.dashboard.rendering import link
from bindu.dspy.web.dashboard.sessions import Sessions, Visitor
from bindu.dspy.web.dashboard.wrapping import as_page
from bindu.dspy.web.labels import LabelledRoute
from bindu.dspy.web.problems import Problem

__all__ = ["LONGEST_REASON", "Actions", "ShowAgent", "said"]

LONGEST_REASON: Final = 2_000  # characters

_DID: Final[dict[Verb, str]] = {
    "pause": "paused",
    "resume": "resumed",
    "promote": "promoted",
    "rollback": "rolled-back",
    "abort": "ended",
}
_SAID: Final = {
    "paused": "The experiment is paused: the candidate's share does not rise, evidence and stops run on.",
    "resumed": "The experiment is not paused: the candidate's share may rise.",
    "promoted": "The candidate is the active prompt now.",
    "rolled-back": "The candidate is rolled back, and the experiment is over.",
    "ended": "The experiment is over without a judgement on the candidate.",
}
_SO_ALREADY: Final[dict[Verb, str]] = {
    "pause": "It is paused already; your reason was not kept.",
    "resume": "It is not paused; your reason was not kept.",
}
_LOGGED: Final[dict[Verb, tuple[str, str]]] = {  # the verdict, and how a share of 0 is meant
    "pause": ("pause", "rolled_back"),
    "resume": ("resume", "rolled_back"),
    "promote": ("promote", "rolled_back"),
    "rollback": ("roll_back", "rolled_back"),
    "abort": ("roll_back", "inconclusive"),
}


class ShowAgent(Protocol):
    """The agent's page; ``said`` is what came of the form: ``message``, ``typed``, ``typed_error``."""

    def __call__(
        self,
        request: Request,
        agent: str,
        visitor: Visitor,
        *,
        said: Mapping[str, Any] | None = None,
        status: int = 200,
    ) -> Awaitable[Response]: ...


@dataclass(frozen=True, slots=True)
class _Order:
    verb: Verb
    agent_id: str
    experiment_id: int  # the one on the page
    reason: str


class _Again(Exception):  # noqa: N818 - it is an answer
    """Nothing was done; the page is shown again, with why and what was typed."""

    def __init__(self, status: int, **said: str) -> None:
        self.status = status
        self.said = said


def said(code: str | None) -> str | None:
    """The message for ``did`` in the address of a page; what we did not write there says nothing."""
    return _SAID.get(code or "")


class Actions:
    """``clock`` is what is taken for now, None the database's time."""

    def __init__(self, sessions: Sessions, clock: Callable[[], datetime] | None, show_agent: ShowAgent) -> None:
        self._sessions = sessions
        self._clock = clock
        self._show_agent = show_agent

    def routes(self) -> list[LabelledRoute]:
        """One per verb."""
        return [
            LabelledRoute(f"{HOME}/{verb}", as_page(partial(self.act, verb)), methods=["POST"])
            for verb in get_args(Verb)
        ]

    async def act(self, verb: Verb, request: Request) -> Response:
        """Do it, once, for whoever may; then back to the agent's page."""
        check_same_origin(request)
        visitor = await self._sessions.visitor(request, None)  # before the body is read
        form = await read_form(request)
        order = _order(verb, form)
        visitor.check(order.agent_id, "operate")
        await self._sessions.check_form(visitor.session, form.get("form_token", ""))
        try:
            _check_reason(order.reason)
            await self._carry_out(order, visitor.name)
        except _Again as again:
            return await self._show_agent(request, order.agent_id, visitor, said=again.said, status=again.status)
        return RedirectResponse(link("", agent=order.agent_id, did=_DID[verb]), 303, {"Cache-Control": "no-store"})

    async def _carry_out(self, order: _Order, actor: str) -> None:
        try:
            done = await carry_out(
                order.verb,
                reason=order.reason,
                actor=actor,
                agent_id=order.agent_id,
                experiment_id=order.experiment_id,
                now=None if self._clock is None else self._clock(),
            )
        except (NoExperimentError, StaleRolloutError) as error:
            if not await _was_done(order, actor):
                raise _Again(409, message=_overtaken(order, error), typed=order.reason) from None
        else:
            if done is None and not await _was_done(order, actor):
                raise _Again(409, message=_SO_ALREADY[order.verb], typed=order.reason)


def _order(verb: Verb, form: dict[str, str]) -> _Order:
    number, agent = form.get("experiment", ""), form.get("agent", "")
    if not agent or not number.isascii() or not number.isdigit() or len(number) > len(str(2**31)):
        raise Problem(
            422, "invalid_request", "The form names no agent or no experiment. Send it from the agent's page."
        )
    return _Order(verb, checked_id(agent, "agent"), int(number), form.get("reason", "").replace("\r\n", "\n").strip())


def _check_reason(reason: str) -> None:
    if not reason:
        why = "Say why: the reason is kept with the decision, for whoever reads the log."
        raise _Again(422, typed_error=why, message=why)
    if len(reason) > LONGEST_REASON:
        why = f"The reason has {len(reason):,} characters. Say it in {LONGEST_REASON:,}."
        raise _Again(422, typed=reason, typed_error=why, message=why)


async def _was_done(order: _Order, actor: str) -> bool:
    """Whether the last word on the experiment is this one: a button was clicked twice."""
    for last in await decision_log(order.agent_id, experiment_id=order.experiment_id, limit=1):
        word = last.verdict, last.inputs.get("ends")
        return (*word, last.actor, last.reason) == (*_LOGGED[order.verb], actor, order.reason)
    return False


def _overtaken(order: _Order, error: Exception) -> str:
    if isinstance(error, NoExperimentError):
        return f"Experiment {order.experiment_id} is over, and nothing was changed. The decision log says who ended it."
    return f"{error} What you see here is how it is now."
