"""What changes, told to open pages as it happens (server-sent events): one look per agent, however many look on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from time import monotonic
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from bindu.dspy.errors import BinduError
from bindu.dspy.insights import pulse
from bindu.dspy.reports import Pulse
from bindu.dspy.web.dashboard.rendering import HEADERS
from bindu.dspy.web.dashboard.sessions import Sessions, SignInNeeded, Visitor
from bindu.dspy.web.dashboard.wrapping import as_page
from bindu.dspy.web.labels import ENDLESS, LabelledRoute
from bindu.dspy.web.problems import Problem, problem_of
from bindu.settings import app_settings
from bindu.utils.logging import get_logger
from bindu.utils.patience import within

__all__ = ["MOST_LISTENERS", "MOST_OF_ONE", "Events", "pulse_text"]

MOST_LISTENERS: Final = 200  # per process
MOST_OF_ONE: Final = 20  # of them, with one key or from this machine

_RETRY_MILLISECONDS: Final = 2_000
_FULL: Final = "Too many pages are open for live news. This one still shows everything when it is loaded again."
_TOO_MANY: Final = (
    "You have too many pages open for live news: close some. This one still shows everything when loaded again."
)
_ENDING: Final = "The server is about to stop."

_log = get_logger("bindu.dspy.web.dashboard.events")


class Events:
    """One process's listeners. The durations are seconds."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        every: float = 1.0,  # between two looks
        patience: float = 5.0,  # for the database's answer
        heartbeat: float = 15.0,  # of silence, at most
        recheck: float = 60.0,  # that a revoked key goes on listening, at most
        slow: float = 30.0,  # that a reader may leave what was sent
    ) -> None:
        self._sessions = sessions
        self._every, self._patience = every, patience
        self._heartbeat, self._recheck, self._slow = heartbeat, recheck, slow
        self._channels: dict[str, _Channel] = {}
        self._seats: Counter[str] = Counter()  # by who listens
        self._ended = False

    @property
    def listeners(self) -> int:
        return self._seats.total()

    def routes(self) -> list[LabelledRoute]:
        return [LabelledRoute("/dashboard/events", as_page(self.stream))]

    async def stream(self, request: Request) -> Response:
        """Events ``pulse`` with what was seen last, at first and on each change; ``away``, ``back`` and ``ending``.

        ``away`` and ``back`` tell when the database stops to answer and when it does again; the stream outlives that.
        An agent without a prompt has no news: 204, at which browsers end. Refusals are a sentence of plain text.
        """
        agent = request.query_params.get("agent") or app_settings.dspy.agent_id
        try:
            visitor = await self._sessions.visitor(request, agent)
        except SignInNeeded:  # whoever reads streams does not fill forms in
            return Response(status_code=401, headers=HEADERS)
        except (Problem, BinduError) as error:
            return _refused(error)
        if not await self._has_news(agent):
            return Response(status_code=204, headers=HEADERS)
        return _Stream(self, request, agent, _caller(visitor), self._slow)

    @contextmanager
    def seat(self, who: str) -> Iterator[None]:
        """One listener more, as long as it lasts. Raises Problem when nobody else (503) or not they (429) may."""
        if self._ended:
            raise Problem(503, "ending", _ENDING, {"Retry-After": "5"})
        if self.listeners >= MOST_LISTENERS:
            raise Problem(503, "too_many_listeners", _FULL, {"Retry-After": "60"})
        if self._seats[who] >= MOST_OF_ONE:
            raise Problem(429, "too_many_listeners", _TOO_MANY, {"Retry-After": "60"})
        self._seats[who] += 1
        try:
            yield
        finally:
            self._seats[who] -= 1
            self._seats += Counter()  # keeps who has one left

    def end(self) -> None:
        """Let go of all listeners, at once; the server ends."""
        self._ended = True
        for channel in list(self._channels.values()):
            channel.close()

    async def told(self, request: Request, agent: str) -> AsyncGenerator[str]:
        """The text of a stream; who closes it listens no more."""
        channel = self._channels.get(agent)
        if channel is None:
            channel = self._channels[agent] = _Channel(agent, self._every, self._patience)
        channel.join()
        try:
            async for text in self._news(channel, request):
                yield text
        finally:
            channel.leave()
            if channel.closed and self._channels.get(agent) is channel:
                del self._channels[agent]

    async def _has_news(self, agent: str) -> bool:
        if agent in self._channels:
            return True
        try:
            return await within(self._patience, pulse(agent)) is not None
        except (BinduError, TimeoutError):  # nobody can tell while the database is away
            return True

    async def _news(self, channel: _Channel, request: Request) -> AsyncIterator[str]:
        yield f"retry: {_RETRY_MILLISECONDS}\n\n"
        away, seen, checked_at = False, "", monotonic()
        while not channel.closed:
            change = channel.change
            if channel.away != away:
                away = channel.away
                yield _event("away" if away else "back")
            if channel.beat not in ("", seen):
                seen = channel.beat
                yield _event("pulse", seen)
            if not await _within(self._heartbeat, change):
                yield ": still here\n\n"
            if monotonic() - checked_at >= self._recheck:
                checked_at = monotonic()
                if not await self._may_go_on(request, channel.agent_id):
                    return
        if self._ended:
            yield _event("ending")

    async def _may_go_on(self, request: Request, agent: str) -> bool:
        try:
            await self._sessions.visitor(request, agent)
        except SignInNeeded:
            return False
        except Problem as problem:
            return problem.status == 429  # noqa: PLR2004 - so many others ask that nobody can tell
        except BinduError:  # nobody can tell while the database is away
            return True
        return True


