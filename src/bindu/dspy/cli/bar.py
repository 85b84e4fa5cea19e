"""A training run's progress on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bindu.dspy.models import TrainingRun

__all__ = ["bar"]


@contextmanager
def bar() -> Iterator[Callable[[TrainingRun], None] | None]:
    """What shows a run's record as a bar on standard error; None where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[cost]}"), console=console, transient=True) as shown:
        task = shown.add_task("training", total=None, cost="")

        def watch(run: TrainingRun) -> None:
            told = run.details.get("progress", {})
            shown.update(
                task,
                description=run.step or "training",
                completed=told.get("calls_done", run.calls),
                total=told.get("calls_expected"),
                cost=f"${run.cost:.2f}" if run.cost else "",
            )

        yield watch
