"""The simulated model behind DSPy's engine contract."""

from __future__ import annotations

from collections.abc import Iterator

from dspy.lm15 import Message, Request, Response, Usage, response_to_events

from bindu.dspy.simulation.model import SimulatedModel, tokens
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.world import World

__all__ = ["SimulatedEngine"]


class SimulatedEngine:
    """What ``dspy.LM("simulated/desk", engine=...)`` talks to; ``model`` may be shared with others who talk to it."""

    def __init__(self, seed: int = 0, *, model: SimulatedModel | None = None, world: World = SHOP) -> None:
        self.model = model or SimulatedModel(seed, world=world)

    def complete(self, request: Request) -> Response:
        """One request, one answer, with usage counts."""
        system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system or ())
        messages = [(str(message.role), message.text or "") for message in request.messages]
        config = request.config
        text = self.model.reply(system, messages, temperature=config.temperature, sample=config.seed)
        read, written = tokens(system, *(said for _, said in messages)), tokens(text)
        usage = Usage(input_tokens=read, output_tokens=written, total_tokens=read + written)
        answer = Message.assistant(text)
        return Response(id=None, model=request.model, message=answer, finish_reason="stop", usage=usage)

    def stream(self, request: Request) -> Iterator[object]:
        """The same answer as events."""
        yield from response_to_events(self.complete(request))

    def close(self) -> None:
        """Nothing to release."""
