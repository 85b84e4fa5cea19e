"""Every model call goes through here: counted, capped, retried, remembered when it is repeatable."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Literal, Protocol, TypeVar

import dspy
from dspy import lm15
from dspy.utils.exceptions import LMRateLimitError, is_retryable_lm_error

from bindu.dspy.errors import BinduError, BudgetExceededError, ModelUnavailableError
from bindu.settings import DspySettings
from bindu.utils.logging import get_logger

__all__ = ["ROLES", "CountingEngine", "InnerEngine", "ProviderEngine", "Role", "in_parallel", "start_daemon"]

logger = get_logger("bindu.dspy.engine")

Role = Literal["agent", "judge", "reflector"]
ROLES: tuple[Role, ...] = ("agent", "judge", "reflector")
Item = TypeVar("Item")
Result = TypeVar("Result")

_TRANSIENT = (
    lm15.RateLimitError,
    lm15.TimeoutError,
    lm15.ServerError,
    lm15.TransportError,
    ConnectionError,
    TimeoutError,
)
_WINDOW = 100  # attempts over which the error rate is measured
_LONGEST_WAIT = 60.0  # seconds
_LOOK_UP = 0.1  # seconds between looks at whether the run was stopped, while a real model thinks


class InnerEngine(Protocol):
    """DSPy 3.4's engine contract, the part that training needs: one attempt, one answer, errors raised."""

    def complete(self, request: lm15.Request) -> lm15.Response: ...


class ProviderEngine:
    """A real model by its DSPy name, ``provider/model``, through whichever client DSPy has for it."""

    def __init__(self, model: str, *, api_base: str | None = None, api_key: str | None = None) -> None:
        # litellm would fetch a price list from the network when DSPy falls back to it
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        client = {"api_base": api_base, "api_key": api_key}
        given = {key: value for key, value in client.items() if value}
        self.model = model
        self._lm = dspy.LM(model, cache=False, num_retries=0, **given)

    def complete(self, request: lm15.Request) -> lm15.Response:
        with dspy.context(disable_history=True, callbacks=[]):
            answer: lm15.Response = self._lm(replace(request, model=self.model))
        return answer


class _RoleEngine:
    """What a ``dspy.LM`` of one role talks to."""

    def __init__(self, owner: CountingEngine, role: Role) -> None:
        self._owner = owner
        self._role: Role = role

    def complete(self, request: lm15.Request) -> lm15.Response:
        return self._owner.complete(self._role, request)


