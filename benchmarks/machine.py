"""Where and on which code a benchmark ran: the first line that each of them prints."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

__all__ = ["machine"]

_INFO = Path("/proc/cpuinfo")


def machine() -> str:
    """Processor, cores, load (above 0 other work disturbs the times), Python and commit."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    told = _INFO.read_text(encoding="utf-8").splitlines() if _INFO.exists() else []
    models = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    load = f"load {os.getloadavg()[0]:.1f}, " if hasattr(os, "getloadavg") else ""
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {load}"
        f"Python {platform.python_version()}, commit {git.strip() or 'unknown'}"
    )
