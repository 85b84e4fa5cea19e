"""Whatever is left of a run's record of calls is read, no line of it is lost, and what was in flight counts."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bindu.dspy.engine.budget import Budget
from bindu.dspy.engine.journal import Journal, Remembered
from bindu.dspy.engine.pricing import Price
from bindu.dspy.errors import BinduError
from faults import Killed
from providers import Script, answer, asked_by_many, request, scripted

# One call: role, the most it can cost, what it did, what came of it (None: it was cut off)
CALLS = st.tuples(
    st.sampled_from(["agent", "judge"]),
    st.integers(8, 32),
    st.integers(0, 8),
    st.one_of(st.none(), st.just(""), st.text(min_size=1, max_size=12)),
)


def write(path: Path, calls: list[tuple[str, int, int, str | None]]) -> None:
    """``""`` is a call that failed; those that are cut off overlap all that come later."""
    journal = Journal(path)
    for number, (role, worst, spent, text) in enumerate(calls):
        journal.begin(f"k{number}", role, worst)
        if text is not None:
            said = Remembered(text, 2, 1) if text else None
            journal.end(f"k{number}", role, spent, answer=said, fault=None if text else "dead", seconds=0.1)
    journal.close()


def told(lines: list[bytes]) -> tuple[Counter[str], float, dict[str, str]]:
    """Calls by role, dollars and answers that whole lines tell of, by the shortest program that can say it."""
    calls: Counter[str] = Counter()
    dollars, answers = {}, {}
    for number, line in enumerate(msgspec.json.decode(one) for one in lines):
        if line["event"] == "begin":
            calls[line["role"]] += 1
            dollars[line["key"], number] = line["dollars"]
        else:
            (begun,) = [key for key in dollars if key[0] == line["key"]]
            dollars[begun] = line.get("dollars", 0)
            if "answer" in line:
                answers[line["key"]] = line["answer"]["text"]
    return calls, sum(dollars.values()), answers


def found(path: Path) -> tuple[Counter[str], float, dict[str, str]]:
    journal = Journal(path)
    journal.close()
    return journal.calls, journal.cost, {key: one.text for key, one in journal.answers.items()}


@given(calls=st.lists(CALLS, min_size=1, max_size=4), more=CALLS)
@settings(max_examples=12, deadline=None)
def test_every_prefix_of_a_record_is_read_loses_no_whole_line_and_is_gone_on_with(
    calls: list[tuple[str, int, int, str | None]], more: tuple[str, int, int, str | None]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.jsonl"
        write(path, calls)
        data = path.read_bytes()
        for cut in range(len(data) + 1):
            whole = data[: cut + 1] if data[cut : cut + 1] == b"\n" else data[:cut]
            lines = whole[: whole.rfind(b"\n") + 1].splitlines()
            path.write_bytes(data[:cut])
            assert found(path) == told(lines)
            if cut % 9 == 0:
                _go_on(path, more)
                role, worst, spent, text = more
                calls_before, cost_before, answers_before = told(lines)
                assert found(path) == (
                    calls_before + Counter([role]),
                    cost_before + (worst if text is None else spent),
                    answers_before | ({"new": text} if text else {}),
                )


def _go_on(path: Path, call: tuple[str, int, int, str | None]) -> None:
    role, worst, spent, text = call
    journal = Journal(path)
    journal.begin("new", role, worst)
    if text is not None:
        journal.end("new", role, spent, answer=Remembered(text) if text else None)
    journal.close()


@given(damage=st.binary(max_size=30), at=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_damaged_line_costs_no_other_line(damage: bytes, at: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.jsonl"
        write(path, [("agent", 9, 1, "one"), ("agent", 9, 2, "two"), ("judge", 9, 3, "three")])
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:at], damage.replace(b"{", b"") + b"\n", *lines[at:]]))
        assert found(path)[1:] == (6, {"k0": "one", "k1": "two", "k2": "three"})


def test_a_call_whose_beginning_cannot_be_read_is_a_call_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    write(path, [("agent", 9, 1, "one")])
    path.write_bytes(path.read_bytes()[7:])
    assert found(path) == (Counter(agent=1), 1, {"k0": "one"})


def test_a_request_that_was_cut_off_and_asked_again_is_paid_for_twice(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    journal = Journal(path)
    for _ in range(2):  # two deaths, then an answer
        journal.begin("k", "agent", 8)
    journal.begin("k", "agent", 8)
    journal.end("k", "agent", 3, answer=Remembered("yes", 5, 2))
    journal.close()
    again = Journal(path)
    assert (again.calls, again.cost, again.tokens) == ({"agent": 3}, 19, {"input": 5, "output": 2})
    again.close()


_WRITER = """
import sys
from pathlib import Path
from bindu.dspy.engine.journal import Journal, Remembered
name, journal = sys.argv[2], Journal(Path(sys.argv[1]))
for number in range(400):
    journal.begin(f"{name}{number}", "agent", 2)
    journal.end(f"{name}{number}", "agent", 1, answer=Remembered(name * (number * 37 % 20_000)))
