"""``python -m bindu.dspy.simulation``: the simulated model of the support desk as a server, until Ctrl-C."""

from __future__ import annotations

import argparse
import socket
import sys
from typing import Final

import uvicorn

from bindu.dspy.simulation.server import MODEL, SimulatedServer, create_app

__all__ = ["main"]

_HOST: Final = "127.0.0.1"
_UNREACHABLE: Final = 4
_INTERRUPTED: Final = 130


def main() -> None:
    """Listen on loopback only; exit with 4 when that cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m bindu.dspy.simulation", description="A simulated model as an OpenAI-compatible server."
    )
    parser.add_argument("--port", type=int, default=8181, metavar="N", help="8181; 0 takes a free one")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another model")
    given = parser.parse_args()
    try:
        listening = socket.create_server((_HOST, given.port))
    except (OSError, OverflowError):
        sys.stderr.write(f"error: Port {given.port} of {_HOST} cannot be had. Name another with --port.\n")
        raise SystemExit(_UNREACHABLE) from None
    sys.stdout.write(f"The simulated model '{MODEL}' listens on http://{_HOST}:{listening.getsockname()[1]}/v1\n")
    sys.stdout.flush()
    config = uvicorn.Config(create_app(SimulatedServer(given.seed)), lifespan="off", ws="none", log_level="warning")
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None


if __name__ == "__main__":
    main()
