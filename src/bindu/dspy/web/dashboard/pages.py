"""The dashboard's pages for reading, over ``insights`` alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from bindu.dspy.errors import InvalidArgumentError, UnknownPromptError
from bindu.dspy.extractor import clean_messages
from bindu.dspy.insights import (
    agent_list,
    audit_log,
    decision_log,
    explain_decision,
    list_runs,
    newest_votes,
    prompt_diff,
    prompt_reports,
    pulse,
    recorded_task,
    run_report,
)
from bindu.dspy.insights.figures import explained
from bindu.dspy.insights.run_figures import run_parts
from bindu.dspy.reports import AgentStatus, PromptReport
from bindu.dspy.strategies import STRATEGIES
from bindu.dspy.web.dashboard.actions import said as said_of
from bindu.dspy.web.dashboard.charts import charts
from bindu.dspy.web.dashboard.events import pulse_text
from bindu.dspy.web.dashboard.previews import Previews
from bindu.dspy.web.dashboard.readings import Readings
from bindu.dspy.web.dashboard.rendering import HEADERS, page
from bindu.dspy.web.dashboard.sessions import Sessions, Visitor
from bindu.dspy.web.dashboard.views import audit_sheet, cut_diff, funnel_sheet, status_context
from bindu.dspy.web.dashboard.wrapping import Handler, as_page
from bindu.dspy.web.labels import LabelledRoute
from bindu.settings import app_settings

__all__ = ["Pages"]

_MORE: Final = 50  # of anything on a page of its own
_MESSAGES: Final = 200  # of a conversation, the last ones

_PACKED: Final = (Middleware(GZipMiddleware, minimum_size=1_000),)

Reader = Callable[[Request, str, Visitor], Awaitable[Response]]


class Pages:
    """Those of one process; ``ages`` tells how old what it serves is, in seconds, by agent."""

    def __init__(self, sessions: Sessions, readings: Readings, ages: Callable[[], Mapping[str, float]]) -> None:
        self._sessions = sessions
        self._readings = readings
        self._ages = ages
        self._previews = Previews()

    def routes(self) -> list[LabelledRoute]:
        own: dict[str, Reader] = {
            "/log": self.log,
            "/log/{id}": self.decision,
            "/prompts": self.prompts,
            "/prompts/{id}": self.prompt,
            "/prompts/{id}/text": self.prompt_text,
            "/dataset": self.dataset,
            "/runs": self.runs,
            "/runs/{id}": self.run,
            "/feedback": self.feedback,
            "/tasks/{id}": self.task,
            "/tasks/{id}/text": self.task_text,
            "/audit": self.audit,
            "/part/status": self.part_status,
            "/part/override": self.part_override,
            "/part/votes": self.part_votes,
            "/part/log": self.part_log,
            "/part/runs": self.part_runs,
            "/part/decision": self.part_decision,
            "/part/funnel": self.part_funnel,
        }
        return [
            LabelledRoute("/", as_page(_to_dashboard)),
            LabelledRoute("/dashboard", as_page(self.home), middleware=_PACKED),
            LabelledRoute("/dashboard/", as_page(_to_dashboard)),
            *(
                LabelledRoute(f"/dashboard{path}", as_page(self._for_agent(reader)), middleware=_PACKED)
                for path, reader in own.items()
            ),
        ]

    def _for_agent(self, reader: Reader) -> Handler:
        async def handler(request: Request) -> Response:
            agent = request.query_params.get("agent") or app_settings.dspy.agent_id
            return await reader(request, agent, await self._sessions.visitor(request, agent))

        return handler

    async def home(self, request: Request) -> Response:
        """An agent's page; without a name, that of the only agent, else which there are."""
        agent = request.query_params.get("agent")
        if not agent:
            visitor = await self._sessions.visitor(request, None)
            agents = [name for name in await agent_list() if visitor.sees(name)]
            if len(agents) != 1:
                return page("agents.html", {"agents": agents, "visitor": visitor})
            agent = agents[0]
        return await self.agent(request, agent, await self._sessions.visitor(request, agent))

    async def agent(
        self,
        request: Request,
        agent: str,
        visitor: Visitor,
        *,
        said: Mapping[str, Any] | None = None,
        status: int = 200,
    ) -> Response:
        """How one agent is doing; ``said`` is what came of the form that was sent."""
        beat = pulse_text(await pulse(agent))  # first: what changes meanwhile is told of
        found = await self._readings.status(agent)
        context = {
            **_context(agent, visitor, here=""),
            "beat": beat,
            **self._status(found),
            **await self._override(found, agent),
            "votes": await self._readings.votes(agent),
            "log": await self._readings.log(agent),
            "runs": await self._readings.runs(agent),
            "message": said_of(request.query_params.get("did")),
            **(said or {}),
        }
        return page("agent.html", context, status=status)

    async def log(self, request: Request, agent: str, visitor: Visitor) -> Response:
        found = await decision_log(agent, before=_number(request, "before"), limit=_MORE)
        older = found[-1].id if len(found) == _MORE else None
        return page("log.html", {**_context(agent, visitor, "/log"), "log": found, "older": older})

    async def decision(self, request: Request, agent: str, visitor: Visitor) -> Response:
        return await self._explained(_numbered(request.path_params["id"]), "decision.html", agent, visitor)

    async def part_decision(self, request: Request, agent: str, visitor: Visitor) -> Response:
        return await self._explained(_number(request, "id") or 0, "parts/decision.html", agent, visitor)

    async def prompts(self, request: Request, agent: str, visitor: Visitor) -> Response:
        reports = (await prompt_reports(agent))[-_MORE:]
        old, new = _number(request, "old"), _number(request, "new")
        if old is None or new is None:
            numbers = [report.prompt.id for report in reports][-2:]
            old, new = numbers if len(numbers) == 2 else (None, None)  # noqa: PLR2004
        context: dict[str, Any] = {"reports": reports, "diff": None}
        if old is not None and new is not None:
            context["diff"] = cut_diff(await prompt_diff(old, new, agent_id=agent))
        return page("prompts.html", {**_context(agent, visitor, "/prompts"), **context})

    async def prompt(self, request: Request, agent: str, visitor: Visitor) -> Response:
        report = await self._report(request, agent)
        context: dict[str, Any] = {"report": report, "diff": None}
        if report.prompt.parent_id is not None:
            diff = await prompt_diff(report.prompt.parent_id, report.prompt.id, agent_id=agent)
            context["diff"] = cut_diff(diff)
        return page("prompt.html", {**_context(agent, visitor), **context})

    async def prompt_text(self, request: Request, agent: str, _: Visitor) -> Response:
        return PlainTextResponse((await self._report(request, agent)).prompt.text, headers=HEADERS)

    async def dataset(self, request: Request, agent: str, visitor: Visitor) -> Response:
        preview = await self._previews.read(agent, strategy=request.query_params.get("strategy") or "last_turn")
        context = {"preview": preview, "funnel": funnel_sheet(preview), "strategies": sorted(STRATEGIES)}
        return page("dataset.html", {**_context(agent, visitor, "/dataset"), **context})

    async def part_funnel(self, _: Request, agent: str, visitor: Visitor) -> Response:
        funnel = funnel_sheet(await self._previews.read(agent, samples=0))
        return page("parts/funnel.html", {**_context(agent, visitor), "funnel": funnel})

    async def runs(self, _: Request, agent: str, visitor: Visitor) -> Response:
        runs = await list_runs(agent_id=agent, limit=_MORE)
        return page("runs.html", {**_context(agent, visitor, "/runs"), "runs": runs})

    async def run(self, request: Request, agent: str, visitor: Visitor) -> Response:
        found = await run_report(request.path_params["id"], agent_id=agent, now=self._readings.now())
        context = {"found": found, "parts": list(run_parts(found.run))}
        return page("run.html", {**_context(agent, visitor), **context})

    async def feedback(self, request: Request, agent: str, visitor: Visitor) -> Response:
        found = await newest_votes(agent, before=_uuid(request.query_params.get("before")), limit=_MORE)
        older = found[-1].id if len(found) == _MORE else None
        return page("feedback.html", {**_context(agent, visitor, "/feedback"), "votes": found, "older": older})

    async def task(self, request: Request, agent: str, visitor: Visitor) -> Response:
        found = await recorded_task(_needed_uuid(request), agent_id=agent)
        messages = clean_messages(found.history[-_MESSAGES:])
        context = {"task": found, "messages": messages, "earlier": max(0, len(found.history) - _MESSAGES)}
        return page("task.html", {**_context(agent, visitor), **context})

    async def task_text(self, request: Request, agent: str, _: Visitor) -> Response:
        found = await recorded_task(_needed_uuid(request), agent_id=agent)
        text = msgspec.json.format(msgspec.json.encode(found.history)).decode()
        return PlainTextResponse(text, headers=HEADERS)

    async def audit(self, request: Request, agent: str, visitor: Visitor) -> Response:
        found = await audit_log(agent, before=_number(request, "before"), limit=_MORE)
        context = {"sheet": audit_sheet(found), "older": found[-1].id if len(found) == _MORE else None}
        return page("audit.html", {**_context(agent, visitor, "/audit"), **context})

    async def part_status(self, _: Request, agent: str, visitor: Visitor) -> Response:
        found = await self._readings.status(agent)
        return page("parts/status.html", {**_context(agent, visitor), **self._status(found)})

    async def part_override(self, _: Request, agent: str, visitor: Visitor) -> Response:
        found = await self._readings.status(agent)
        context = {"status": found, **await self._override(found, agent)}
        return page("parts/override.html", {**_context(agent, visitor), **context})

    async def part_votes(self, _: Request, agent: str, __: Visitor) -> Response:
        return _part("votes", await self._readings.votes(agent), agent)

    async def part_log(self, _: Request, agent: str, __: Visitor) -> Response:
        return _part("log", await self._readings.log(agent), agent)

    async def part_runs(self, _: Request, agent: str, __: Visitor) -> Response:
        return _part("runs", await self._readings.runs(agent), agent)

    async def _override(self, found: AgentStatus, agent: str) -> dict[str, Any]:
        """What somebody needs to overrule the canary: what the candidate says, and a form."""
        context: dict[str, Any] = {"diff": None, "typed": None, "typed_error": None}
        if found.active is not None and found.candidate is not None:
            diff = await prompt_diff(found.active.prompt.id, found.candidate.prompt.id, agent_id=agent)
            context["diff"] = cut_diff(diff)
        return context

    async def _report(self, request: Request, agent: str) -> PromptReport:
        number = _numbered(request.path_params["id"])
        found = [report for report in await prompt_reports(agent) if report.prompt.id == number]
        if not found:
            raise UnknownPromptError(agent, number)
        return found[0]

    async def _explained(self, number: int, template: str, agent: str, visitor: Visitor) -> Response:
        found = await explain_decision(number, agent_id=agent)
        context = {"found": found, "parts": list(explained(found))}
        return page(template, {**_context(agent, visitor), **context})

    def _status(self, found: AgentStatus) -> dict[str, Any]:
        now = self._readings.now() or datetime.now(UTC)
        drawn = None if found.trial is None else charts(found.trial.band)
        return {**status_context(found, self._ages().get(found.agent_id), now), "charts": drawn}


def _context(agent: str, visitor: Visitor, here: str | None = None) -> dict[str, Any]:
    return {"agent": agent, "visitor": visitor, "here": here}


async def _to_dashboard(_: Request) -> Response:
    return RedirectResponse("/dashboard", 303)


def _part(name: str, these: object, agent: str) -> Response:
    return page("parts/list.html", {"name": name, "these": these, "agent": agent})


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    return _numbered(text) if text else None


def _numbered(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004 - numbers have 32 bits
        raise InvalidArgumentError("Numbers have one to nine digits.")
    return int(text)


def _uuid(text: str | None) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgumentError("That is not the id of anything here.") from None


def _needed_uuid(request: Request) -> UUID:
    found = _uuid(request.path_params["id"])
    if found is None:
        raise InvalidArgumentError("Say which one.")
    return found
