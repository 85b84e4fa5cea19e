"""What all commands share: running a service, printing its result, turning an error into an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import getpass
import io
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, NoReturn, TextIO, TypeVar
from uuid import UUID

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bindu.dspy import errors
from bindu.dspy.models import MACHINES
from bindu.dspy.sheet import Sheet
from bindu.dspy.storage import close_storage
from bindu.settings import SettingsError
from bindu.utils import loop

__all__ = [
    "CONFIGURATION",
    "INTERRUPTED",
    "REFUSED",
    "AgentOption",
    "DryRunOption",
    "JsonOption",
    "emit",
    "fail",
    "has_colour",
    "plot_width",
    "read_stdin",
    "run",
    "short",
    "stack",
    "start",
    "styled",
    "table",
    "user_name",
    "with_sentence",
]

USAGE, REFUSED, CONFIGURATION, BUDGET, INTERRUPTED = 2, 3, 4, 5, 130

COLUMNS = 80  # where the surroundings say that there are none
LONGEST = 300  # characters of a reason; --json and 'bindu canary explain' show all

_EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.BarredTextError, REFUSED),
    (errors.ExperimentActiveError, REFUSED),
    (errors.NoExperimentError, REFUSED),
    (errors.RunActiveError, REFUSED),
    (errors.TrainingRefusedError, REFUSED),
    (errors.BudgetExceededError, BUDGET),
    (errors.RunCancelledError, INTERRUPTED),
    (errors.NoActivePromptError, CONFIGURATION),
    (errors.SchemaError, CONFIGURATION),
    (errors.StorageNotConfiguredError, CONFIGURATION),
    (ConnectionError, CONFIGURATION),
    (SettingsError, CONFIGURATION),
    (errors.StaleRolloutError, REFUSED),
    (errors.AmbiguousRunError, USAGE),
    (errors.ImportRefusedError, USAGE),
    (errors.InvalidArgumentError, USAGE),
    (errors.InvalidFeedbackError, USAGE),
    (errors.InvalidHistoryError, USAGE),
    (errors.InvalidPromptError, USAGE),
    (errors.UnknownDecisionError, USAGE),
    (errors.UnknownKeyError, USAGE),
    (errors.UnknownPromptError, USAGE),
    (errors.UnknownRuleError, USAGE),
    (errors.UnknownRunError, USAGE),
    (errors.UnknownStrategyError, USAGE),
    (errors.UnknownTaskError, USAGE),
    (errors.UnsupportedOptimizerError, USAGE),
    (OSError, USAGE),  # a file that cannot be read
    (UnicodeDecodeError, USAGE),
)

_EXTRAS = {  # by the package that misses
    **dict.fromkeys(("dspy", "numpy", "scipy"), "train"),
    **dict.fromkeys(("aiohttp", "itsdangerous", "jinja2", "limits", "starlette", "uvicorn", "yarl"), "server"),
    "cronsim": "worker",
    "rapidfuzz": "server",
}

AgentOption = Annotated[str | None, typer.Option("--agent", help="Whose prompt; default DSPY__AGENT_ID.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and change nothing.")]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_out = Console(highlight=False, soft_wrap=True, emoji=False)
_err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

T = TypeVar("T")


def run(service: Callable[[], Coroutine[Any, Any, T]], *, refused: int = REFUSED, level: int = logging.WARNING) -> T:
    """Run one service on a loop of its own; an expected error becomes a sentence and its exit code.

    ``refused`` is the exit code when a guard says no, ``level`` the least that is logged to standard error.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("bindu").setLevel(level)

    async def closing() -> T:
        task = asyncio.current_task()
        if task is not None and sys.platform != "win32":  # what systemd and Kubernetes send ends a command like Ctrl-C
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            return await service()
        finally:
            await close_storage()

    try:
        return loop.run(closing())
    except (errors.BinduError, SettingsError, OSError, UnicodeDecodeError) as error:
        fail(error, refused)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:
            raise
        _err.print(f"error: {error.name} is not installed. Run pip install 'bindu-dspy[{extra}]'.", markup=False)
        raise typer.Exit(CONFIGURATION) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        _err.print("interrupted", markup=False)
        raise typer.Exit(INTERRUPTED) from None