class CountingEngine:
    """One training run's door to its models, safe to use from many threads.

    SIMBA swallows exceptions, so the first failure that must end the run (budget, error rate, ``stop``) is latched:
    every later call fails at once and ``check`` raises it.
    """

    def __init__(
        self,
        inner: Mapping[Role, InnerEngine] | InnerEngine,
        *,
        models: Mapping[Role, str],
        max_calls: int,
        max_error_rate: float = 0.25,
        attempts: int = 4,
        backoff: float = 0.5,
    ) -> None:
        self._inner = {role: inner[role] if isinstance(inner, Mapping) else inner for role in ROLES}
        self._models = dict(models)
        self.max_calls = max_calls
        self.max_error_rate = max_error_rate
        self.attempts = attempts
        self.backoff = backoff  # seconds before the first retry; doubles
        self.calls: Counter[Role] = Counter()  # attempts, failed ones included: each may be billed
        self.errors: Counter[str] = Counter()  # failed attempts by the name of their error
        self.last_error: Exception | None = None  # of a failed attempt
        self.cached = 0
        self.tokens: Counter[str] = Counter()
        self._recent: deque[bool] = deque(maxlen=_WINDOW)
        self._answers: dict[tuple[Role, lm15.Request], lm15.Response] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._failure: BinduError | None = None

    @classmethod
    def from_settings(cls, settings: DspySettings, inner: InnerEngine | None = None) -> CountingEngine:
        """The models that the settings name, or ``inner`` for all roles."""
        models: dict[Role, str] = {
            "agent": settings.default_model,
            "judge": settings.judge_model or settings.default_model,
            "reflector": settings.reflection_model or settings.default_model,
        }
        key = settings.api_key.get_secret_value() if settings.api_key else None
        training = settings.training
        by_role: Mapping[Role, InnerEngine] | InnerEngine
        if inner is not None:
            by_role = inner
        else:
            providers = {
                model: ProviderEngine(model, api_base=settings.api_base, api_key=key) for model in set(models.values())
            }
            by_role = {role: providers[model] for role, model in models.items()}
        return cls(by_role, models=models, max_calls=training.max_calls, max_error_rate=training.max_error_rate)

    @property
    def used(self) -> int:
        """Model calls so far, the ones in flight included."""
        return sum(self.calls.values())

    def lm(self, role: Role, **config: float) -> dspy.LM:
        """A DSPy language model of that role whose every call is counted here."""
        return dspy.LM(self._models[role], engine=_RoleEngine(self, role), cache=False, num_retries=0, **config)

    def stop(self, failure: BinduError) -> None:
        """End the run from outside: no further call is made. The first failure stays the one that ``check`` raises."""
        with self._lock:
            if self._failure is None:
                self._latch(failure)

    def check(self) -> None:
        """Raise what ended the run, if anything did."""
        if self._failure is not None:
            raise self._failure

    def preflight(self) -> None:
        """Ask each model one small question, so that a dead one is found before anything else is spent.

        Raises ModelUnavailableError.
        """
        asked: set[tuple[int, str]] = set()
        for role, inner in self._inner.items():
            if (id(inner), self._models[role]) in asked:
                continue
            asked.add((id(inner), self._models[role]))
            question = lm15.Message.user("Reply with the one word: ready")
            try:
                answer = self.complete(role, lm15.Request(model=self._models[role], messages=(question,)))
            except Exception as error:
                self.check()
                raise ModelUnavailableError(self._unavailable(role, error)) from error
            if not (answer.text or "").strip():
                raise ModelUnavailableError(self._unavailable(role, "its answer is empty"))

    def complete(self, role: Role, request: lm15.Request) -> lm15.Response:
        """Answer one request, from memory when it is exactly repeatable (temperature 0).

        Raises BudgetExceededError and ModelUnavailableError once the run is over, else the model's own error.
        """
        key = self._key(role, request)
        if key is not None and key in self._answers:
            self.cached += 1
            return self._answers[key]
        response = self._persist(role, request)
        if key is not None:
            self._answers[key] = response
        return response

    def unreadable(self, role: Role, error: Exception) -> None:
        """Count an answer that came but was of no use, as a failed call."""
        self._settle(role, error, failed=True)

    def _persist(self, role: Role, request: lm15.Request) -> lm15.Response:
        for attempt in range(self.attempts):
            self._reserve(role)
            try:
                response = self._ask(self._inner[role], request)
            except Exception as error:
                last = attempt + 1 == self.attempts or not _is_transient(error)
                # waiting when told to is good manners, not a fault: a rate limit counts only when it outlasts us
                self._settle(role, error, failed=last or not isinstance(error, lm15.RateLimitError | LMRateLimitError))
                if last:
                    raise
                self._stopped.wait(self._delay(error, attempt))
            else:
                self._settle(role, None, failed=False, usage=response.usage)
                return response
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _ask(self, inner: InnerEngine, request: lm15.Request) -> lm15.Response:
        """One attempt; a model behind a network is left behind in the middle of its answer when the run ends."""
        if not isinstance(inner, ProviderEngine):
            return inner.complete(request)
        answer = start_daemon(partial(inner.complete, request))
        while not wait([answer], timeout=_LOOK_UP).done:
            self.check()
        return answer.result()

    def _reserve(self, role: Role) -> None:
        with self._lock:
            if self._failure is None and self.used >= self.max_calls:
                self._latch(
                    BudgetExceededError(
                        f"The run reached its limit of {self.max_calls:,} model calls. Nothing was deployed. "
                        "Raise DSPY__TRAINING__MAX_CALLS or train on fewer examples."
                    )
                )
            if self._failure is not None:
                raise self._failure
            self.calls[role] += 1

    def _settle(self, role: Role, error: Exception | None, *, failed: bool, usage: lm15.Usage | None = None) -> None:
        with self._lock:
            self._recent.append(failed)
            if usage is not None:
                self.tokens["input"] += usage.input_tokens or 0
                self.tokens["output"] += usage.output_tokens or 0
            if error is not None:
                self.errors[type(error).__name__] += 1
                self.last_error = error
            if failed and self._failure is None and sum(self._recent) > self.max_error_rate * _WINDOW:
                rate = f"{sum(self._recent)} of the last {len(self._recent)} model calls failed"
                self._latch(ModelUnavailableError(f"{rate}. {self._unavailable(role, error)}"))

    def _latch(self, failure: BinduError) -> None:
        self._failure = failure
        self._stopped.set()

    def _key(self, role: Role, request: lm15.Request) -> tuple[Role, lm15.Request] | None:
        config = request.config
        if config.temperature != 0 or config.response_format is not None or config.extensions is not None:
            return None  # sampled anew, or not hashable
        return role, request

    def _delay(self, error: Exception, attempt: int) -> float:
        told: float | None = getattr(error, "retry_after", None)
        spread = 1 + (self.used % 8) / 8  # threads that failed together do not come back together
        return min(told if told is not None else self.backoff * 2**attempt * spread, _LONGEST_WAIT)

    def _unavailable(self, role: Role, error: object) -> str:
        said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip()
        stop = "" if said.endswith((".", "!", "?")) else "."
        return (
            f"The {role} model '{self._models[role]}' cannot be used: {said}{stop} Nothing was deployed. "
            "Check DSPY__DEFAULT_MODEL, DSPY__API_BASE and DSPY__API_KEY."
        )


def start_daemon(work: Callable[[], Result]) -> Future[Result]:
    """Begin some work in a thread, under the caller's context, that neither a loop nor the interpreter waits for."""
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()  # whoever waits may go away; the work cannot be taken back

    def body() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(body,), name="bindu-training", daemon=True).start()
    return future


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result | None]:
    """Apply a function that calls models to each item, in order, under the caller's DSPy settings.

    None where it failed: the engine counted that, and ends the run when it happens often.
    """

    def guarded(item: Item) -> Result | None:
        try:
            return function(item)
        except Exception as error:  # noqa: BLE001 - anything a model or a metric of the user's can do wrong
            logger.debug("One answer could not be scored: %s", error)
            return None

    with ThreadPoolExecutor(dspy.settings.num_threads) as pool:
        jobs = [pool.submit(copy_context().run, guarded, item) for item in items]
        return [job.result() for job in jobs]


def _is_transient(error: Exception) -> bool:
    return isinstance(error, _TRANSIENT) or is_retryable_lm_error(error)
