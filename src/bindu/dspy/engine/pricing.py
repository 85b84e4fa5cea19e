"""What a model's tokens cost, from a price list that needs no network, or from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

__all__ = ["Price", "price_of"]

_MILLION: Final = 1_000_000
_SAMPLE: Final = 1_000  # tokens that a price is read off
_HOURS: Final = 24  # some prices depend on the hour
_PROVIDERS: Final = {  # DSPy's names and those of the price list
    "bedrock": "aws", "fireworks_ai": "fireworks", "gemini": "google", "together_ai": "together",
    "vertex_ai": "google", "xai": "x-ai",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token."""

    input: float
    output: float

    def of(self, input_tokens: float, output_tokens: float) -> float:
        """US dollars."""
        return input_tokens * self.input + output_tokens * self.output


def price_of(model: str, given: Mapping[str, tuple[float, float]]) -> Price | None:
    """The price of ``provider/model``; ``given`` overrules the list, in dollars per million tokens (input, output).

    None when nobody knows it, and when there is a fee for each request besides. List prices are those of the installed
    version of the list at the dearest hour of the day, without discounts and without what very long texts cost more.
    """
    if model in given:
        read, written = given[model]
        return Price(read / _MILLION, written / _MILLION)
    return _listed(model)


@lru_cache(maxsize=64)
def _listed(model: str) -> Price | None:
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - a third of a second that only training needs

    provider, slash, name = model.partition("/")
    now = datetime.now(UTC)
    try:
        found = [
            calc_price(
                Usage(input_tokens=_SAMPLE, output_tokens=_SAMPLE),
                model_ref=name if slash else model,
                provider_id=_PROVIDERS.get(provider, provider) if slash else None,
                genai_request_timestamp=now + timedelta(hours=hour),
            )
            for hour in range(_HOURS)
        ]
    except LookupError:
        return None
    if any(one.total_price != one.input_price + one.output_price for one in found):
        return None
    read, written = max(one.input_price for one in found), max(one.output_price for one in found)
    return Price(float(read) / _SAMPLE, float(written) / _SAMPLE)
