"""``bindu demo``: the whole loop once, without a key and without a server."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import SecretStr

from bindu.dspy.cli.output import JsonOption, emit, run
from bindu.settings import app_settings

if TYPE_CHECKING:
    from bindu.dspy.simulation.story import Story

__all__ = ["demo"]


def demo(
    seed: Annotated[int, typer.Option(help="Another seed is another world, with other numbers.")] = 0,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Keep the database up afterwards.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Show the loop on real conversations and on a simulated support desk; touches nothing of yours.

    The demo starts a PostgreSQL of its own in a temporary folder and removes it at the end.

    Example: bindu demo --no-serve --json
    """

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    with tempfile.TemporaryDirectory(prefix="bindu-demo-") as folder:
        url = f"embedded:{folder}/postgres"

        async def service() -> None:
            from bindu.dspy.simulation import story  # noqa: PLC0415 - DSPy loads only where it is needed

            app_settings.storage.postgres_url = SecretStr(url)
            app_settings.dspy.training.runs_folder = f"{folder}/runs"
            told = await story.tell(seed=seed, say=say)
            emit(told, as_json=as_json, text=lambda: _summary(told))
            if serve:
                await _stay(url, say)

        run(service)


def _summary(told: Story) -> str:
    promoted = "was promoted" if told.promoted else "was not promoted"
    return (
        f"True quality rose from {told.quality_before:.2f} to {told.quality_after:.2f}; the trained prompt {promoted}, "
        f"the worse one was {(told.bad_candidate or 'kept').replace('_', ' ')}. {told.model_calls:,} model calls, "
        f"{told.feedback:,} rated conversations, {told.decisions} decisions, {told.seconds:.0f} seconds."
    )


async def _stay(url: str, say: Callable[[str], None]) -> None:
    say("The database stays up until Ctrl-C. Look around from another terminal:")
    say(f"  STORAGE__POSTGRES_URL={url} bindu status --agent support-desk")
    say(f"  STORAGE__POSTGRES_URL={url} bindu prompt list --agent support-desk")
    await asyncio.Event().wait()
