"""The simulated model: one text comes in, one goes out; which role it plays it reads from the request."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from threading import Lock
from typing import Literal

from bindu.dspy.simulation.answering import Answering
from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.judge import judge
from bindu.dspy.simulation.reflector import advise, induce_rules, rewrite

__all__ = ["Role", "Said", "SimulatedModel", "role_of", "tokens"]

Role = Literal["answer", "judge", "rubric", "advice", "rewrite"]

Said = tuple[str, str]  # the role of who said it, and the text

_FIELD = re.compile(r"^\[\[ ## (\w+) ## \]\]\s*$", re.MULTILINE)
_OUTPUTS: tuple[tuple[str, Role], ...] = (
    ("[[ ## module_advice ## ]]", "advice"),
    ("[[ ## critique ## ]]", "judge"),
    ("[[ ## rules ## ]]", "rubric"),
)
_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")  # random, so no part of a world
_CLOSING = "Respond with the corresponding output fields"  # how the stock ChatAdapter ends its last message
_REWRITE = "write a new instruction for the assistant"


def role_of(system: str, last_message: str) -> Role:
    """What a request asks the model to be."""
    if "[[ ## completed ## ]]" in system:
        for output, role in _OUTPUTS:
            if output in system:
                return role
    if not system and _REWRITE in last_message:
        return "rewrite"
    return "answer"


class SimulatedModel:
    """A model named simulated: deterministic, seeded, thread-safe, the same seed the same world.

    A request that is repeated at a temperature above 0 gets another sample; at 0 it gets the same text again.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.calls: Counter[Role] = Counter()
        self._answering = Answering(seed)
        self._repetitions: Counter[bytes] = Counter()
        self._lock = Lock()

    def reply(self, system: str, messages: Sequence[Said], *, temperature: float | None = None) -> str:
        """The text that answers a conversation: (role, text) pairs in order, the user's last."""
        last = messages[-1][1]
        role = role_of(system, last)
        request = _ID.sub("", "\x1f".join((system, *(text for _, text in messages))))
        draw = Draws(role, self.seed, self._count(role, request, temperature), request)
        match role:
            case "answer":
                return self._answering.answer(system, [text for who, text in messages if who == "user"], draw)
            case "rewrite":
                return rewrite(last, draw)
            case "judge":
                return _rendered(judge(_fields(last), draw))
            case "rubric":
                return _rendered(induce_rules(_fields(last), draw))
            case "advice":
                return _rendered(advise(_fields(last), draw))

    def _count(self, role: Role, request: str, temperature: float | None) -> int:
        """How often this request came before; never, for one that asks for no chance."""
        key = blake2b(request.encode(), digest_size=16).digest()
        with self._lock:
            self.calls[role] += 1
            if temperature == 0:
                return 0
            self._repetitions[key] += 1
            return self._repetitions[key] - 1


def tokens(*texts: str) -> int:
    """A count of tokens as a simulated model counts them: four characters each, at least one per text."""
    return sum(1 + len(text) // 4 for text in texts)


def _fields(message: str) -> dict[str, str]:
    parts = _FIELD.split(message.rpartition(_CLOSING)[0] or message)
    return {name: value.strip() for name, value in zip(parts[1::2], parts[2::2], strict=True)}


def _rendered(outputs: Mapping[str, object]) -> str:
    texts = (f"[[ ## {name} ## ]]\n{v if isinstance(v, str) else json.dumps(v)}" for name, v in outputs.items())
    return "\n\n".join((*texts, "[[ ## completed ## ]]"))
