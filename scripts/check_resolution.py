"""Whether an application that uses a framework's latest release can have us beside it, nothing taken down in version.

``python scripts/check_resolution.py [FRAMEWORK ...]``: resolves, installs nothing; exits with 1 when something is.
"""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product

from frameworks import ROOT, chosen, package, uv

BESIDE = ("", "[server,worker,otel,a2a,openfeature,embedded]")  # training is a job with an environment of its own
Versions = dict[str, str]


def main() -> int:
    frameworks = chosen(sys.argv[1:])
    cases = list(product(frameworks, BESIDE))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: taken_down(frameworks[case[0]], case[1]), cases))
    for (name, extra), lower in zip(cases, found, strict=True):
        print(f"{name:<14} beside bindu-dspy{extra:<46} {'ok' if not lower else '; '.join(lower)}")
    return int(any(found))


def taken_down(needs: tuple[str, ...], extra: str) -> list[str]:
    """What has a lower version beside us than alone, or what the resolver says when there is no solution."""
    try:
        alone, beside = resolved(needs), resolved((*needs, f"-e {ROOT}{extra}"))
    except subprocess.CalledProcessError as error:
        return [f"no solution: {error.stderr.strip()}"]
    lower = [
        f"{name} {alone[name]} -> {beside.get(name, 'gone')}"
        for name in alone
        if name not in beside or ordered(beside[name]) < ordered(alone[name])
    ]
    return sorted(lower, key=lambda line: not line.startswith(package(needs[0])))


@cache
def resolved(requirements: tuple[str, ...]) -> Versions:
    """The versions that the resolver chooses, the latest that go together."""
    command = [uv(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", sys.executable, "-"]
    lines = "\n".join(requirements)
    done = subprocess.run(command, input=lines, cwd=ROOT, capture_output=True, text=True, check=True)
    pinned = (line.split(";")[0].strip().partition("==") for line in done.stdout.splitlines())
    return {name: version for name, equal, version in pinned if equal}


def ordered(version: str) -> tuple[int, ...]:
    """Releases in order; a pre-release counts as its release."""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[a-z+-]", version.partition("!")[2] or version)[0])))


if __name__ == "__main__":
    sys.exit(main())
