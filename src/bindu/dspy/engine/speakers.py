"""Who plays which role in a run: the settings' models, with what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import dspy

from bindu.dspy.engine.pricing import Price, price_of
from bindu.dspy.engine.provider import InnerEngine, ProviderEngine
from bindu.dspy.errors import BudgetExceededError
from bindu.settings import DspySettings

__all__ = ["ROLES", "Role", "Speaker", "refuse_unpriced", "speaker_of", "speakers_of"]

# The gatekeeper judges for the proof alone: another judge than the one that the optimizer pleased, where one is named
Role = Literal["agent", "judge", "reflector", "gatekeeper"]
ROLES: Final[tuple[Role, ...]] = ("agent", "judge", "reflector", "gatekeeper")


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who plays a role: a client, the model's name, and what its tokens cost if anybody knows."""

    model: str
    inner: InnerEngine
    price: Price | None = None
    name: str = ""  # whose answers these are, where the model's name does not tell

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """US dollars of a call; 0 where nobody knows."""
        return 0.0 if self.price is None else self.price.of(input_tokens, output_tokens)


def speakers_of(settings: DspySettings, inner: InnerEngine | None = None) -> dict[Role, Speaker]:
    """The models that the settings name; ``inner`` plays all roles, at no price but one that the settings give."""
    judge = settings.judge_model or settings.default_model
    models: dict[Role, str] = {
        "agent": settings.default_model,
        "judge": judge,
        "reflector": settings.reflection_model or settings.default_model,
        "gatekeeper": settings.gate_judge_model or judge,
    }
    key = settings.api_key.get_secret_value() if settings.api_key else None
    prices = settings.training.prices

    def speaker(model: str) -> Speaker:
        if inner is not None:
            return Speaker(model, inner, price_of(model, prices) if model in prices else None)
        client = ProviderEngine(model, api_base=settings.api_base, api_key=key)
        return Speaker(model, client, price_of(model, prices))

    named = {model: speaker(model) for model in sorted(set(models.values()))}
    return {role: named[model] for role, model in models.items()}


def speaker_of(lm: dspy.LM, prices: Mapping[str, tuple[float, float]]) -> Speaker:
    """A language model that a user gave to an optimizer, with their client as it is: its server may be another one."""
    client = ProviderEngine(lm.model, lm=lm.copy(cache=False, num_retries=0))
    server = lm.kwargs.get("api_base") or lm.kwargs.get("base_url") or "the provider"
    return Speaker(lm.model, client, price_of(lm.model, prices), f"{lm.model} of {server}")


def refuse_unpriced(speakers: Mapping[Role, Speaker]) -> None:
    """Raise BudgetExceededError when money is to be limited and a model's price is unknown."""
    unknown = sorted({one.model for one in speakers.values() if one.price is None})
    if unknown:
        raise BudgetExceededError(
            f"A limit on cost was set and nobody knows what '{unknown[0]}' costs. Nothing was spent. Set "
            f"DSPY__TRAINING__PRICES='{{\"{unknown[0]}\": [0.15, 0.60]}}' (dollars per million tokens in and out), or "
            "limit --max-calls instead."
        )
