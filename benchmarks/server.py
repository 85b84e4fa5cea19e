"""What `bindu serve` takes on two cores, this client included, and what its proxy adds.

``python benchmarks/server.py [SECONDS]``. Rows: selections and single votes at 1,000 a second in an open loop, tasks
in batches of 500, all durable; then the same answer of a model asked directly and through the proxy, in turns. The peer
is a bare Starlette route on the same uvicorn in the same run. Exit code 1 when a bar is missed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from http_client import Body, Load, closed_loop, connect, open_loop
from machine import machine

from bindu.utils import loop

RATE = 1_000
P99_MS, TASKS_A_SECOND, ADDED_MS = 25.0, 5_000.0, 2.0
BATCH, BATCHES = 500, 60
TASKS = 20_000
TALK = [{"role": "user", "content": "q" * 1_000}, {"role": "assistant", "content": "a" * 1_000}]
PROMPT = "You are a friendly support agent."
PEER = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

MESSAGE = {"role": "assistant", "content": "It arrives on Friday. " * 20}
numbers = iter(range(10**9))

async def bare(request):
    await request.body()
    return JSONResponse({"prompt": {"id": 1, "prompt_text": "You are a friendly support agent."}})

async def model(request):
    asked = await request.json()
    number = next(numbers)
    if asked.get("stream"):
        def events():
            for place in range(20):
                delta = {"index": 0, "delta": {"content": "It arrives on Friday. "}, "finish_reason": None}
                yield b'data: {"id":"answer-%d","choices":[{"index":0,"delta":{"content":"Friday. "}}]}\\n\\n' % number
            yield b'data: {"id":"answer-%d","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\\n\\n' % number
            yield b"data: [DONE]\\n\\n"
        async def stream():
            for event in events():
                yield event
        return StreamingResponse(stream(), media_type="text/event-stream")
    choice = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
    return JSONResponse({"id": f"answer-{number}", "choices": [choice], "usage": {"total_tokens": 100}})

app = Starlette(routes=[Route("/v1/chat/completions", model, methods=["POST"]),
                        Route("/bare", bare, methods=["POST"])])
config = uvicorn.Config(app, port=int(sys.argv[1]), log_config=None, access_log=False)
uvicorn.Server(config).run()
"""


@contextmanager
def started(command: list[str], url: str, **environment: str) -> Iterator[str]:
    """A server as a process of its own, once it accepts connections."""
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                asyncio.run(connect(url))
            except OSError:
                time.sleep(0.05)
            else:
                break
        yield url
    finally:
        process.terminate()
        process.wait(60)


def row(name: str, load: Load, peer: Load | None) -> float:
    p50, p99 = load.quantile(0.5) * 1_000, load.quantile(0.99) * 1_000
    ratio = "" if peer is None else f"  {p99 / (peer.quantile(0.99) * 1_000):5.1f} x the bare route's p99"
    print(f"{name:24} p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  failed {load.failed}{ratio}  bar p99 {P99_MS:.0f} ms")
    return p99 if not load.failed else float("inf")


async def stored_tasks(url: str) -> list[str]:
    connection, ids = await connect(url), []
    for begin in range(0, TASKS, BATCH):
        batch = [{"history": TALK, "context_id": f"c-{begin + number}"} for number in range(BATCH)]
        _, answer = await connection.ask("/v1/tasks", json.dumps(batch).encode())
        ids += json.loads(answer)["ids"]
    return ids


def votes(ids: list[str]) -> Body:
    def body(number: int) -> tuple[str, bytes]:
        vote = {"rating": 1 + number % 5, "rater_id": f"user-{number}"}
        return f"/v1/tasks/{ids[number * 7919 % len(ids)]}/feedback", json.dumps(vote).encode()

    return body


async def api(url: str, peer_url: str, seconds: float) -> dict[str, float]:
    ids = await stored_tasks(url)
    bare = await open_loop(peer_url, RATE, seconds, lambda _: ("/bare", b"{}"))
    row("bare route, 1,000/s", bare, None)
    selected = await open_loop(url, RATE, seconds, lambda n: ("/v1/select", b'{"unit_id":"c-%d"}' % n))
    rated = await open_loop(url, RATE, seconds, votes(ids))
    figures = {
        "select p99 ms": row("select, 1,000/s", selected, bare),
        "feedback p99 ms": row("feedback, 1,000/s", rated, bare),
    }
    batch = json.dumps([{"history": TALK}] * BATCH).encode()
    taken, load = await closed_loop(url, 2, [("/v1/tasks", batch)] * BATCHES)
    figures["tasks a second"] = 0.0 if load.failed else BATCH * BATCHES / taken
    print(f"{'tasks, batches of 500':24} {figures['tasks a second']:8,.0f} a second  bar {TASKS_A_SECOND:,.0f}")
    return figures


async def added(url: str, peer_url: str, *, stream: bool, rounds: int = 1_000) -> float:
    """Milliseconds that the proxy adds at the median: to the last byte, in turns with asking directly."""
    body = {"model": "m", "stream": stream, "messages": [{"role": "system", "content": PROMPT}]}
    direct, proxied = await connect(peer_url), await connect(url)
    times: dict[str, list[float]] = {"direct": [], "proxied": []}
    for number in range(rounds):
        asked = body | {"messages": [*body["messages"], {"role": "user", "content": f"question {number}"}]}  # type: ignore[misc]
        turns = [("direct", direct), ("proxied", proxied)]
        random.shuffle(turns)
        for name, connection in turns:
            began = time.perf_counter()
            status, _ = await connection.ask("/v1/chat/completions", json.dumps(asked).encode())
            assert status == 200, status
            times[name].append((time.perf_counter() - began) * 1_000)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    what = "streamed" if stream else "whole"
    more = medians["proxied"] - medians["direct"]
    print(
        f"{f'proxy, {what}':24} direct {medians['direct']:.2f} ms, through it {medians['proxied']:.2f} ms: "
        f"{more:+.2f} ms  bar {ADDED_MS} ms"
    )
    return more


async def measure(url: str, peer_url: str, seconds: float) -> int:
    figures = await api(url, peer_url, seconds)
    more = [await added(url, peer_url, stream=stream) for stream in (False, True)]
    missed = [name for name in ("select p99 ms", "feedback p99 ms") if figures[name] > P99_MS]
    missed += ["tasks a second"] if figures["tasks a second"] < TASKS_A_SECOND else []
    missed += ["proxy"] if max(more) > ADDED_MS else []
    print(f"missed: {', '.join(missed)}" if missed else "all bars met")
    return 1 if missed else 0


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    print(machine())
    url, peer_url = "http://127.0.0.1:18431", "http://127.0.0.1:18432"
    bindu = str(Path(sys.executable).with_name("bindu"))
    with ExitStack() as end:
        folder = end.enter_context(tempfile.TemporaryDirectory())
        environment = {
            "STORAGE__POSTGRES_URL": f"embedded:{folder}/postgres",
            "DSPY__PROXY__UPSTREAM": f"{peer_url}/v1",
            "DSPY__PROXY__SPOOL_FOLDER": f"{folder}/spool",
        }
        add = [bindu, "prompt", "add"]
        subprocess.run(
            add, env=os.environ | environment, input=PROMPT, text=True, check=True, stdout=subprocess.DEVNULL
        )
        end.enter_context(started([sys.executable, "-c", PEER, "18432"], peer_url))
        end.enter_context(started([bindu, "serve", "--port", "18431"], url, **environment))
        return loop.run(measure(url, peer_url, seconds))


if __name__ == "__main__":
    sys.exit(main())
