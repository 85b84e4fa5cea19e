"""The OpenAI-compatible proxy: the prompt is put in, the exchange is recorded, everything else passes through."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Final

from starlette.requests import Request

from bindu.dspy.errors import BinduError
from bindu.dspy.headers import CONVERSATION_ID, PROMPT_NAME, PROMPT_VERSION, usable
from bindu.dspy.prompt_selector import select_prompt_with_canary
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.recorder import Recorder
from bindu.dspy.snapshots import default_answer
from bindu.dspy.telemetry import counted_exposure
from bindu.dspy.web.bodies import read_body
from bindu.dspy.web.callers import Callers
from bindu.dspy.web.labels import LabelledRoute
from bindu.dspy.web.problems import Problem
from bindu.dspy.web.proxy.baselines import Baselines
from bindu.dspy.web.proxy.conversations import FIELDS, Conversations
from bindu.dspy.web.proxy.dialects import CHAT, RESPONSES, Dialect, Question
from bindu.dspy.web.proxy.events import Events
from bindu.dspy.web.proxy.relay import SERVER_FAULT, Relay
from bindu.dspy.web.proxy.upstream import Upstream
from bindu.settings import ProxySettings
from bindu.utils.logging import get_logger
from bindu.utils.patience import Patience, within

__all__ = ["Proxy"]

PATIENCE: Final = 1.0  # seconds for the database, before the first prompt of an agent is known
IMPATIENCE: Final = 0.01  # the same, when it was silent a moment ago
QUIET_SECONDS: Final = 10.0  # between two log lines about the same
METHODS: Final = ("GET", "POST", "DELETE", "PUT", "PATCH")

_UNPRINTABLE: Final = re.compile(r"[^ -~]")  # also line ends, which would begin another header

logger = get_logger("bindu.dspy.web.proxy")


@dataclass(frozen=True, slots=True)
class _Turn:
    """One request with the prompt that it is sent on with."""

    dialect: Dialect
    question: Question
    said: list[dict[str, Any]]
    prompt: Mapping[str, Any]
    conversation: str
    fields: Mapping[str, Any]
    began: float

    @property
    def body(self) -> bytes:
        return self.question.with_prompt(self.prompt["prompt_text"])


class Proxy:
    """One process's proxy to one provider."""

    def __init__(self, settings: ProxySettings, callers: Callers, recorder: Recorder) -> None:
        self._settings = settings
        self._callers = callers
        self._recorder = recorder
        self._upstream = Upstream(settings)
        self._baselines = Baselines()
        self._conversations = Conversations()
        self._patience = Patience(PATIENCE, after_silence=IMPATIENCE)
        self._warned: dict[str, float] = {}

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """With connections to the provider."""
        async with self._upstream.connected():
            yield

    def routes(self) -> list[LabelledRoute]:
        return [
            LabelledRoute("/v1/chat/completions", self._completions(CHAT), methods=["POST"]),
            LabelledRoute("/v1/responses", self._completions(RESPONSES), methods=["POST"]),
            LabelledRoute("/v1/{path:path}", self._anything, methods=list(METHODS)),
        ]

    def _completions(self, dialect: Dialect) -> Callable[[Request], Any]:
        async def completions(request: Request) -> Relay:
            began = perf_counter()
            await self._callers.admit(request)
            await self._callers.authorise(request, "select", None)  # before a large body is read
            body = await read_body(request, self._settings.max_body)
            turn = await self._turn(dialect, request, body, began)
            if turn is None:
                return Relay(self._upstream, request, body)
            taken = partial(self._record, turn)
            return Relay(self._upstream, request, turn.body, headers=_headers_of(turn.prompt), taken=taken)

        return completions

    async def _anything(self, request: Request) -> Relay:
        """Whatever else the provider offers, such as embeddings and models."""
        await self._callers.admit(request)
        await self._callers.authorise(request, "select", None)
        if any(part in {".", ".."} for part in request.path_params["path"].replace("\\", "/").split("/")):
            raise Problem(404, "not_found", "There is no such path.")
        return Relay(self._upstream, request, await read_body(request, self._settings.max_body) or None)

    async def _turn(self, dialect: Dialect, request: Request, body: bytes, began: float) -> _Turn | None:
        """What is to be asked instead; None when nobody's prompt is in it, and it passes as it is."""
        named = usable(request.headers.get(PROMPT_NAME))
        try:
            question = dialect.question(body)
            said = dialect.said(question)
            fields = {name: question.get(name) for name in FIELDS}
            conversation = self._conversations.of(usable(request.headers.get(CONVERSATION_ID)), fields, said)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # the provider says what is wrong
            await self._callers.authorise(request, "select", named)
            return None
        agent = named or (None if question.text is None else await self._baselines.agent_of(question.text))
        await self._callers.authorise(request, "select", agent)
        prompt = None if agent is None else await self._prompt(request, agent, question.text, conversation)
        return None if prompt is None else _Turn(dialect, question, said, prompt, conversation, fields, began)

    async def _prompt(self, request: Request, agent: str, text: str | None, unit: str) -> dict[str, Any] | None:
        """The agent's prompt; the text that came becomes its first one. Nothing is a reason to fail the request.

        Without the database the text counts for the prompt that it turns out to be.
        """
        patience = self._patience.seconds
        try:
            async with asyncio.timeout(patience):
                prompt = await select_prompt_with_canary(unit_id=unit, agent_id=agent, default=text)
            if prompt is not None and prompt["id"] is None:
                prompt = await within(patience, self._first_prompt(request, agent, prompt))
        except (BinduError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                self._patience.lose()
            why = str(error) or "the database does not answer in time"
            self._warn("No prompt of agent '%s' can be served, requests pass as they are: %s", agent, why)
            prompt = None if text is None else default_answer(agent, text, unit)
        if prompt is not None:
            counted_exposure(prompt)
        return prompt

    async def _first_prompt(self, request: Request, agent: str, prompt: dict[str, Any]) -> dict[str, Any] | None:
        """Store the caller's text as version 1 of an agent that has none, if the caller may write."""
        try:
            await self._callers.authorise(request, "write", agent)
            stored = await bootstrap_prompt(prompt["prompt_text"], agent_id=agent)
        except Problem:
            return None
        return prompt | {"id": stored["id"], "prompt_text": stored["prompt_text"]}

    def _record(self, turn: _Turn, status: int, body: bytes, *, streamed: bool, ended: bool) -> None:
        """Take an exchange down; of those that the caller was to blame for nothing is learned."""
        if not 200 <= status < 300 and status < SERVER_FAULT:  # noqa: PLR2004
            return
        try:
            events = turn.dialect.streamed(Events(body).objects) if streamed else None
            answer = events or turn.dialect.answer(body if status < SERVER_FAULT else b"{}")
            messages = [*turn.said, *answer.messages]
            state = "canceled" if not ended and status < SERVER_FAULT else "completed" if answer.complete else "failed"
            self._recorder.record(
                messages,
                prompt=turn.prompt,
                task_id=answer.id,
                unit_id=turn.conversation,
                context_id=turn.conversation,
                state=state,
                usage=answer.usage,
                latency_ms=(perf_counter() - turn.began) * 1_000,
            )
        except (BinduError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            self._recorder.dropped["unreadable"] += 1
            self._warn("Answers of the provider could not be read and are not recorded: %s", error)
            return
        self._conversations.remember(turn.conversation, answer.id, turn.fields, messages)

    def _warn(self, sentence: str, *values: object) -> None:
        """Once in a while, however many requests it concerns."""
        now = monotonic()
        if now - self._warned.get(sentence, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._warned[sentence] = now
            logger.warning(sentence, *values)


def _headers_of(prompt: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Which prompt it was, for whoever reads the answer."""
    told = {PROMPT_NAME: prompt["agent_id"], PROMPT_VERSION: str(prompt["id"] or "default")}
    return [(name.lower().encode(), _UNPRINTABLE.sub("?", value).encode()) for name, value in told.items()]
