"""How a command's process ends: nothing that still runs in the background changes its exit code or its output."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMAND = """
import atexit, sys, threading, time
import typer
from bindu.dspy.cli.output import start

atexit.register(print, "taken down")
program = typer.Typer(pretty_exceptions_enable=False)

@program.command()
def end(code: int, waiting: bool = False) -> None:
    if waiting:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    sys.stdout.write("result ")
    raise typer.Exit(code)

start(program)
"""


IMPATIENT = """
import os, signal, sys

class Person:
    def find_spec(self, name, path=None, target=None):
        if name == "bindu.dspy.cli.canary":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Person())
from bindu.dspy.cli.app import main
main()
"""


def ends(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("code", [0, 3, 130])
def test_a_command_ends_as_python_does(code: int) -> None:
    assert ends(str(code)) == (code, "result taken down\n")


@pytest.mark.parametrize("code", [0, 3, 130])
def test_a_thread_that_waits_for_a_model_ends_with_the_process_unwoken(code: int) -> None:
    assert ends(str(code), "--waiting") == (code, "result ")


def test_ctrl_c_while_the_program_loads_is_one_word() -> None:
    done = subprocess.run([sys.executable, "-c", IMPATIENT], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
