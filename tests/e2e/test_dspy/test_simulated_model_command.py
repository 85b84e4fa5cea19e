"""``python -m bindu.dspy.simulation``: the model that the tutorial talks to."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

START = [sys.executable, "-m", "bindu.dspy.simulation", "--port"]


def test_it_says_where_it_listens_answers_and_ends_by_ctrl_c() -> None:
    model = subprocess.Popen([*START, "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert model.stdout is not None
    url = model.stdout.readline().split()[-1]
    asked = {"model": "simulated/desk", "messages": [{"role": "user", "content": "Where is my parcel?"}]}
    with urllib.request.urlopen(f"{url}/chat/completions", json.dumps(asked).encode(), timeout=30) as answer:
        assert json.load(answer)["choices"][0]["message"]["content"]
    model.send_signal(signal.SIGINT)
    assert model.communicate(timeout=30) == ("", "")
    assert model.returncode == 130


@pytest.mark.parametrize("port", ["taken", "99999"])
def test_a_port_that_cannot_be_had_is_a_sentence(port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        wanted = str(other.getsockname()[1]) if port == "taken" else port
        done = subprocess.run([*START, wanted], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"error: Port {wanted} of 127.0.0.1 cannot be had. Name another with --port.\n"
