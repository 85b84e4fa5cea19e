"""One object is an agent's system prompt, wherever a framework takes a function for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from random import random
from threading import Event
from typing import Any, Final
from uuid import UUID

from bindu.dspy.arguments import is_storable
from bindu.dspy.collector import read_feedback
from bindu.dspy.integrations.background import background, is_current
from bindu.dspy.integrations.turn import current_turn
from bindu.dspy.prompt_selector import refresh_prompts, watch_prompts
from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.snapshots import Snapshot, default_answer
from bindu.dspy.storage import agent_named
from bindu.dspy.telemetry import counted_exposure
from bindu.utils.logging import get_logger

__all__ = ["PromptHandle", "prompt_handle"]

FIRST_SECONDS: Final = 2.0  # that the first call waits for the database
AGAIN_SECONDS: Final = 1.0

logger = get_logger("bindu.dspy.integrations")


def prompt_handle(agent: str | None = None, *, default: str) -> PromptHandle:
    """An agent's prompt as a function, for ``instructions=`` of Agno, Pydantic AI and the OpenAI Agents SDK,
    ``instruction=`` of Google ADK and ``dynamic_prompt`` of LangChain.

    ``default`` becomes version 1 of an agent without a prompt, and is served while none can be loaded. Loading begins
    at once. Raises InvalidPromptError for an empty default, InvalidArgumentError and SettingsError.
    """
    return PromptHandle(agent_named(agent), normalize_prompt(default))


class PromptHandle:
    """Gives the prompt from memory, in any thread and with or without an event loop; never raises.

    Its first call waits for the database, two seconds at most. In a turn all calls give the same prompt.
    """

    def __init__(self, agent_id: str, default: str) -> None:
        self.agent_id = agent_id
        self.default = default
        self.__name__ = self.__qualname__ = f"prompt of {agent_id}"  # frameworks name functions by it
        self._loader = _Loader(agent_id, default)

    def __call__(self, run_context: Any = None, agent: Any = None) -> str:
        """The text. Outside of turns the framework's conversation, if it has one, keeps its prompt."""
        text: str = self.select(_conversation(run_context))["prompt_text"]
        return text

    def select(self, unit_id: str | None = None) -> dict[str, Any]:
        """The prompt as ``select_prompt_with_canary`` returns it. A turn that has a unit ignores ``unit_id``."""
        turn = current_turn()
        if turn is None:
            return self._choose(unit_id)
        return turn.serve(self.agent_id, partial(self._choose, turn.unit_id or turn.context_id or unit_id))

    def feedback(
        self,
        task_id: UUID | str | int,
        feedback: Mapping[str, Any],
        *,
        rater_id: UUID | str | int | None = None,
        idempotency_key: UUID | str | int | None = None,
    ) -> Future[None]:
        """Store a vote as ``record_feedback`` does. Raises InvalidFeedbackError and InvalidArgumentError at once.

        The future ends when the vote is durable, or with what kept it from that, which is logged as well.
        """
        opinion = read_feedback(task_id, feedback, rater_id=rater_id, idempotency_key=idempotency_key)
        return background().vote({self.agent_id: opinion})

    def _choose(self, unit_id: str | None) -> dict[str, Any]:
        try:
            snapshot = self._current_loader().snapshot()
            chosen = None if snapshot is None else snapshot.choose(unit_id, random())  # noqa: S311
        except Exception:
            logger.exception("The prompt of '%s' could not be chosen; the default is served", self.agent_id)
            chosen = None
        prompt = default_answer(self.agent_id, self.default, unit_id) if chosen is None else chosen
        counted_exposure(prompt)
        return prompt

    def _current_loader(self) -> _Loader:
        if not is_current(self._loader.owner):  # this process was forked from the one that loaded
            self._loader = _Loader(self.agent_id, self.default)
        return self._loader

    def __deepcopy__(self, memo: object) -> PromptHandle:
        """Frameworks copy agents with all they hold."""
        return self

    def __reduce__(self) -> tuple[Callable[..., PromptHandle], tuple[str, str]]:
        return PromptHandle, (self.agent_id, self.default)


class _Loader:
    """Has one agent watched in the background, and stores the default of an agent that has no prompt."""

    def __init__(self, agent_id: str, default: str) -> None:
        self.owner = background()
        self._agent_id = agent_id
        self._default = default
        self._read: Callable[[], Snapshot | None] = lambda: None
        self._tried = Event()
        self._waited = False
        self._failed: type[Exception] | None = None
        self.owner.submit(self._load())

    def snapshot(self) -> Snapshot | None:
        """What is known now; the first call waits a little for it."""
        if not self._waited:
            self._tried.wait(FIRST_SECONDS)
            self._waited = True
        return self._read()

    async def _load(self) -> None:
        while not await self._is_loaded():
            self._tried.set()
            await asyncio.sleep(AGAIN_SECONDS)
        self._tried.set()

    async def _is_loaded(self) -> bool:
        try:
            self._read = await watch_prompts(self._agent_id)
            snapshot = self._read()
            if snapshot is not None and snapshot.serving is None:
                await bootstrap_prompt(self._default, agent_id=self._agent_id)
                await refresh_prompts(self._agent_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent goes on with the default
            if type(error) is not self._failed:
                logger.warning("The prompt of '%s' is its default until this works: %s", self._agent_id, error)
            self._failed = type(error)
            return False
        return snapshot is not None


def _conversation(run_context: Any) -> str | None:
    """The id that Agno, Pydantic AI and Google ADK give a conversation."""
    for found in (
        getattr(run_context, "session_id", None),
        getattr(run_context, "conversation_id", None),
        getattr(getattr(run_context, "session", None), "id", None),
    ):
        if isinstance(found, str) and found and is_storable(found):
            return found
    return None
