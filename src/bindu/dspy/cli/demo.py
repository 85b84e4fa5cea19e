"""``bindu demo``: the whole loop once, without a key and without a server; then a dashboard to watch it go on."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from pydantic import SecretStr

from bindu.dspy.cli.output import INTERRUPTED, JsonOption, emit, run
from bindu.dspy.postgres.embedded import wait_until_stopped
from bindu.settings import DspySettings, ProxySettings, StorageSettings, TrainingSettings, app_settings

if TYPE_CHECKING:
    from bindu.dspy.simulation.story import Story

__all__ = ["demo"]

_HOST: Final = "127.0.0.1"
_PORT: Final = 8080


def demo(
    seed: Annotated[int, typer.Option(help="Another seed is another world, with other numbers.")] = 0,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Show the dashboard until Ctrl-C.")] = True,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default 8080 if that is free; 0 takes a free one.")
    ] = None,
    hour_seconds: Annotated[
        float, typer.Option(min=0.01, max=3600, help="How long a simulated hour takes while you watch.")
    ] = 3.0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the dashboard in your browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the loop on real conversations and on a simulated support desk; touches nothing of yours.

    A dashboard shows what happened, and while you watch another candidate is on trial, whose answers you may rate.
    The demo starts a PostgreSQL of its own in a temporary folder and removes it at the end. Your settings of agents,
    rules and servers do not change it.

    Example: bindu demo --no-serve --json
    """
    watching = _Watching(port, hour_seconds, open_browser) if serve else None
    with _own_folder() as folder:
        if run(lambda: _play(folder, seed, watching, as_json=as_json)) == signal.SIGINT:
            sys.stderr.write("interrupted\n")
            raise typer.Exit(INTERRUPTED)


@dataclass(frozen=True, slots=True)
class _Watching:
    port: int | None
    hour_seconds: float
    open_browser: bool


async def _play(folder: str, seed: int, watching: _Watching | None, *, as_json: bool) -> signal.Signals | None:
    from bindu.dspy.simulation import story  # noqa: PLC0415 - DSPy loads only where it is needed

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    def show() -> None:
        emit(told, as_json=as_json, text=lambda: _summary(told))

    _end_with_the_terminal()
    if watching is not None:
        _port(watching.port)
    url = _use_defaults(folder)
    stage = await story.open_stage(seed)
    told = await story.tell(stage, say=say)
    if watching is None:
        show()
        return None
    from bindu.dspy.simulation.live import serve_live  # noqa: PLC0415 - an extra

    def started(address: str) -> None:
        told.dashboard = f"{address}/dashboard?agent={stage.desk.agent_id}"
        show()
        say(f"Act three: the desk goes on, an hour every {watching.hour_seconds:g} s, for two trials. Ctrl-C ends it.")
        say(f"  watch:  {told.dashboard}")
        say(f"  rate:   {address}/chat")
        say(f"  look:   STORAGE__POSTGRES_URL={url} {sys.argv[0]} prompt list --agent {stage.desk.agent_id}")
        if watching.open_browser:  # in a thread, as some browsers are waited for until they are closed
            threading.Thread(target=webbrowser.open, args=(told.dashboard,), daemon=True).start()

    port = _port(watching.port)
    return await serve_live(stage, port=port, hour_seconds=watching.hour_seconds, say=say, started=started)


def _end_with_the_terminal() -> None:
    """A window that is closed ends the demo like SIGTERM, and the folder goes with it."""
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, signal.raise_signal, signal.SIGTERM)


def _port(wanted: int | None) -> int:
    """Where to serve: there, or where there is place. Raises OSError for a port that somebody else has."""
    try:
        socket.create_server((_HOST, _PORT if wanted is None else wanted)).close()
    except OSError as error:
        if wanted is None:
            return 0
        why = f"Cannot listen on {_HOST}:{wanted} ({error.strerror}). Leave --port out to take another."
        raise OSError(why) from None
    return _PORT if wanted is None else wanted


def _use_defaults(folder: str) -> str:
    """Settle everything by our defaults, and in that folder; returns the URL of its database."""
    url = f"embedded:{folder}/postgres"
    training, proxy = TrainingSettings(runs_folder=f"{folder}/runs"), ProxySettings(spool_folder=f"{folder}/spool")
    app_settings.storage = StorageSettings(postgres_url=SecretStr(url))
    app_settings.dspy = DspySettings(training=training, proxy=proxy)
    return url


def _summary(told: Story) -> str:
    promoted = "was promoted" if told.promoted else "was not promoted"
    return (
        f"True quality rose from {told.quality_before:.2f} to {told.quality_after:.2f}; the trained prompt {promoted}, "
        f"the worse one was {(told.bad_candidate or 'kept').replace('_', ' ')}. {told.model_calls:,} model calls, "
        f"{told.feedback:,} rated conversations, {told.decisions} decisions, {told.seconds:.0f} seconds."
    )


@contextmanager
def _own_folder() -> Iterator[str]:
    """A temporary folder that is gone afterwards, however impatient somebody gets while it is removed."""
    folder = tempfile.mkdtemp(prefix="bindu-demo-")
    try:
        yield folder
    finally:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        wait_until_stopped(Path(folder, "postgres"))
        shutil.rmtree(folder)
        for number, handler in before.items():
            signal.signal(number, handler)
