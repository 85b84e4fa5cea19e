"""What waits on disk: in order, once, by many processes, whoever is killed and however full the disk is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bindu.dspy import spool as spool_module
from bindu.dspy.spool import Spool, SpoolFullError

MOST = 10_000_000
HEAD = "import sys; from bindu.dspy.spool import Spool; spool = Spool(sys.argv[1], limit=10**9);"

WRITER = """
for number in range(int(sys.argv[3])):
    spool.put([f"{sys.argv[2]} {number}".encode()])
    if number % 10 == 9:
        spool.close()
spool.close()
"""
READER = r"""
import time
until = time.monotonic() + 60
seen = 0
while seen < int(sys.argv[3]) and time.monotonic() < until:
    with spool.oldest() as records:
        for record in records or ():
            sys.stdout.write(record.decode() + "\n")  # at once, so that lines stay whole
            sys.stdout.flush()
    seen = sum(1 for _ in open(sys.argv[2]))
"""
BULKY = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # what a file may hold, as a disk that fills up
taken = 0
for number in range(40):
    try:
        spool.put([b"%d " % number + b"x" * 600])
        taken += 1
    except OSError:
        pass
try:
    spool.put([b"y" * 20_000])
except OSError as error:
    print(taken, type(error).__name__)
"""


def drained(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    while True:
        with spool.oldest() as records:
            if records is None:
                return found
            found += records


def program(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", HEAD + code, *map(str, arguments)]


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_FILE_BYTES", 50)


@pytest.fixture
def spool_at() -> Iterator[Callable[..., Spool]]:
    """Makes spools, and closes them in the end."""
    made: list[Spool] = []

    def make(folder: Path, limit: int = MOST) -> Spool:
        made.append(Spool(folder, limit=limit))
        return made[-1]

    yield make
    for spool in made:
        spool.close()


@pytest.mark.usefixtures("small_files")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.binary(max_size=30).map(lambda text: text.replace(b"\n", b" ")), min_size=1, max_size=5)
        | st.sampled_from(("close", "again", "fail")),
        max_size=12,
    )
)
def test_records_come_out_once_and_in_order_however_they_were_put(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[bytes] | str]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool, put = Spool(folder, limit=MOST), list[bytes]()
    for step in steps:
        if step == "close":
            spool.close()
        elif step == "again":
            spool.close()
            spool = Spool(folder, limit=MOST)
        elif step == "fail":  # whoever reads was interrupted: nothing is gone
            with suppress(KeyError), spool.oldest() as records:
                next(records or iter(()), None)
                raise KeyError
        else:
            spool.put(step)  # type: ignore[arg-type]
            put += step
        assert spool.count == len(put)
        assert spool.size == sum(path.stat().st_size for path in folder.iterdir())
    assert drained(spool) == put
    assert (spool.count, spool.size, spool.is_empty()) == (0, 0, True)


def test_what_is_put_is_private(tmp_path: Path, spool_at: Callable[..., Spool]) -> None:
    spool_at(tmp_path / "a" / "spool").put([b"secret"])
    [path] = (tmp_path / "a" / "spool").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_limit_is_never_passed_and_a_refused_batch_leaves_nothing(
    tmp_path: Path, spool_at: Callable[..., Spool]
) -> None:
    spool = spool_at(tmp_path, 100)
    spool.put([b"x" * 59])
    with pytest.raises(SpoolFullError, match=r"holds 60 bytes, its limit is 100"):
        spool.put([b"y" * 10] * 4)
    spool.put([b"z" * 39])
    assert (spool.size, spool.count) == (100, 2)
    assert drained(spool) == [b"x" * 59, b"z" * 39]
    spool.put([b"y" * 99])


def test_the_limit_counts_what_other_processes_put(tmp_path: Path, spool_at: Callable[..., Spool]) -> None:
    one, other = spool_at(tmp_path, 100), spool_at(tmp_path, 100)
    one.put([b"x" * 79])
    other.put([b"y" * 9])
    other.put([b"y" * 9])
    with pytest.raises(SpoolFullError):
        other.put([b""])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 100


def test_a_disk_that_fills_up_loses_nothing_that_was_taken_and_keeps_no_half(tmp_path: Path) -> None:
    done = subprocess.run(program(BULKY, tmp_path), capture_output=True, text=True, check=True, timeout=60)
    taken, error = done.stdout.split()
    assert error == "OSError"
    found = drained(Spool(tmp_path, limit=MOST))
    assert [int(record.split()[0]) for record in found] == list(range(int(taken)))
    assert {len(record.split()[1]) for record in found} == {600}


def test_a_disk_without_room_is_not_littered_with_empty_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    spool = Spool(tmp_path, limit=MOST)
    with monkeypatch.context() as patch:
        patch.setattr(spool_module.os, "fsync", full)
        for _ in range(20):
            with pytest.raises(OSError, match="No space"):
                spool.put([b"lost"])
    spool.put([b"kept"])
    assert len(list(tmp_path.iterdir())) == 1
    assert drained(spool) == [b"kept"]


def test_a_process_killed_while_it_writes_leaves_all_but_its_half_record(tmp_path: Path) -> None:
    code = "spool.put([b'one', b'two']); spool._file.write(b'thr'); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(program(code, tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        other = Spool(tmp_path, limit=MOST)
        assert drained(other) == []  # somebody works on it
        assert not other.is_empty()
        os.kill(writer.pid, signal.SIGKILL)
    assert drained(other) == [b"one", b"two"]
    assert other.is_empty()


def test_of_two_writers_and_two_readers_in_one_folder_each_record_is_read_once(tmp_path: Path) -> None:
    folder, seen, each = tmp_path / "spool", tmp_path / "seen", 150
    seen.touch()
    with seen.open("a") as out:
        readers = [subprocess.Popen(program(READER, folder, seen, 2 * each), stdout=out) for _ in range(2)]
        writers = [subprocess.Popen(program(WRITER, folder, name, each)) for name in "ab"]
        assert [process.wait(60) for process in writers + readers] == [0, 0, 0, 0]
    lines = seen.read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in "ab" for number in range(each))


def test_a_new_file_that_another_process_took_for_a_left_one_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, others, real, took = Spool(tmp_path, limit=MOST), Spool(tmp_path, limit=MOST), spool_module._is_locked, []

    def late(file: object) -> bool:
        if not took:
            took.append(True)
            assert drained(others) == []  # between our making the file and our lock on it
        return real(file)  # type: ignore[arg-type]

    monkeypatch.setattr(spool_module, "_is_locked", late)
    mine.put([b"kept"])
    assert drained(mine) == [b"kept"]


def test_a_file_that_cannot_be_read_is_told_once_and_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "0.jsonl").mkdir()  # opens for nobody, whatever their rights
    spool = Spool(tmp_path, limit=MOST)
    spool.put([b"kept"])
    assert drained(spool) == [b"kept"]
    assert [record.getMessage().count("0.jsonl is not stored") for record in caplog.records] == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fork_does_not_keep_what_its_parent_was_done_with(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=MOST)
    spool.put([b"one"])
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.read(reading, 1)  # it has the file that its parent writes to, and lives on
        os._exit(0)
    with spool.oldest() as records:
        assert records is not None
        assert list(records) == [b"one"]
    os.write(writing, b"x")
    os.waitpid(child, 0)


def test_what_another_process_stored_waits_no_longer(tmp_path: Path) -> None:
    spool, other = (Spool(tmp_path, limit=MOST) for _ in range(2))
    spool.put([b"one"])
    spool.close()
    with other.oldest() as records:
        assert records is not None
    assert (spool.size, spool.count) == (0, 0)
