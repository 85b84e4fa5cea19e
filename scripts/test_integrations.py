"""Tests each framework's latest release with our integration, in an environment of its own under ``.venvs``.

``python scripts/test_integrations.py [FRAMEWORK ...]``: prints a table, exits with 1 when one of them fails. Bindu
needs another Python than ours may be: without one it is skipped, unless BINDU_UPSTREAM_PYTHON names an environment
that has Bindu.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from frameworks import BINDU, BINDU_NEEDS_PYTHON, FRAMEWORKS, ROOT, Needs, chosen, package, uv

TESTS: Final = ROOT / "tests" / "frameworks"
ENVIRONMENTS: Final = ROOT / ".venvs"
QUIET: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "true",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "OTEL_SDK_DISABLED": "true",
}
Result = tuple[Path | None, str]  # the Python that has the framework, and how its tests ended


def main() -> int:
    rows, failed = [], False
    for name, needs in chosen(sys.argv[1:], FRAMEWORKS | BINDU).items():
        print(f"== {name}", flush=True)
        began = monotonic()
        python, result = tested_apart(name, needs) if name in BINDU else tested(name, needs)
        failed = failed or result not in {"passed", "skipped"}
        rows.append((name, version(python, package(needs[0])), result, f"{monotonic() - began:.0f} s"))
    print()
    for row in [("framework", "version", "result", "time"), *rows]:
        print("{:<14}  {:<10}  {:<13}  {:>5}".format(*row))
    return int(failed)


def tested(name: str, needs: Needs) -> Result:
    """In one environment, which has the framework and us."""
    python = filled(made(name, sys.executable), [*ours("embedded"), *needs])
    if python is None:
        return None, "not installed"
    return python, passed(python, f"test_{name}.py", {"BINDU_FRAMEWORK": name})


def tested_apart(name: str, needs: Needs) -> Result:
    """In two environments: the tests run in ours and start processes in Bindu's."""
    given = os.environ.get("BINDU_UPSTREAM_PYTHON")
    bare = None if given else made(f"{name}_upstream", BINDU_NEEDS_PYTHON)
    if not given and bare is None:
        print(
            f"Skipped: Bindu needs Python {BINDU_NEEDS_PYTHON}, and uv neither finds nor gets one. Put it on the PATH."
        )
        return None, "skipped"
    upstream = Path(given) if given else filled(bare, needs)
    python = filled(made(name, sys.executable), ours("embedded,server"))
    if python is None or upstream is None:
        return None, "not installed"
    names = {"BINDU_FRAMEWORK": name, "BINDU_UPSTREAM_PYTHON": str(upstream)}
    return upstream, passed(python, f"upstream/test_{name}.py", names)


def ours(extras: str) -> list[str]:
    return ["-e", f"{ROOT}[{extras}]", "pytest", "pytest-asyncio"]


def made(name: str, interpreter: str) -> Path | None:
    """A fresh environment's Python; None when there is no such interpreter."""
    folder = ENVIRONMENTS / name
    done = run([uv(), "venv", "--quiet", "--clear", "--python", interpreter, str(folder)], {})
    return folder / "bin" / "python" if done else None


def filled(python: Path | None, requirements: Sequence[str]) -> Path | None:
    """The same Python once its environment has them all; None when something cannot be installed."""
    if python is None:
        return None
    return python if run([uv(), "pip", "install", "--quiet", "--python", str(python), *requirements], {}) else None


def passed(python: Path, file: str, extra: Mapping[str, str]) -> str:
    """Run a framework's tests from their own folder: its files must not be taken for the framework's."""
    options = ["-q", "-c", "pytest.ini", "--confcutdir=..", "-p", "no:cacheprovider"]
    done = run([str(python), "-W", "ignore", "-m", "pytest", *options, file], QUIET | dict(extra))
    return "passed" if done else "FAILED"


def run(command: Sequence[str], extra: Mapping[str, str]) -> bool:
    return subprocess.run(command, cwd=TESTS, env=os.environ | extra, check=False).returncode == 0


def version(python: Path | None, distribution: str) -> str:
    if python is None:
        return "-"
    told = f"from importlib.metadata import version; print(version({distribution!r}))"
    return subprocess.run([python, "-c", told], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
