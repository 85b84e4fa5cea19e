"""The tutorial, done as it is printed, ends in a promoted prompt."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

TUTORIAL = (Path(__file__).parents[3] / "docs/tutorial/first-promotion.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(bash|console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"Save this as `(\S+)`")
PATIENCE = 30.0  # seconds until a server answers


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Reader:
    """Somebody who does what the tutorial says, in an empty folder, on ports that are free on this machine."""

    def __init__(self, folder: Path, terminals: ExitStack) -> None:
        self.folder = folder
        self.terminals = terminals
        self.ports = {"8181": str(free_port()), "8080": str(free_port())}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {"PATH": path, "HOME": str(folder), "NO_COLOR": "1"}
        self.printed = ""

    def read(self, text: str) -> None:
        for port, free in self.ports.items():
            text = text.replace(port, free)
        end = 0
        for block in BLOCK.finditer(text):
            kind, body = block.groups()
            if kind == "python":
                [name] = FILE.findall(text[end : block.start()])
                (self.folder / name).write_text(body, encoding="utf-8")
            elif kind == "bash":
                self.printed = self.run(body)
            else:
                self.terminals.enter_context(self.terminal(body.removeprefix("$ ").strip()))
            end = block.end()

    def run(self, script: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def terminal(self, command: str) -> Iterator[None]:
        """A second one, in which a server runs; ended as by Ctrl-C."""
        server = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment)
        try:
            self.wait(command.rpartition(" ")[2], server)
            yield
        finally:
            server.terminate()
            server.wait(PATIENCE)

    def wait(self, port: str, server: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(port))).close()
            except ConnectionRefusedError:
                assert server.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            else:
                return

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['8080']}{path}", timeout=PATIENCE) as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with ExitStack() as terminals:
        someone = Reader(tmp_path_factory.mktemp("my-agent"), terminals)
        someone.read(TUTORIAL)
        yield someone


def test_it_ends_in_a_promoted_prompt(reader: Reader) -> None:
    assert "Prompt 2 answers every request" in reader.printed
    assert "was promoted" in reader.printed
    first, second = json.loads(reader.run("bindu status --json"))["prompts"]
    assert (first["prompt"]["status"], second["prompt"]["status"]) == ("deprecated", "active")
    assert first["metrics"]["average_score"] < 0.4
    assert second["metrics"]["average_score"] > 0.8


def test_its_figures_are_those_that_the_reader_sees(reader: Reader) -> None:
    rated = [one["metrics"]["average_score"] for one in json.loads(reader.run("bindu status --json"))["prompts"]]
    printed = [float(figure) for figure in re.findall(r"about (\.\d\d)\b", TUTORIAL)]
    assert rated == pytest.approx(printed, abs=0.03)


def test_the_dashboard_shows_the_promotion(reader: Reader) -> None:
    page = reader.page("/dashboard")
    assert "Prompt 2 answers every request" in page
    assert "was promoted" in page
    assert "Candidate 2 has won" in page


def test_the_simulated_model_serves_this_machine_alone(reader: Reader) -> None:
    port = int(reader.ports["8181"])
    listening = Path("/proc/net/tcp").read_text(encoding="ascii").split()
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening
