"""What all commands share: running a service, printing its result, turning an error into an exit code."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Annotated, Any, NoReturn, TypeVar
from uuid import UUID

import typer
from rich.console import Console

from bindu.dspy import errors
from bindu.dspy.storage import close_storage
from bindu.settings import SettingsError
from bindu.utils import loop

__all__ = ["REFUSED", "AgentOption", "DryRunOption", "JsonOption", "emit", "run"]

USAGE, REFUSED, CONFIGURATION, BUDGET, INTERRUPTED = 2, 3, 4, 5, 130

_EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.ExperimentActiveError, REFUSED),
    (errors.TrainingRefusedError, REFUSED),
    (errors.BudgetExceededError, BUDGET),
    (errors.NoActivePromptError, CONFIGURATION),
    (errors.SchemaError, CONFIGURATION),
    (errors.StorageNotConfiguredError, CONFIGURATION),
    (ConnectionError, CONFIGURATION),
    (SettingsError, CONFIGURATION),
    (errors.StaleRolloutError, REFUSED),
    (errors.ImportRefusedError, USAGE),
    (errors.InvalidFeedbackError, USAGE),
    (errors.InvalidHistoryError, USAGE),
    (errors.InvalidPromptError, USAGE),
    (errors.UnknownPromptError, USAGE),
    (errors.UnknownRuleError, USAGE),
    (errors.UnknownStrategyError, USAGE),
    (errors.UnknownTaskError, USAGE),
    (errors.UnsupportedOptimizerError, USAGE),
    (OSError, USAGE),  # a file that cannot be read
    (UnicodeDecodeError, USAGE),
)

_TRAINING_PACKAGES = ("dspy", "numpy", "scipy")

AgentOption = Annotated[str | None, typer.Option("--agent", help="Whose prompt; default DSPY__AGENT_ID.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and change nothing.")]

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

T = TypeVar("T")


def run(service: Callable[[], Coroutine[Any, Any, T]], *, refused: int = REFUSED, level: int = logging.WARNING) -> T:
    """Run one service on a loop of its own; an expected error becomes a sentence and its exit code.

    ``refused`` is the exit code when a guard says no, ``level`` the least that is logged to standard error.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("bindu").setLevel(level)

    async def closing() -> T:
        try:
            return await service()
        finally:
            await close_storage()

    try:
        return loop.run(closing())
    except (errors.BinduError, SettingsError, OSError, UnicodeDecodeError) as error:
        _fail(error, refused)
    except ModuleNotFoundError as error:
        if error.name not in _TRAINING_PACKAGES:
            raise
        _err.print(f"error: {error.name} is not installed. Run pip install 'bindu-dspy[train]'.", markup=False)
        raise typer.Exit(CONFIGURATION) from None
    except KeyboardInterrupt:
        _err.print("interrupted", markup=False)
        raise typer.Exit(INTERRUPTED) from None


def _fail(error: BaseException, refused: int) -> NoReturn:
    code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)
    _err.print(f"error: {error}", markup=False)
    raise typer.Exit(refused if code == REFUSED else code)


def emit(value: Any, *, as_json: bool, text: Callable[[], Any]) -> None:
    """Print a result: one JSON object, or what ``text`` renders for people."""
    if as_json:
        sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")
    else:
        rendered = text()
        if isinstance(rendered, str):
            _out.print(rendered, markup=False)
        else:
            _out.print(rendered)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
