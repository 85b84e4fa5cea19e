"""A run gives the same answers whatever order its threads take and however often it is killed, and pays once."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from random import Random

import pytest
from dspy import lm15
from hypothesis import given, settings
from hypothesis import strategies as st

from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.journal import Journal
from bindu.dspy.engine.parallel import in_parallel, start_daemon
from bindu.dspy.engine.requests import occasion
from bindu.dspy.errors import BinduError
from faults import Killed
from providers import Script, answer, request, scripted, text_of

THREADS = 8
KILLS = 10


class Deterministic:
    """Says what the request's text and its seed decide; dies at its n-th call, and with it all that are in flight."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.calls = 0
        self._dies_at = dies_at
        self._dead = threading.Event()
        self._lock = threading.Lock()

    def complete(self, request: lm15.Request) -> lm15.Response:
        with self._lock:
            if self._dead.is_set():
                raise Killed
            self.calls += 1
            if self.calls == self._dies_at:
                self._dead.set()
        if self._dies_at is not None and self._dead.wait(0.001):  # long enough for all threads to be in flight
            raise Killed
        return answer(blake2b(f"{request.config.seed} {text_of(request)}".encode(), digest_size=6).hexdigest())


def chain(engine: CountingEngine, number: int) -> list[str]:
    """What one thread asks: each question depends on the answer before, some are those of other threads."""
    said = [f"chain {number % 40}"]
    lm = engine.lm("agent", temperature=1.0)
    for step in range(8):
        match step % 4:
            case 0:
                with occasion(f"gate {number % 3}"):
                    said.append(engine.complete("agent", request(said[-1])).text or "")
            case 1:
                said += lm(said[-1], rollout_id=number % 5)
            case 2:
                said += lm(said[-1], n=2)
            case _:
                said.append(engine.complete("judge", request(said[-1])).text or "")
    return said


def workload(engine: CountingEngine, *, threads: int, shuffled: Random | None = None) -> dict[int, list[str]]:
    """What all chains said that came to their end, in whatever order."""
    numbers = list(range(60))
    if shuffled:
        shuffled.shuffle(numbers)
    done: dict[int, list[str]] = {}
    dead = threading.Event()

    def one(number: int) -> None:
        if not dead.is_set():
            try:
                done[number] = chain(engine, number)
            except Killed:
                dead.set()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, numbers))
    return done


def test_neither_the_number_of_threads_nor_their_order_changes_an_answer_or_a_call() -> None:
    alone = Deterministic()
    expected = workload(scripted(alone), threads=1)
    for seed in range(3):
        inner = Deterministic()
        assert workload(scripted(inner), threads=THREADS, shuffled=Random(seed)) == expected
        assert inner.calls == alone.calls > 300


