"""The demo's chat: a newcomer asks the simulated support desk and rates the answer, blind to the prompt behind it."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import UUID

from jinja2 import ChoiceLoader, Environment, PackageLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.errors import NoActivePromptError
from bindu.dspy.prompt_selector import select_prompt_with_canary
from bindu.dspy.simulation.story import Stage
from bindu.dspy.web.callers import is_local
from bindu.dspy.web.dashboard.forms import check_same_origin, read_form
from bindu.dspy.web.dashboard.rendering import HEADERS, environment
from bindu.dspy.web.dashboard.wrapping import as_page
from bindu.dspy.web.labels import LabelledRoute
from bindu.dspy.web.problems import Problem

__all__ = ["CHAT", "SAMPLES", "Chat"]

CHAT: Final = "/chat"
SAMPLES: Final = (
    "This is Nadia. My floor lamp should have arrived last week, where is it?",
    "How do I get my money back for the boots I returned?",
    "The kettle arrived with a crack in it. My order number is 84021.",
    "I cannot log in to my account any more.",
    "Can I still cancel my order?",
)

_LONGEST: Final = 2_000  # characters
_MOST: Final = 1_000  # conversations, of which the oldest are forgotten
_VOTES: Final = {"up": True, "down": False}


@dataclass(slots=True)
class _Talk:
    """One question and its answer; the page tells the prompt only once there is a vote."""

    id: str
    question: str
    answer: str
    prompt: Mapping[str, Any]
    task_id: UUID
    liked: bool | None = None
    comment: str = ""


class Chat:
    """That of one stage. Each conversation is a unit of its own, so that each vote counts."""

    def __init__(self, stage: Stage) -> None:
        self._desk = stage.desk
        self._clock = stage.clock
        self._talks: OrderedDict[str, _Talk] = OrderedDict()

    def routes(self) -> list[LabelledRoute]:
        """The form for a question, what it is sent to, the answer, and what the vote is sent to."""
        return [
            LabelledRoute(CHAT, as_page(self.form), methods=["GET"]),
            LabelledRoute(CHAT, as_page(self.ask), methods=["POST"]),
            LabelledRoute(f"{CHAT}/{{id}}", as_page(self.show), methods=["GET"]),
            LabelledRoute(f"{CHAT}/{{id}}", as_page(self.vote), methods=["POST"]),
        ]

    async def form(self, request: Request) -> Response:
        _check_local(request)
        return self._page()

    async def ask(self, request: Request) -> Response:
        """Answer under the prompt that is drawn for this conversation, and record both."""
        question = (await _form(request)).get("question", "")
        if not 0 < len(question) <= _LONGEST:
            return self._page(typed=question, problem=_refusal(question), status=422)
        talk = await self._answer(secrets.token_urlsafe(9), question)
        self._talks[talk.id] = talk
        if len(self._talks) > _MOST:
            self._talks.popitem(last=False)
        return RedirectResponse(f"{CHAT}/{talk.id}", 303)

    async def show(self, request: Request) -> Response:
        _check_local(request)
        return self._page(self._talk(request))

    async def vote(self, request: Request) -> Response:
        """Record the vote; it stands, as whoever gave it knows the prompt by now."""
        form, talk = await _form(request), self._talk(request)
        liked, comment = _VOTES.get(form.get("vote", "")), form.get("comment", "")
        if liked is None or len(comment) > _LONGEST:
            why = f"Say whether the answer is good, and why in {_LONGEST:,} characters at most."
            return self._page(talk, typed=comment, problem=why, status=422)
        if talk.liked is None:
            talk.liked, talk.comment = liked, comment
            await self._record(talk, {"thumbs_up": liked} | ({"comment": comment} if comment else {}))
        return RedirectResponse(f"{CHAT}/{talk.id}", 303)

    async def _answer(self, number: str, question: str) -> _Talk:
        unit, agent = f"visitor-{number}", self._desk.agent_id
        prompt = await select_prompt_with_canary(unit_id=unit, agent_id=agent)
        if prompt is None:
            raise NoActivePromptError(agent)
        answer = self._desk.engine.model.reply(prompt["prompt_text"], [("user", question)])
        task_id = await record_task(
            [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
            prompt=prompt,
            unit_id=unit,
            context_id=unit,
            agent_id=agent,
            now=self._clock.now,
        )
        return _Talk(number, question, answer, prompt, task_id)

    async def _record(self, talk: _Talk, feedback: Mapping[str, Any]) -> None:
        try:
            await record_feedback(talk.task_id, feedback, agent_id=self._desk.agent_id, now=self._clock.now)
        except BaseException:
            talk.liked = None  # they can send it again
            raise

    def _talk(self, request: Request) -> _Talk:
        talk = self._talks.get(request.path_params["id"])
        if talk is None:
            raise Problem(404, "not_found", f"That conversation is not here any more. Begin another at {CHAT}.")
        return talk

    def _page(self, talk: _Talk | None = None, *, typed: str = "", problem: str = "", status: int = 200) -> Response:
        given = {"agent": self._desk.agent_id, "samples": SAMPLES, "longest": _LONGEST}
        text = _environment().get_template("chat.html").render(given, talk=talk, typed=typed, problem=problem)
        return HTMLResponse(text.encode("utf-8", "replace"), status, HEADERS)


def _refusal(question: str) -> str:
    if not question:
        return "Type a question, or take one of those below."
    return f"The question has {len(question):,} characters. Ask it in {_LONGEST:,}."


async def _form(request: Request) -> dict[str, str]:
    _check_local(request)
    check_same_origin(request)
    return {name: value.replace("\r\n", "\n").strip() for name, value in (await read_form(request)).items()}


def _check_local(request: Request) -> None:
    """A name that leads here from elsewhere would make another site's pages ours."""
    if not is_local(request):
        raise Problem(403, "not_local", "The demo's chat is for browsers on this machine, at the address it printed.")


@cache
def _environment() -> Environment:
    pages = environment()
    return pages.overlay(loader=ChoiceLoader([PackageLoader("bindu.dspy.simulation"), *filter(None, [pages.loader])]))
