"""Whose prompt a text is: callers of the proxy are known by the system message that they send."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from hashlib import sha256
from time import monotonic
from typing import Final

from bindu.dspy.errors import BinduError, InvalidPromptError
from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.storage import get_storage
from bindu.utils.logging import get_logger
from bindu.utils.patience import Patience

__all__ = ["Baselines"]

_PATIENCE: Final = 1.0  # seconds for the database: an answer waits for it
_LOOK_SECONDS: Final = 5.0  # for one look, which then goes on beside the requests
_UNKNOWN_SECONDS: Final = 10.0  # until a text that was nobody's is asked for again
_AWAY_SECONDS: Final = 1.0  # until a text that nobody could tell about is
_MOST: Final = 10_000

logger = get_logger("bindu.dspy.web.proxy.baselines")


class Baselines:
    """Remembers owners for good, as stored texts never change, and strangers for some seconds."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[str | None, float]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[str | None]] = {}
        self._patience = Patience(_PATIENCE, after_silence=0)

    async def agent_of(self, text: str) -> str | None:
        """The one agent that has a prompt with this text; None when it is nobody's, or nobody can tell in time."""
        try:
            digest = sha256(normalize_prompt(text).encode()).digest()
        except (InvalidPromptError, UnicodeEncodeError):
            return None
        owner, good_until = self._known.get(digest, (None, 0.0))
        if owner is not None or monotonic() < good_until:
            return owner
        asking = self._asking.get(digest) or self._ask(digest)
        await asyncio.wait({asking}, timeout=self._patience.seconds)
        if asking.done():
            return asking.result()
        self._patience.lose()
        return None

    def _ask(self, digest: bytes) -> asyncio.Task[str | None]:
        """One look, however many ask at the same time."""
        task = self._asking[digest] = asyncio.get_running_loop().create_task(self._look(digest))
        task.add_done_callback(lambda _: self._asking.pop(digest, None))
        return task

    async def _look(self, digest: bytes) -> str | None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                owners = await (await get_storage()).owners_of_text(digest)
        except (BinduError, TimeoutError):
            return self._remember(digest, None, _AWAY_SECONDS)
        if len(owners) > 1:
            logger.warning("Agents '%s' and '%s' have one text: name the agent in X-Prompt-Name", *owners)
        return self._remember(digest, owners[0] if len(owners) == 1 else None, _UNKNOWN_SECONDS)

    def _remember(self, digest: bytes, owner: str | None, seconds: float) -> str | None:
        self._known[digest] = (owner, monotonic() + seconds)
        self._known.move_to_end(digest)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return owner
