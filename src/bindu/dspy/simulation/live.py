"""The demo's third act: the server, and a desk that stays open while somebody looks on, an hour every few seconds."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from starlette.applications import Starlette

from bindu.dspy.canary.controller import run_step
from bindu.dspy.errors import StaleRolloutError, StorageUnavailableError
from bindu.dspy.prompt_selector import refresh_prompts
from bindu.dspy.prompts import insert_prompt
from bindu.dspy.simulation.chat import Chat
from bindu.dspy.simulation.desk import Desk
from bindu.dspy.simulation.drafts import DRAFTS
from bindu.dspy.simulation.story import Say, Stage
from bindu.dspy.storage import serving_or_raise
from bindu.dspy.web.app import create_app
from bindu.dspy.web.server import serve

__all__ = ["HOST", "MOST_HOURS", "go_on", "serve_live"]

HOST: Final = "127.0.0.1"
MOST_HOURS: Final = 1_000  # simulated; no customers come after them, so that the database stays small

_PAUSE: Final = timedelta(hours=1)  # until the last customers of the second act have had their say
_PARTS: Final = 6  # of an hour
_PART: Final = timedelta(hours=1) / _PARTS
_CUSTOMERS: Final = 3  # in each
_SHARE: Final = 0.1  # that a candidate begins with


async def serve_live(
    stage: Stage, *, port: int, hour_seconds: float, say: Say, started: Callable[[str], None]
) -> signal.Signals | None:
    """Serve until a signal, which is returned, while the desk goes on; ``started`` is called with the address.

    Raises OSError when it cannot listen there, and whatever ended the desk before its time.
    """
    stage.clock.tick(_PAUSE)
    listening = asyncio.Event()

    async def desk() -> None:
        await listening.wait()
        await go_on(stage, hour_seconds=hour_seconds, say=say)

    def starting(url: str) -> None:
        started(url)
        listening.set()

    app = create_app(clock=lambda: stage.clock.now, also=Chat(stage).routes())
    beside = _Beside(app, desk)
    told = await serve(host=HOST, port=port, started=starting, app=app)
    beside.check()
    return told


class _Beside:
    """Runs something for as long as an application does; its failure ends the server, and ``check`` raises it."""

    def __init__(self, app: Starlette, what: Callable[[], Any]) -> None:
        self._task: asyncio.Task[None] | None = None
        self._what = what
        self._around = app.router.lifespan_context
        app.router.lifespan_context = self._lifespan

    def check(self) -> None:
        if self._task is not None and not self._task.cancelled():
            self._task.result()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[Any]:
        async with self._around(app) as state:
            self._task = asyncio.get_running_loop().create_task(self._what())
            self._task.add_done_callback(_end_server)
            try:
                yield state
            finally:  # while the storage is still open
                self._task.cancel()
                await asyncio.wait({self._task})


def _end_server(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        signal.raise_signal(signal.SIGINT)


async def go_on(stage: Stage, *, hour_seconds: float, say: Say) -> None:
    """Try one draft after the other, each for as long as the controller, or a person, leaves it on trial."""
    desk, waiting, tried = stage.desk, deque(DRAFTS), ""
    for _ in range(MOST_HOURS):
        try:
            serving = await serving_or_raise(desk.agent_id)
            if serving.candidate is None:
                if tried:
                    say(_truth(desk, tried, serving.active.text))
                if not waiting:
                    break
                what, tried = await asyncio.to_thread(waiting[0], desk, serving.active.text)
                await _begin(stage, tried)
                waiting.popleft()
                say(f"  {what}")
            await _hour(stage, hour_seconds, say)
        except StorageUnavailableError as error:  # as with an hourly controller, the next hour may have more luck
            say(f"  {error}")
            await asyncio.sleep(hour_seconds)
    say("  No more customers come and simulated time stands still; your own questions are still answered.")


async def _begin(stage: Stage, text: str) -> None:
    agent = stage.desk.agent_id
    await insert_prompt(text, "candidate", _SHARE, agent_id=agent, again=True, now=stage.clock.now)
    await refresh_prompts(agent)


async def _hour(stage: Stage, seconds: float, say: Say) -> None:
    """Customers all through an hour, then the controller, as if cron had called it."""
    desk, clock = stage.desk, stage.clock
    for _ in range(_PARTS):
        await desk.converse(_CUSTOMERS, now=clock.now)
        await asyncio.sleep(seconds / _PARTS)
        clock.tick(_PART)
    try:
        decision = await run_step(agent_id=desk.agent_id, now=clock.now)
    except StaleRolloutError:  # a person was quicker
        decision = None
    if decision is not None and decision.verdict != "hold":
        say(
            f"  {clock.now:%d %b %H:%M}  {decision.share_before:4.0%} -> {decision.share_after:4.0%}  {decision.reason}"
        )
    await refresh_prompts(desk.agent_id)


def _truth(desk: Desk, tried: str, served: str) -> str:
    return (
        f"  true quality: {desk.measure(tried):.2f} of what was on trial, {desk.measure(served):.2f} of what is served"
    )
