"""The one door to the models: every call is counted, priced, capped, retried, remembered and logged."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NoReturn

import dspy
from dspy import lm15

from bindu.dspy.engine.budget import Budget
from bindu.dspy.engine.doors import RoleEngine, RoleLM, generation_of
from bindu.dspy.engine.faults import Fault, cause_of, fault_of, is_refusal, is_transient, may_be_billed, told_to_wait
from bindu.dspy.engine.journal import Journal, Remembered
from bindu.dspy.engine.parallel import start_daemon
from bindu.dspy.engine.provider import InnerEngine, ProviderEngine
from bindu.dspy.engine.requests import completed, digest_of, most_tokens, remembered_of, response_of
from bindu.dspy.engine.speakers import ROLES, Role, Speaker, refuse_unpriced, speaker_of, speakers_of
from bindu.dspy.errors import BinduError, BudgetExceededError, ModelUnavailableError
from bindu.settings import DspySettings

__all__ = ["CountingEngine"]

_WINDOW: Final = 100  # attempts over which the error rate is measured
_LONGEST_WAIT: Final = 60.0  # seconds
_LOOK_UP: Final = 0.1  # seconds between looks at whether the run was stopped, while a real model thinks
_SAID: Final = 300  # characters of an error that are shown


@dataclass(slots=True)
class _Call:
    """One request on its way."""

    key: str
    role: Role
    speaker: Speaker
    request: lm15.Request
    worst: float  # US dollars
    began: float = field(default_factory=time.monotonic)


class CountingEngine:
    """One training run's door to its models, safe to use from many threads.

    The same request on the same occasion is asked once, however many threads want it, and a run that continues
    another finds its answers in the journal: so a run is repeatable whatever order its threads take.

    Optimizers swallow exceptions, so the first failure that must end the run (budget, error rate, ``stop``) is
    latched: every later call fails at once, one that memory could answer included, and ``check`` raises it.
    """

    def __init__(
        self,
        speakers: Mapping[Role, Speaker],
        *,
        budget: Budget,
        journal: Journal | None = None,
        prices: Mapping[str, tuple[float, float]] | None = None,
        seed: int = 0,
        concurrency: int = 64,
        max_output_tokens: int = 4_096,
        max_error_rate: float = 0.25,
        attempts: int = 4,
        backoff: float = 0.5,
    ) -> None:
        """``prices`` overrule the list for the models that users bring, in dollars per million tokens (input, output).

        Raises BudgetExceededError when money is limited and a speaker's price is unknown.
        """
        if budget.max_cost is not None:
            refuse_unpriced(speakers)
        self.budget = budget
        self.journal = journal or Journal()
        self.calls: Counter[str] = Counter()  # attempts of this process, failed ones included: each may be billed
        self.faults: Counter[Fault] = Counter()
        self.tokens: Counter[str] = Counter()
        self.last_error: Exception | None = None  # of a failed attempt
        self.cached = 0
        self.attempts = attempts
        self.backoff = backoff  # seconds before the first retry; doubles
        self.max_error_rate = max_error_rate
        self.concurrency = concurrency
        self._speakers = dict(speakers)
        self._prices = dict(prices or {})
        self._seed = seed
        self._max_output_tokens = max_output_tokens
        self._slots = threading.BoundedSemaphore(concurrency)
        self._recent: deque[Fault | None] = deque(maxlen=_WINDOW)
        self._pending: dict[str, Future[Remembered]] = {}
        self._not_before = 0.0  # a rate limit makes everybody wait
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._failure: BinduError | None = None

    @classmethod
    def from_settings(
        cls,
        settings: DspySettings,
        inner: InnerEngine | None = None,
        *,
        journal: Journal | None = None,
        seed: int = 0,
        max_calls: int | None = None,
        concurrency: int | None = None,
    ) -> CountingEngine:
        """The models that the settings name, or ``inner`` for all roles.

        Raises BudgetExceededError when money is limited and a model's price is unknown.
        """
        training, journal = settings.training, journal or Journal()
        budget = Budget(
            max_calls=training.max_calls if max_calls is None else max_calls,
            max_cost=training.max_cost,
            max_minutes=training.max_minutes,
            calls=journal.calls.total(),
            cost=journal.cost,
        )
        return cls(
            speakers_of(settings, inner),
            budget=budget,
            journal=journal,
            prices=training.prices,
            seed=seed,
            concurrency=concurrency or training.num_threads,
            max_output_tokens=training.max_output_tokens,
            max_error_rate=training.max_error_rate,
        )

    @property
    def used(self) -> int:
        """Model calls of the whole run so far, the ones in flight included."""
        return self.budget.calls

    @property
    def cost(self) -> float:
        """US dollars of the whole run so far; 0 where prices are unknown."""
        return self.budget.cost

    def speaker(self, role: Role) -> Speaker:
        """Who plays a role."""
        return self._speakers[role]

    def lm(self, role: Role, **config: Any) -> dspy.LM:
        """A DSPy language model of that role whose every call goes through here."""
        return self._lm(role, self._speakers[role], config)

    def adopt(self, lm: dspy.LM, role: Role) -> dspy.LM:
        """A language model that a user gave to an optimizer: their client, our door.

        Raises BudgetExceededError when money is limited and its price is unknown.
        """
        if isinstance(getattr(lm, "engine", None), RoleEngine):
            return lm
        speaker = speaker_of(lm, self._prices)
        if self.budget.max_cost is not None:
            refuse_unpriced({role: speaker})
        return self._lm(role, speaker, generation_of(lm))

    def _lm(self, role: Role, speaker: Speaker, config: Mapping[str, Any]) -> dspy.LM:
        made = RoleLM(speaker.model, engine=RoleEngine(self, role, speaker), cache=False, num_retries=0)
        made.kwargs.update(config)
        return made

    def stop(self, failure: BinduError) -> None:
        """End the run from outside: no further call is made. The first failure stays the one that ``check`` raises."""
        with self._lock:
            if self._failure is None:
                self._latch(failure)

    def check(self) -> None:
        """Raise what ended the run, if anything did."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # else it would grow with every thread that is told

    def _watch(self) -> None:
        """Raise what ended the run, or ends it now because its minutes are over."""
        try:
            self.budget.check_time()
        except BudgetExceededError as error:
            self.stop(error)
        self.check()

    def preflight(self, roles: tuple[Role, ...] = ROLES) -> None:
        """Ask each model one small question, so that a dead one is found before anything else is spent.

        Raises ModelUnavailableError.
        """
        asked: set[tuple[int, str]] = set()
        for role in roles:
            speaker = self._speakers[role]
            if (id(speaker.inner), speaker.model) in asked:
                continue
            asked.add((id(speaker.inner), speaker.model))
            question = lm15.Message.user("Reply with the one word: ready")
            try:
                answer = self.complete(role, lm15.Request(model=speaker.model, messages=(question,)))
            except Exception as error:
                self.check()
                raise self._unavailable(role, speaker.model, error, "model_dead") from error
            if not (answer.text or "").strip():
                raise self._unavailable(role, speaker.model, "its answer is empty", "model_dead")

    def complete(self, role: Role, request: lm15.Request, *, speaker: Speaker | None = None) -> lm15.Response:
        """Answer one request, from memory when it was asked before on this occasion.

        Raises BudgetExceededError and ModelUnavailableError once the run is over, else the model's own error.
        """
        self.check()
        speaker = speaker or self._speakers[role]
        request = completed(request, seed=self._seed, most=self._max_output_tokens)
        key = digest_of(speaker.name or speaker.model, request)
        with self._lock:
            known, pending = self.journal.answers.get(key), self._pending.get(key)
            if known is None and pending is None:
                mine = self._pending[key] = Future()
            else:
                self.cached += 1
        if known is None:
            known = self._lead(mine, key, role, speaker, request) if pending is None else self._follow(pending)
        return response_of(known, speaker.model)

    def unreadable(self, role: Role, error: Exception) -> None:
        """Count an answer that came but was of no use, as a failed call."""
        with self._lock:
            with suppress(ValueError):
                self._recent.remove(None)  # it was counted as a good one when it came
            self._count(role, self._speakers[role].model, "malformed", error)

    def _lead(
        self, mine: Future[Remembered], key: str, role: Role, speaker: Speaker, request: lm15.Request
    ) -> Remembered:
        """Ask for all who wait for the same answer."""
        try:
            answer = self._persist(_Call(key, role, speaker, request, speaker.cost(*most_tokens(request))))
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(answer)
            return answer
        finally:
            with self._lock:
                del self._pending[key]

    def _follow(self, pending: Future[Remembered]) -> Remembered:
        while not wait([pending], timeout=_LOOK_UP).done:
            self._watch()
        return pending.result()

    def _persist(self, call: _Call) -> Remembered:
        for attempt in range(1, self.attempts + 1):
            with self._slots:
                self._begin(call)
                try:
                    response = self._ask(call)
                except Exception as error:
                    if self._failure is not None:  # the run was left in the middle of an answer
                        self._end(call, None, call.worst if may_be_billed(error) else 0.0, fault=None)
                        raise
                    last = attempt == self.attempts or not is_transient(error)
                    self._failed(call, error, last=last)
                    if last:
                        raise
                    again = error
                except BaseException:  # the process ends; whoever goes on from its journal counts the worst, too
                    self.budget.settle(call.worst, call.worst)
                    raise
                else:
                    return self._answered(call, response)
            self._pause(time.monotonic() + self._delay(again, attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _ask(self, call: _Call) -> lm15.Response:
        """One attempt; a model behind a network is left behind in the middle of its answer when the run ends."""
        inner = call.speaker.inner
        if not isinstance(inner, ProviderEngine):
            return inner.complete(call.request)
        answer = start_daemon(partial(inner.complete, call.request))
        while not wait([answer], timeout=_LOOK_UP).done:
            self._watch()
        return answer.result()

    def _begin(self, call: _Call) -> None:
        """Wait while a rate limit lasts, take the call from the budget and note it before it is sent."""
        while (until := self._not_before) > time.monotonic():  # meanwhile others may learn that it lasts longer
            self._pause(until)
        self.check()
        try:
            self.budget.reserve(call.worst)
        except BudgetExceededError as error:
            self.stop(error)
        self.check()  # may have been stopped while it waited for money
        call.began = time.monotonic()
        with self._lock:
            self.calls[call.role] += 1
        try:
            self.journal.begin(call.key, call.role, call.worst)
        except OSError as error:
            self._broken(error)

    def _end(self, call: _Call, answer: Remembered | None, spent: float, fault: Fault | None) -> None:
        self.budget.settle(call.worst, spent)
        seconds = round(time.monotonic() - call.began, 3)
        try:
            self.journal.end(call.key, call.role, spent, answer=answer, fault=fault, seconds=seconds)
        except OSError as error:
            self._broken(error)

    def _answered(self, call: _Call, response: lm15.Response) -> Remembered:
        answer = remembered_of(response)
        read, written = answer.input_tokens, answer.output_tokens
        spent = call.worst if read is None or written is None else call.speaker.cost(read, written)
        refused: Fault | None = "refused" if is_refusal(response) else None
        self._end(call, answer, spent, refused)
        with self._lock:
            self.tokens["input"] += read or 0
            self.tokens["output"] += written or 0
            self._count(call.role, call.speaker.model, refused, None)
        return answer

    def _failed(self, call: _Call, error: Exception, *, last: bool) -> None:
        fault = fault_of(error)
        self._end(call, None, call.worst if may_be_billed(error) else 0.0, fault)
        with self._lock:
            if (told := told_to_wait(error)) is not None:
                self._not_before = max(self._not_before, time.monotonic() + min(told, _LONGEST_WAIT))
            if last or fault != "rate_limited":  # waiting when told to is good manners: only what outlasts us counts
                self._count(call.role, call.speaker.model, fault, error)
            else:
                self.faults[fault] += 1

    def _count(self, role: Role, model: str, fault: Fault | None, error: Exception | None) -> None:
        """Under the lock: one more attempt, and the end of the run when too many of the recent ones failed."""
        self._recent.append(fault)
        if fault is None:
            return
        self.faults[fault] += 1
        self.last_error = error or self.last_error
        recent = list(self._recent)
        failed = len(recent) - recent.count(None)
        if self._failure is None and failed > self.max_error_rate * _WINDOW:
            rate = f"{failed} of the last {len(recent)} model calls failed."
            self._latch(self._unavailable(role, model, error or fault, cause_of(recent), rate))

    def _broken(self, error: OSError) -> NoReturn:
        failure = BinduError(f"The run's folder cannot be written: {error}. Make room, then run the same command.")
        self.stop(failure)
        raise failure from error

    def _latch(self, failure: BinduError) -> None:
        self._failure = failure
        self._stopped.set()
        self.budget.close()

    def _pause(self, until: float) -> None:
        while (rest := until - time.monotonic()) > 0:
            self._stopped.wait(min(rest, _LOOK_UP))
            self._watch()

    def _delay(self, error: Exception, attempt: int) -> float:
        if told_to_wait(error) is not None:
            return 0.0  # everybody waits for it in _begin
        spread = 1 + (self.used % 8) / 8  # threads that failed together do not come back together
        return min(self.backoff * float(2 ** (attempt - 1)) * spread, _LONGEST_WAIT)

    def _unavailable(self, role: Role, model: str, error: object, cause: str, rate: str = "") -> ModelUnavailableError:
        said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip()[:_SAID]
        stop = "" if said.endswith((".", "!", "?")) else "."
        sentence = (
            f"The {role} model '{model}' cannot be used: {said}{stop} Nothing was deployed. "
            "Check DSPY__DEFAULT_MODEL, DSPY__API_BASE and DSPY__API_KEY."
        )
        return ModelUnavailableError(f"{rate} {sentence}".strip(), cause=cause)
