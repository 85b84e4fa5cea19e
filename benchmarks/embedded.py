"""How quickly the embedded server starts and how little it holds, against its bars and a bare PostgreSQL.

``python benchmarks/embedded.py [ROUNDS]``; Linux. A bar is met by the median; exit code 1 when one is missed.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

from bindu.dspy.postgres import cluster
from bindu.dspy.postgres.binaries import Account, account_for, find_binaries
from bindu.dspy.postgres.embedded import start

BARS = {"first start": 0.6, "later start": 0.2, "idle": 60.0}


def processes(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            inside = os.readlink(entry / "cwd").startswith(f"{folder}/")
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if inside or (b"supervisor.py" in command and f"\0{folder}\0".encode() in command):
            found.append(int(entry.name))
    return found


def pss(pids: list[int]) -> float:
    """Proportional memory in MB, shared pages split among their users."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1]) for rollup in rollups) / 1000


def wait_for_the_end(folder: Path) -> None:
    while processes(folder):
        time.sleep(0.02)


def timed_start(folder: Path, settle: float = 0.0) -> tuple[float, float]:
    """Seconds until it answers, and MB once it has settled."""
    begin = time.perf_counter()
    server = start(folder)
    seconds = time.perf_counter() - begin
    time.sleep(settle)
    held = pss(processes(folder)) if settle else 0.0
    server.close()
    wait_for_the_end(folder)
    return seconds, held


def bare(folder: Path, account: Account | None) -> tuple[float, float]:
    """Seconds of the same by hand: ``initdb`` and ``pg_ctl start``, then ``pg_ctl start`` again."""
    programs = find_binaries(folder, account)
    data = folder / "bare"
    identity = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}

    def run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=cluster.ENVIRONMENT, cwd="/", **identity)

    def pg_ctl(action: str) -> None:
        options = ("-o", "-k . -h ''", "-l", str(folder / "log")) if action == "start" else ("-m", "fast")
        run(str(programs / "pg_ctl"), "-D", str(data), "-w", *options, action)

    begin = time.perf_counter()
    run(str(programs / "initdb"), "-D", str(data), "--auth=trust", "--no-locale", "--encoding=UTF8")
    pg_ctl("start")
    first = time.perf_counter() - begin
    pg_ctl("stop")
    begin = time.perf_counter()
    pg_ctl("start")
    later = time.perf_counter() - begin
    pg_ctl("stop")
    return first, later


def main(rounds: int) -> int:
    print(machine())
    firsts, laters, bare_firsts, bare_laters = [], [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            account = account_for(folder)
            if account is not None:
                shutil.chown(folder, account.uid, account.gid)
            firsts.append(timed_start(folder / "ours")[0])
            laters.append(timed_start(folder / "ours")[0])
            for times, seconds in zip((bare_firsts, bare_laters), bare(folder, account), strict=True):
                times.append(seconds)
    with tempfile.TemporaryDirectory() as place:
        held = timed_start(Path(place) / "ours", settle=5.0)[1]
    measured = {"first start": statistics.median(firsts), "later start": statistics.median(laters), "idle": held}
    by_hand = {"first start": statistics.median(bare_firsts), "later start": statistics.median(bare_laters)}
    best = {"first start": min(firsts), "later start": min(laters)}
    for name, bar in BARS.items():
        value, unit = measured[name], "MB" if name == "idle" else "s"
        compared = f", {value / by_hand[name]:.2f} x bare ({by_hand[name]:.3f} s)" if name in by_hand else " (PSS)"
        least = f", best {best[name]:.3f}" if name in best else ""
        verdict = "ok" if value <= bar else "MISSED"
        print(f"{name:12} {value:7.3f} {unit:2} bar {bar:g}{compared}{least}: {verdict}")
    return int(any(measured[name] > bar for name, bar in BARS.items()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
