"""The doctor's look at the server's port: ours, another program, or nobody."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic

import pytest

from bindu.dspy.cli.checkup import machine
from bindu.dspy.cli.checkup.machine import server_finding
from bindu.settings import app_settings


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port of loopback that says this to whoever asks first."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def once() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)

        thread = Thread(target=once)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "state", "text"),
    [
        (http("200 OK", b'{"status": "ready", "snapshot_age_seconds": {"a": 2.0}}'), "ok", "read 2 s ago"),
        (http("200 OK", b'{"status": "ready"}'), "ok", "It is ready"),
        (http("503 No", b'{"status": "not ready"}'), "warning", "is not ready"),
        (http("404 No", b"<h1>"), "note", "Another program"),
        (http("200 OK", b"<h1>"), "note", "Another program"),
        (http("200 OK", b"[]"), "note", "Another program"),
        (http("200 OK", b'{"status": "ready", "snapshot_age_seconds": {"a": "old"}}'), "note", "Another program"),
        (http("200 OK", b'{"status": "ready", "snapshot_age_seconds": {"a": 1%s}}' % (b"0" * 400)), "note", "Another"),
        (http("200 OK", b"[" * 100_000), "note", "Another program"),
        (b"SSH-2.0-nobody\r\n", "note", "Another program"),
    ],
)
def test_whoever_answers_is_told_apart(monkeypatch: pytest.MonkeyPatch, answer: bytes, state: str, text: str) -> None:
    with answering(answer) as port:
        monkeypatch.setattr(app_settings.dspy.server, "port", port)
        found = server_finding()
    assert found.state == state
    assert text in found.text


def test_whoever_answers_a_byte_at_a_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    enough = Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            client, _ = server.accept()
            with client, suppress(OSError):
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not enough.wait(0.05):
                    client.sendall(b" ")

        monkeypatch.setattr(machine, "SECOND", 0.3)
        monkeypatch.setattr(app_settings.dspy.server, "port", server.getsockname()[1])
        thread = Thread(target=drip)
        thread.start()
        began = monotonic()
        found = server_finding()
        took = monotonic() - began
        enough.set()
        thread.join()
    assert "does not answer within" in found.text
    assert took < 2


def test_nobody_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(app_settings.dspy.server, "port", server.getsockname()[1])
    assert server_finding().text.startswith("Nobody answers")