def start(program: Callable[[], object]) -> None:
    """Run a command line as the whole process. A thread still waiting for a model it was told to leave ends with it.

    Python, taking itself down, would end such a thread at its next step, and has been seen to abort over that.
    """
    _prepare_output()
    try:
        program()
    except SystemExit as end:
        if not any(thread.daemon for thread in threading.enumerate()):
            raise
        with contextlib.suppress(OSError):
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))


def fail(error: BaseException, refused: int = REFUSED) -> NoReturn:
    """Print an expected error as a sentence and leave with its exit code."""
    code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)
    _err.print(f"error: {error}", markup=False)
    raise typer.Exit(refused if code == REFUSED else code)


def emit(value: Any, *, as_json: bool, text: Callable[[], RenderableType]) -> None:
    """Print a result: one JSON object, or what ``text`` renders for people."""
    try:
        if as_json:
            sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=not _takes_unicode()) + "\n")
        else:
            rendered = text()
            _out.print(_visible(rendered) if isinstance(rendered, str) else rendered, markup=False)
        sys.stdout.flush()
    except OSError as error:  # such as a full disk
        sys.stdout = None  # or Python tries again, and fails loudly, when it exits
        fail(error)


def table(*columns: str, rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """A table of plain text: what users wrote is shown, never obeyed as markup or by the terminal."""
    made = Table(*columns, title=title)
    for row in rows:
        made.add_row(*(Text(_visible(cell)) for cell in row))
    return made


def with_sentence(value: Any) -> dict[str, Any]:
    """A dataclass with its ``sentence`` as one object."""
    return {"sentence": value.sentence, **_plain(value)}


def stack(*parts: RenderableType | Sheet) -> Group:
    """One below the other; texts are shown as they are, those in a sheet at most LONGEST characters of them."""
    return Group(*map(_drawn, parts))


def _drawn(part: RenderableType | Sheet) -> RenderableType:
    if isinstance(part, Sheet):
        return table(*part.columns, rows=[[short(cell) for cell in row] for row in part.rows], title=part.title)
    return Text(_visible(part)) if isinstance(part, str) else part


def styled(pieces: Iterable[tuple[str, str]]) -> Text:
    """Texts one after the other, each in its style."""
    return Text.assemble(*((_visible(text), style) for text, style in pieces))


def has_colour() -> bool:
    """Whether standard output shows colours, and the user wants them."""
    return _out.is_terminal and not _out.no_color


def plot_width(*, asked: bool | None) -> int | None:
    """The columns of a plot; None when there is to be none: unasked where no terminal is, or without UTF-8."""
    wanted = _out.is_terminal if asked is None else asked
    return _out.width if wanted and _takes_unicode() else None


def user_name() -> str:
    """Who gives the command, for the audit trail; never the name of what acts without being told."""
    try:
        name = getpass.getuser()
    except (ImportError, KeyError, OSError):  # no such user, as in many containers
        return "person"
    return f"user {name}" if name in MACHINES else name


def read_stdin() -> TextIO:
    """Standard input as UTF-8 text, whatever the locale. Raises OSError when it is closed."""
    if sys.stdin is None:
        raise OSError("Standard input is closed. Name a file, or pipe the text in.")
    return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline=None)


def short(text: str) -> str:
    """The beginning of a text that anybody may have written."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _prepare_output() -> None:
    """Make standard output one that takes whatever there is to print."""
    if sys.stdout is None:  # closed, as some schedulers do: nobody wants to read it
        sys.stdout = io.StringIO()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if not _out.width:
        os.environ.pop("COLUMNS", None)  # the help looks there
        _out.width = _err.width = COLUMNS


def _takes_unicode() -> bool:
    return _out.encoding.lower().startswith("utf")


def _visible(text: str) -> str:
    """Control characters, such as a terminal's escape, become a mark; on a pipe texts stay as they are."""
    return text if not sys.stdout.isatty() else _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