class _Channel:
    """What is known of one agent: read while somebody listens."""

    def __init__(self, agent_id: str, every: float, patience: float) -> None:
        self.agent_id = agent_id
        self.listeners = 0
        self.beat = ""  # JSON; empty before the first look
        self.away = self.closed = False
        self.change = asyncio.Event()  # set, and replaced, on each
        self._every, self._patience = every, patience
        self._reader: asyncio.Task[None] | None = None

    def join(self) -> None:
        self.listeners += 1
        if self._reader is None and not self.closed:
            self._reader = asyncio.get_running_loop().create_task(self._read())
            self._reader.add_done_callback(self._read_no_more)

    def leave(self) -> None:
        self.listeners -= 1
        if not self.listeners:
            self.close()

    def close(self) -> None:
        """For good: who listens is let go."""
        self.closed = True
        if self._reader is not None:
            self._reader.cancel()
        self._tell()

    async def _read(self) -> None:
        while True:
            before = (self.beat, self.away)
            try:
                self.beat, self.away = pulse_text(await within(self._patience, pulse(self.agent_id))), False
            except (BinduError, TimeoutError):
                self.away = True
            if (self.beat, self.away) != before:
                self._tell()
            await asyncio.sleep(self._every)

    def _read_no_more(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled() and (error := reader.exception()) is not None:
            _log.error("Pages about agent %s are no longer told of changes", self.agent_id, exc_info=error)
            self.close()

    def _tell(self) -> None:
        change, self.change = self.change, asyncio.Event()
        change.set()


class _Stream(StreamingResponse):
    """Counts as a listener as long as it lasts; who does not read what was sent is let go."""

    def __init__(self, events: Events, request: Request, agent: str, who: str, slow: float) -> None:
        told = events.told(request, agent)
        super().__init__(told, headers={**HEADERS, "x-accel-buffering": "no"}, media_type="text/event-stream")
        self._events, self._told, self._who, self._slow = events, told, who, slow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            async with asyncio.timeout(self._slow):
                await send(message)

        try:
            with self._events.seat(self._who):
                scope[ENDLESS] = True
                async with aclosing(self._told):
                    await super().__call__(scope, receive, sending)
        except Problem as problem:
            await _refused(problem)(scope, receive, send)
        except TimeoutError:
            _log.warning("A page did not read its live news for %.0f seconds and was let go", self._slow)


def _refused(error: Exception) -> Response:
    """A sentence: scripts read it, not people."""
    problem = problem_of(error)
    return PlainTextResponse(str(problem), problem.status, {**HEADERS, **problem.headers})


def _caller(visitor: Visitor) -> str:
    return visitor.session if visitor.key is None else f"key {visitor.key.id}"


def pulse_text(beat: Pulse | None) -> str:
    """A pulse as events carry it: JSON, ``null`` before the agent has a prompt."""
    if beat is None:
        return "null"
    run = None if beat.run_seen_at is None else beat.run_seen_at.isoformat()
    told = {"version": beat.version, "decision": beat.decision_id, "vote": beat.vote_id, "run": run}
    return msgspec.json.encode(told).decode()


def _event(name: str, data: str = "{}") -> str:
    return f"event: {name}\ndata: {data}\n\n"


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Whether it happens in that time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
