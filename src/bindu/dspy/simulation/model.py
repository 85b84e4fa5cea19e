"""The simulated model: one text comes in, one goes out; which role it plays it reads from the request."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from threading import Lock
from typing import Literal

from bindu.dspy.simulation.answering import Answering
from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.judge import compare, judge
from bindu.dspy.simulation.proposer import describe, observe, propose, rewrite, summarise
from bindu.dspy.simulation.reflector import advise, induce_rules
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.world import Reading, World

__all__ = ["Role", "Said", "SimulatedModel", "role_of", "tokens"]

Role = Literal[
    "answer", "judge", "compare", "rubric", "advice", "rewrite", "observe", "summarise", "describe", "propose"
]
Said = tuple[str, str]  # the role of who said it, and the text

# The fields of a request that DSPy's adapters wrote, and by which of them a role is known
_OUTPUTS = re.compile(
    r"\AYour input fields are:.*?^Your output fields are:$(.*?)^All interactions", re.DOTALL | re.MULTILINE
)
_NAME = re.compile(r"^\d+\. `(\w+)`", re.MULTILINE)
_ROLES: Mapping[str, Role] = {
    "module_advice": "advice",
    "critique": "judge",
    "recall": "compare",
    "rules": "rubric",
    "new_instruction": "rewrite",
    "observations": "observe",
    "summary": "summarise",
    "program_description": "describe",
    "module_description": "describe",
    "proposed_instruction": "propose",
}
_PLAYED: Mapping[Role, Callable[[Mapping[str, str], Reading, Draws], Mapping[str, object]]] = {
    "advice": advise,
    "judge": judge,
    "compare": compare,
    "rubric": induce_rules,
    "rewrite": rewrite,
    "observe": observe,
    "summarise": summarise,
    "describe": describe,
    "propose": propose,
}
_FIELD = re.compile(r"^\[\[ ## (\w+) ## \]\]\s*$", re.MULTILINE)
_CLOSINGS = ("Respond with the corresponding output fields", "Respond with a JSON object in the following order")
_IN_JSON = "Outputs will be a JSON object"
_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")  # random, so no part of a world


def role_of(system: str) -> Role:
    """What a request asks the model to be; what users say has no part in it."""
    return next((_ROLES[name] for name in _asked_fields(system) if name in _ROLES), "answer")


def _asked_fields(system: str) -> list[str]:
    outputs = _OUTPUTS.match(system)
    return _NAME.findall(outputs[1]) if outputs else []


class SimulatedModel:
    """A model named simulated: deterministic, seeded, thread-safe, the same seed the same world.

    A request that is repeated at a temperature above 0 gets another sample; at 0 it gets the same text again.
    """

    def __init__(self, seed: int = 0, *, world: World = SHOP) -> None:
        self.seed = seed
        self.calls: Counter[Role] = Counter()
        self._answering = Answering(world.craft, seed)
        self._reading = world.reading
        self._repetitions: Counter[bytes] = Counter()
        self._lock = Lock()

    def reply(
        self, system: str, messages: Sequence[Said], *, temperature: float | None = None, sample: int | None = None
    ) -> str:
        """The text that answers a conversation: (role, text) pairs in order, the user's last.

        ``sample`` is a request's own seed: the same request and seed get the same text, whatever was asked before.
        """
        role = role_of(system)
        request = _ID.sub("", "\x1f".join((system, *(text for _, text in messages))))
        draw = Draws(role, self.seed, self._occasion(role, request, temperature, sample), request)
        if role == "answer":
            return self._answering.answer(system, [text for who, text in messages if who == "user"], draw)
        outputs = _PLAYED[role](_fields(messages[-1][1]), self._reading, draw)
        wanted = {name: outputs[name] for name in _asked_fields(system) if name in outputs}
        return json.dumps(wanted) if _IN_JSON in system else _rendered(wanted)

    def _occasion(self, role: Role, request: str, temperature: float | None, sample: int | None) -> object:
        """What tells equal requests apart: their seed, or how often they came before; at temperature 0 nothing."""
        key = blake2b(request.encode(), digest_size=16).digest()
        with self._lock:
            self.calls[role] += 1
            if temperature == 0:
                return 0
            if sample is not None:
                return f"sample {sample}"
            self._repetitions[key] += 1
            return self._repetitions[key] - 1


def tokens(*texts: str) -> int:
    """A count of tokens as a simulated model counts them: four characters each, at least one per text."""
    return sum(1 + len(text) // 4 for text in texts)


def _fields(message: str) -> dict[str, str]:
    closing = max(message.rfind(words) for words in _CLOSINGS)
    parts = _FIELD.split(message[:closing] if closing > 0 else message)
    return {name: value.strip() for name, value in zip(parts[1::2], parts[2::2], strict=True)}


def _rendered(outputs: Mapping[str, object]) -> str:
    texts = (f"[[ ## {name} ## ]]\n{v if isinstance(v, str) else json.dumps(v)}" for name, v in outputs.items())
    return "\n\n".join((*texts, "[[ ## completed ## ]]"))
