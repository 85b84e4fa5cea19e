"""What is not ``tasks/feedback`` passes ``with_feedback`` byte for byte, chunk by chunk."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bindu.dspy.web.a2a import with_feedback
from bindu.settings import app_settings

MAX = app_settings.dspy.server.max_body
JSON_TYPE = [(b"content-type", b"application/json")]
MENTIONED = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": "tasks/feedback"}).encode()
OURS = json.dumps({"jsonrpc": "2.0", "id": [], "method": "tasks/feedback"}).replace("/", "\\/").encode()


def chunks(*bodies: bytes) -> list[dict[str, Any]]:
    last = len(bodies) - 1
    return [
        {"type": "http.request", "body": body, "more_body": place < last} for place, body in enumerate(bodies or (b"",))
    ]


def through(messages: list[dict[str, Any]], **scope: Any) -> tuple[list[Any], list[Any]]:
    """What the application behind it received, and what the caller was sent."""
    seen: list[Any] = []
    sent: list[Any] = []
    waiting = iter([*messages, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        while (message := await receive())["type"] != "http.disconnect":
            seen.append(message)
            await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": True})

    whole = {"type": "http", "method": "POST", "path": "/", "headers": JSON_TYPE} | scope
    asyncio.run(with_feedback(app)(whole, receive, send))
    if seen:
        assert seen.pop(0) is whole
    return seen, sent


@given(bodies=st.lists(st.binary(max_size=20), min_size=1, max_size=4))
@example(bodies=[b'{"method": "SendMe', b'ssage", "params": {}}'])
@example(bodies=[MENTIONED[:9], b"", MENTIONED[9:]])
@example(bodies=[b"[" * 50_000 + b'"feedback"'])
@example(bodies=[b"[" + OURS + b"]"])
@example(bodies=[OURS[:-1]])
def test_every_other_body_arrives_in_its_own_chunks(bodies: list[bytes]) -> None:
    messages = chunks(*bodies)
    seen, sent = through(messages)
    assert seen == messages
    assert [message["body"] for message in sent] == bodies


@pytest.mark.parametrize(
    "scope",
    [
        {"method": "GET"},
        {"headers": [(b"content-type", b"text/plain")]},
        {"headers": []},
        {"headers": [*JSON_TYPE, (b"content-length", str(MAX + 1).encode())]},
        {"headers": [*JSON_TYPE, (b"content-length", b"many")]},
        {"type": "websocket"},
    ],
)
def test_what_cannot_be_a_call_of_ours_is_not_even_read(scope: dict[str, Any]) -> None:
    messages = chunks(OURS)
    assert through(messages, **scope)[0] == messages


def test_a_body_beyond_the_limit_passes_however_it_is_cut() -> None:
    padding = b" " * (MAX // 2)
    messages = chunks(OURS, padding, padding, b" ", b" ")
    assert through(messages)[0] == messages
    whole = chunks(OURS + padding * 2)
    assert through(whole)[0] == whole


def test_no_more_is_held_back_than_the_limit() -> None:
    taken: list[Any] = []
    at_start: list[int] = []

    async def receive() -> Any:
        taken.append({"type": "http.request", "body": b" " * (MAX // 4), "more_body": len(taken) < 40})
        return taken[-1]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        at_start.append(len(taken))

    asyncio.run(with_feedback(app)({"type": "http", "method": "POST", "headers": JSON_TYPE}, receive, through))
    assert at_start == [5]


def test_a_caller_who_goes_away_is_handed_on() -> None:
    begun = chunks(OURS, b"")[:1]
    assert through(begun) == (begun, [{"type": "http.response.body", "body": OURS, "more_body": True}])


def test_a_call_of_ours_is_answered_here_however_its_slash_is_written() -> None:
    seen, sent = through(chunks(OURS[:30], OURS[30:]))
    assert seen == []
    assert json.loads(sent[1]["body"])["error"]["code"] == -32600


def test_the_sdk_is_needed_for_cards_alone() -> None:
    code = "import sys; sys.modules['a2a'] = None; from bindu.dspy.web.a2a import feedback_routes; feedback_routes()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
