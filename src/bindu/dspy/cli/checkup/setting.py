"""Whether the settings can be read, and by whom."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bindu.dspy.cli.checkup.finding import Finding, note, ok, problem, warning
from bindu.settings import ENV_FILE, SettingsError, every_setting, ignored_keys

__all__ = ["settings_findings"]

OTHERS: Final = 0o077


def settings_findings() -> Iterator[Finding]:
    """Of the environment and of .env."""
    yield _env_file(Path(ENV_FILE))
    try:
        origins = Counter(one.origin for one in every_setting())
        ignored = ignored_keys()
    except SettingsError as error:
        yield problem("settings", str(error), "'bindu config schema' lists what there is to set.", configuration=True)
        return
    said = f"{origins['environment']} by the environment, {origins['.env']} by {ENV_FILE}, {origins['default']} default"
    yield ok("settings", f"All can be read: {said}.")
    if ignored:
        advice = "Bindu's own belong to Bindu. If one is meant for us: 'bindu config schema' lists the names."
        yield warning("settings", f"Ignored: {', '.join(ignored)}.", advice)


def _env_file(file: Path) -> Finding:
    if not file.exists():
        return note(ENV_FILE, f"There is none in {Path.cwd()}.", "'bindu init' writes one.")
    if sys.platform != "win32" and file.stat().st_mode & OTHERS:
        return warning(ENV_FILE, "Other users of this machine may read it.", f"Run 'chmod 600 {ENV_FILE}'.")
    return ok(ENV_FILE, f"{file.absolute()} is yours alone.")