@given(seed=st.integers(0, 1_000_000))
@settings(max_examples=6, deadline=None)
def test_a_run_killed_ten_times_ends_as_one_that_never_was_and_pays_for_what_was_in_flight(seed: int) -> None:
    unkilled = Deterministic()
    expected = workload(scripted(unkilled, seed=seed), threads=THREADS)
    draw, calls = Random(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.jsonl"
        for _ in range(KILLS):
            inner, journal = Deterministic(draw.randint(1, unkilled.calls // KILLS)), Journal(path)
            done = workload(scripted(inner, seed=seed, journal=journal), threads=THREADS, shuffled=draw)
            assert done.items() <= expected.items()
            journal.close()
            calls += inner.calls
        inner, journal = Deterministic(), Journal(path)
        assert calls <= journal.calls.total() <= calls + KILLS * THREADS  # those that died before they were sent count
        engine = scripted(inner, seed=seed, journal=journal)
        assert workload(engine, threads=THREADS, shuffled=draw) == expected
        journal.close()
        calls += inner.calls
    assert unkilled.calls <= calls <= unkilled.calls + KILLS * THREADS


def test_another_seed_is_another_run() -> None:
    runs = [workload(scripted(Deterministic(), seed=seed), threads=2) for seed in (0, 1)]
    assert all(runs[0][number] != runs[1][number] for number in runs[0])


@given(texts=st.lists(st.sampled_from("abcde"), min_size=1, max_size=40), threads=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_what_is_alike_is_asked_once_however_many_threads_ask(texts: list[str], threads: int) -> None:
    inner = Deterministic()
    engine = scripted(inner)
    with ThreadPoolExecutor(threads) as pool:
        said = list(pool.map(lambda text: engine.complete("agent", request(text)).text, texts))
    assert inner.calls == engine.used == len(set(texts)) == len(set(said))
    assert engine.cached == len(texts) - len(set(texts))


class Held:
    """A model that answers, or fails, when it is let."""

    def __init__(self, outcome: str | BaseException) -> None:
        self.outcome = outcome
        self.calls = 0
        self.asked, self.go = threading.Event(), threading.Event()

    def complete(self, request: lm15.Request) -> lm15.Response:
        self.calls += 1
        self.asked.set()
        assert self.go.wait(10)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return answer(self.outcome)


@pytest.mark.parametrize("error", [lm15.InvalidRequestError("no"), KeyError("bug"), Killed()])
def test_an_error_reaches_all_who_wait_for_the_same_answer(error: BaseException) -> None:
    inner = Held(error)
    engine = scripted(inner)
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = [pool.submit(engine.complete, "agent", request()) for _ in range(THREADS)]
        assert inner.asked.wait(10)
        while engine.cached < THREADS - 1:
            threading.Event().wait(0.001)
        inner.go.set()
        assert [type(job.exception(timeout=10)) for job in jobs] == [type(error)] * THREADS
    assert inner.calls == 1


def test_after_an_error_the_same_question_is_asked_anew() -> None:
    inner = Script(lm15.InvalidRequestError("no"), "yes")
    engine = scripted(inner)
    with pytest.raises(lm15.InvalidRequestError):
        engine.complete("agent", request())
    assert engine.complete("agent", request()).text == "yes"


def test_those_who_wait_are_told_when_the_run_is_stopped() -> None:
    inner = Held("late")
    engine = scripted(inner)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(engine.complete, "agent", request())
        assert inner.asked.wait(10)
        waiting = pool.submit(engine.complete, "agent", request())
        engine.stop(BinduError("Enough."))
        with pytest.raises(BinduError, match="Enough"):
            waiting.result(timeout=10)
        inner.go.set()


def test_another_occasion_asks_anew_with_another_seed_and_the_same_one_does_not() -> None:
    inner = Script(*map(str, range(9)))
    engine = scripted(inner)
    said = []
    for name in (None, "a", "b", "a", 1, "1", None):
        with occasion(name):
            said.append(engine.complete("agent", request()).text)
    assert said == ["0", "1", "2", "1", "3", "4", "0"]
    seeds = [one.config.seed for one in inner.asked]
    assert len(set(seeds[:4])) == 4
    assert all(seed is not None and 0 <= seed < 2**31 for seed in seeds)


def test_a_seed_that_a_caller_chose_is_kept() -> None:
    inner = Script("yes")
    scripted(inner).complete("agent", request(seed=7))
    assert inner.asked[0].config.seed == 7


def test_a_rollout_id_is_an_occasion_and_one_within_that_of_its_caller() -> None:
    inner = Script(*map(str, range(9)))
    lm = scripted(inner).lm("agent", temperature=1.0)
    assert lm("Hello?") == lm("Hello?", rollout_id=None) == ["0"]
    assert lm("Hello?", rollout_id=1) == lm.copy(rollout_id=1)("Hello?") == ["1"]
    assert lm("Hello?", rollout_id=2) == ["2"]
    with occasion("gate"):
        assert lm("Hello?", rollout_id=1) == ["3"]
        assert lm("Hello?") == ["4"]
    with occasion("proof"):
        assert lm("Hello?", rollout_id=1) == ["5"]
    assert len({one.config.seed for one in inner.asked}) == 6


def test_several_completions_are_several_answers_and_each_is_remembered() -> None:
    inner = Script(*map(str, range(9)))
    lm = scripted(inner).lm("agent", temperature=1.0)
    assert lm("Hello?", n=3) == ["0", "1", "2"]
    assert lm("Hello?", n=4) == ["0", "1", "2", "3"]
    assert lm("Hello?") == ["0"]
    assert lm("Hello?", n=2, rollout_id=1) == ["4", "5"]
    assert len({one.config.seed for one in inner.asked}) == inner.calls == 6


def test_threads_of_a_run_work_on_the_occasion_of_whoever_began_them() -> None:
    inner = Script("0", "1", "2")
    engine = scripted(inner)

    def ask(_: object = None) -> str | None:
        return engine.complete("agent", request()).text

    assert in_parallel(ask, [1, 2, 3]) == ["0"] * 3
    with occasion("gate"):
        assert in_parallel(ask, [1, 2, 3]) == ["1"] * 3
        assert start_daemon(ask).result(timeout=5) == "1"
    assert start_daemon(ask).result(timeout=5) == "0"