journal.close()
"""


def test_the_lines_of_two_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b'{"event":"beg')  # and both find it torn
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name]) for name in "ab"]
    assert [one.wait(timeout=60) for one in writers] == [0, 0]
    calls, cost, answers = found(path)
    assert (calls, cost) == (Counter(agent=800), 800)
    assert answers == {f"{name}{n}": name * (n * 37 % 20_000) for name in "ab" for n in range(400)}


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    engine = scripted(Script("yes" * 999), journal=Journal(path), price=Price(0.5, 0.5))
    asked_by_many(engine, map(str, range(200)), threads=8)
    calls, cost, answers = found(path)
    assert (calls, cost, len(answers)) == (Counter(agent=200), engine.cost, 200)


def test_answers_are_for_nobody_elses_eyes(tmp_path: Path) -> None:
    write(tmp_path / "calls.jsonl", [("agent", 9, 1, "one")])
    assert (tmp_path / "calls.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["half a pair \ud83d", 'quotes " and \\ and \n and \u2028 and \x00', "🙂"])
def test_whatever_a_model_says_can_be_kept(text: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "calls.jsonl")
    engine = scripted(Script(text), journal=journal)
    first = engine.complete("agent", request()).text
    journal.close()
    again = scripted(Script(Killed()), journal=Journal(tmp_path / "calls.jsonl"))
    assert again.complete("agent", request()).text == first
    assert first == text.encode("utf-8", "replace").decode()
    again.journal.close()


def test_a_record_remembers_without_a_file() -> None:
    journal = Journal()
    journal.begin("k", "agent", 1)
    journal.end("k", "agent", 1, answer=Remembered("yes"))
    assert journal.answers == {"k": Remembered("yes")}
    assert (journal.calls.total(), journal.cost) == (0, 0)  # those are of earlier processes


def test_a_record_that_was_closed_is_not_written_past(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "calls.jsonl")
    engine = scripted(inner := Script("yes"), journal=journal)
    journal.close()
    with pytest.raises(BinduError, match=r"cannot be written.*was closed"):
        engine.complete("agent", request())
    assert inner.calls == 0


@pytest.mark.parametrize("place", ["missing/calls.jsonl", "folder", "file/calls.jsonl"])
def test_a_record_that_cannot_be_made_is_a_sentence(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BinduError, match=r"record of its calls cannot be used: .*Make .* a file that you may read"):
        Journal(tmp_path / place)


@contextmanager
def full_disk(path: Path, *, room: int) -> Iterator[None]:
    """Files of this process may not grow beyond what this one holds and so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@example(room=88, threads=1)  # all of a beginning fits but its newline: it was not sent, and counts
@given(room=st.integers(0, 900), threads=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_a_full_disk_ends_the_run_in_a_sentence_and_loses_nothing_that_was_told(room: int, threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.jsonl"
        inner = Script("yes")
        engine = scripted(inner, journal=Journal(path), price=Price(1, 1))
        with full_disk(path, room=room):
            got = asked_by_many(engine, map(str, range(40)), threads=threads)
            with pytest.raises(BinduError, match=r"folder cannot be written.*(No space|too large).*Make room"):
                engine.check()
        engine.journal.close()
        known = Journal(path)
        assert len(known.answers) >= len(got)
        assert inner.calls <= known.calls.total() <= inner.calls + threads
        assert known.cost >= 4 * inner.calls
        again = scripted(Script("yes"), journal=known, price=Price(1, 1))
        assert len(asked_by_many(again, map(str, range(40)), threads=threads)) == 40
        known.close()
        assert len(found(path)[2]) == 40


def test_a_call_that_died_with_its_process_is_counted_by_both_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    journal = Journal(path)
    engine = scripted(Script(Killed()), journal=journal, price=Price(1, 1), max_output_tokens=9)
    engine.budget.max_cost = 300
    with pytest.raises(Killed):
        engine.complete("agent", request("one"))
    worst = engine.cost
    assert worst > 150
    with ThreadPoolExecutor(1) as pool, pytest.raises(BinduError, match="limit of"):
        pool.submit(engine.complete, "agent", request("two")).result(timeout=5)
    journal.close()
    assert found(path)[:2] == (Counter(agent=1), worst)


class _Slow:
    """A model that answers when it is let."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def complete(self, request: object) -> object:
        self.asked.set()
        assert self.go.wait(10)
        return answer("yes")


def test_what_is_in_flight_is_on_disk_before_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    journal, inner = Journal(path), _Slow()
    engine = scripted(inner, journal=journal, budget=Budget(max_calls=9), price=Price(1, 1))  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(engine.complete, "agent", request())
        assert inner.asked.wait(10)
        calls, cost, answers = found(path)
        assert (calls, answers) == (Counter(agent=1), {})
        assert cost > 150
        inner.go.set()
    assert len(found(path)[2]) == 1
    journal.close()
