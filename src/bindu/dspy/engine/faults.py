"""What the failures of models mean: for the run, for the bill, and for the next attempt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from socket import gaierror
from typing import Final, Literal

from dspy import lm15
from dspy.utils.exceptions import (
    AdapterParseError,
    LMConfigurationError,
    LMInvalidRequestError,
    LMProviderError,
    LMRateLimitError,
    LMStreamAssemblyError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
    is_retryable_lm_error,
)

__all__ = ["Fault", "cause_of", "fault_of", "is_refusal", "is_transient", "may_be_billed", "told_to_wait"]

Fault = Literal["dead", "rate_limited", "refused", "malformed"]

_TRANSIENT = (
    lm15.RateLimitError,
    lm15.TimeoutError,
    lm15.ServerError,
    lm15.TransportError,
    ConnectionError,
    TimeoutError,
)
_REFUSED = (LMInvalidRequestError, lm15.InvalidRequestError, lm15.ContextLengthError)
_MALFORMED = (AdapterParseError, LMStreamAssemblyError, lm15.StreamAssemblyError, TypeError, ValueError)
_NONSENSE = (TypeError, ValueError, LookupError, AttributeError)  # what a client says of a reply that it cannot read
_UNSENT = (  # nobody was asked
    ConnectionRefusedError,
    gaierror,
    lm15.ConfigurationError,
    lm15.CapabilityError,
    LMConfigurationError,
    LMUnsupportedFeatureError,
)
_TURNED_DOWN = (lm15.RateLimitError, lm15.AuthError, lm15.BillingError)
_OK: Final = 200
_NOBODY_THERE: Final = (404, 405)
_REFUSALS: Final = range(400, 500)  # statuses with which a provider says no before it does anything,
_GAVE_UP: Final = (408, 499)  # but for those of a wait that ended; a client says the first, too, of its own waiting
_CAUSES: Final[Mapping[Fault, str]] = {
    "dead": "model_failing",
    "rate_limited": "model_rate_limited",
    "refused": "model_refuses",
    "malformed": "model_unreadable",
}


def is_transient(error: Exception) -> bool:
    """Whether another attempt may go through."""
    return isinstance(error, _TRANSIENT) or is_retryable_lm_error(error)


def fault_of(error: Exception) -> Fault:
    """What a failed call says of its model: it does not answer, is busy, will not answer this, or answers nonsense."""
    if isinstance(error, lm15.RateLimitError | LMRateLimitError):
        return "rate_limited"
    status = getattr(error, "status", None)
    if isinstance(error, LMUnsupportedModelError | lm15.UnknownModelError | lm15.UnsupportedModelError):
        return "dead"
    if isinstance(error, _REFUSED):
        return "dead" if status in _NOBODY_THERE else "refused"
    if isinstance(error, _MALFORMED) or (type(error) is LMProviderError and status == _OK):
        return "malformed"
    if isinstance(error, LMUnexpectedError) and isinstance(error.__cause__, _NONSENSE):
        return "malformed"
    return "dead"


def is_refusal(response: lm15.Response) -> bool:
    """Whether a model, or its provider's filter, will not answer this."""
    return response.finish_reason == "content_filter" or any(part.type == "refusal" for part in response.message.parts)


def may_be_billed(error: Exception) -> bool:
    """Whether a failed call may have cost money: all but what never left and what was turned down at the door."""
    if any(isinstance(one, _UNSENT) for one in _causes(error)):
        return False
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status not in _REFUSALS or status in _GAVE_UP
    return not isinstance(error, _TURNED_DOWN)


def told_to_wait(error: Exception) -> float | None:
    """Seconds, by a provider that is busy."""
    told = getattr(error, "retry_after", None)
    return told if isinstance(told, int | float) and is_transient(error) else None


def cause_of(recent: Sequence[Fault | None]) -> str:
    """One word for what ended a run whose last calls fared so: dead is a model that at last did nothing but fail."""
    failed = [one for one in recent if one is not None]
    (most, _), *_ = Counter(failed).most_common(1)
    last = recent[-(len(failed) + 1) // 2 :]  # half of the failures: an answer that was on its way may come among them
    return "model_dead" if most == "dead" and None not in last else _CAUSES[most]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
