"""Models for the engine's tests: scripted ones in the process, and a provider on loopback that bills as real ones."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Literal

import dspy
from dspy import lm15
from dspy.utils.exceptions import LMError

from bindu.dspy.engine import CountingEngine, InnerEngine
from bindu.dspy.engine.budget import Budget
from bindu.dspy.engine.journal import Journal
from bindu.dspy.engine.pricing import Price
from bindu.dspy.engine.provider import ProviderEngine
from bindu.dspy.engine.speakers import ROLES, Speaker
from bindu.dspy.errors import BinduError
from faults import Killed

MODEL: Final = "openai/tiny"
PRICE: Final = (1.0, 2.0)  # dollars per million tokens, in and out

Deed = Literal[
    "answer", "no_usage", "half_usage", "malformed", "nonsense", "half", "hang_up", "late", "broken", "busy", "refused",
    "filtered",
]  # fmt: skip
FREE: Final = ("busy", "refused")  # what a provider does not charge for
_MARKUP: Final = 8  # tokens of a message besides its text


def answer(text: str, *, finish_reason: Any = "stop", usage: lm15.Usage | None = None) -> lm15.Response:
    usage = lm15.Usage(input_tokens=3, output_tokens=1) if usage is None else usage
    message = lm15.Message.assistant(text)
    return lm15.Response(id=None, model="scripted", message=message, finish_reason=finish_reason, usage=usage)


def request(text: str = "Hello?", *, model: str = "scripted/a", **config: Any) -> lm15.Request:
    return lm15.Request(model=model, messages=(lm15.Message.user(text),), config=lm15.Config(**config))


def text_of(asked: lm15.Request) -> str:
    return asked.messages[-1].text or ""


class Script:
    """A model that does what the next line of its script says; the last line repeats."""

    def __init__(self, *lines: str | BaseException | lm15.Response) -> None:
        self.lines = list(lines)
        self.asked: list[lm15.Request] = []
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        return len(self.asked)

    def complete(self, request: lm15.Request) -> lm15.Response:
        with self._lock:
            self.asked.append(request)
            line = self.lines.pop(0) if len(self.lines) > 1 else self.lines[0]
        if isinstance(line, BaseException):
            raise line
        return answer(line) if isinstance(line, str) else line


def scripted(
    inner: InnerEngine, *, max_calls: int = 1_000, price: Price | None = None, **options: Any
) -> CountingEngine:
    """An engine in which one model, scripted/a, plays every role."""
    speaker = Speaker("scripted/a", inner, price)
    options = {"budget": Budget(max_calls=max_calls), "attempts": 3, "backoff": 0.001, **options}
    return CountingEngine(dict.fromkeys(ROLES, speaker), **options)


def asked_by_many(engine: CountingEngine, texts: Iterable[str], *, threads: int) -> dict[str, str]:
    """The answers that came, by the question, whatever else happened to the engine."""

    def ask(text: str) -> tuple[str, str | None]:
        try:
            return text, engine.complete("agent", request(text, model=engine.speaker("agent").model)).text
        except (BinduError, LMError, lm15.LM15Error, ConnectionError, TimeoutError, Killed):
            return text, None

    with ThreadPoolExecutor(threads) as pool:
        return {text: said for text, said in pool.map(ask, texts) if said is not None}


class Mortal(ProviderEngine):
    """A client whose process dies at its n-th call, and with it every call that is on its way."""

    def __init__(self, provider: Provider, *, dies_at: int = sys.maxsize, timeout: float | None = None) -> None:
        lm = dspy.LM(MODEL, api_base=provider.url, api_key="k", cache=False, num_retries=0, timeout=timeout)
        super().__init__(MODEL, lm=lm)
        self.sent = 0
        self._dies_at = dies_at
        self._lock = threading.Lock()

    def complete(self, request: lm15.Request) -> lm15.Response:
        with self._lock:
            if self.sent >= self._dies_at:
                raise Killed
            self.sent += 1
        try:
            return super().complete(request)
        finally:
            if self.sent >= self._dies_at:
                raise Killed


def served(provider: Provider, *, max_cost: float | None = None, **options: Any) -> CountingEngine:
    """An engine of which that provider plays every role, at its price; ``journal`` is what went before."""
    inner = options.pop("inner", None) or Mortal(provider, timeout=options.pop("timeout", None))
    speaker = Speaker(MODEL, inner, Price(*(dollars / 1e6 for dollars in PRICE)))
    journal = options.pop("journal", None) or Journal()
    budget = Budget(
        max_calls=options.pop("max_calls", 100_000),
        max_cost=max_cost,
        max_minutes=options.pop("max_minutes", None),
        calls=journal.calls.total(),
        cost=journal.cost,
    )
    options = {"max_output_tokens": 64, "backoff": 0.001, **options}
    return CountingEngine(dict.fromkeys(ROLES, speaker), budget=budget, journal=journal, **options)


class Provider:
    """An OpenAI-compatible server on loopback whose n-th request (from 0) fares as ``deed`` says.

    ``dollars`` is its bill at the dearest that a tokenizer could make it, a byte a token: of every request that it
    worked on, those that came to nothing included, with as many tokens as were allowed unless it tells how many.
    """

    def __init__(
        self,
        deed: Callable[[int], Deed] = lambda number: "answer",
        *,
        says: Callable[[dict[str, Any]], str] = lambda body: "ready",
        retry_after: str = "0",
    ) -> None:
        self.deed = deed
        self.says = says
        self.retry_after = retry_after
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.arrivals: list[float] = []  # by time.monotonic
        self.came = threading.Semaphore(0)  # once for each request
        self.goes_on = threading.Event()  # what the late ones wait for
        self.dollars = 0.0
        self.defects: list[BaseException | None] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Provider:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.goes_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()  # waits for every answer that is being given
        assert not self.defects

    def take(self, body: dict[str, Any], key: str | None) -> tuple[Deed, str]:
        """Note a request, and charge for it."""
        said = self.says(body)
        with self._lock:
            deed = self.deed(len(self.bodies))
            self.bodies.append(body)
            self.keys.append(key)
            self.arrivals.append(time.monotonic())
            if deed not in FREE:
                most = body["max_completion_tokens"]
                written = min(len(said.encode()), most) if deed in ("answer", "filtered") else most
                self.dollars += (read_of(body) * PRICE[0] + written * PRICE[1]) / 1e6
        self.came.release()
        return deed, said


def read_of(body: dict[str, Any]) -> int:
    return sum(_MARKUP + len(message["content"].encode()) for message in body["messages"])


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128
    provider: Provider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may leave; anything else is a defect of this module."""
        if not isinstance(sys.exception(), ConnectionError):
            self.provider.defects.append(sys.exception())


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        deed, said = self.server.provider.take(body, self.headers.get("Authorization"))
        if deed == "hang_up":
            return
        if deed == "late":
            self.server.provider.goes_on.wait(30)
        status = _STATUSES.get(deed, 200)
        if status != 200:
            self._send(status, {"error": {"message": deed, "code": None}}, told=status == 429)
        elif deed in _TORN:
            self._send(200, _TORN[deed], promised=100 if deed == "half" else 0)
        else:
            self._send(200, _reply(deed, body, said))

    def _send(self, status: int, body: dict[str, Any] | str, *, promised: int = 0, told: bool = False) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(promised or len(data)))
        if told:
            self.send_header("Retry-After", self.server.provider.retry_after)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Quiet."""


_STATUSES: Final[dict[Deed, int]] = {"broken": 500, "busy": 429, "refused": 400}
_TORN: Final[dict[Deed, str]] = {"malformed": '{"id": "chatcmpl-1", "choices": [', "half": '{"id": '}


def _reply(deed: Deed, body: dict[str, Any], said: str) -> dict[str, Any]:
    read, written = read_of(body), min(len(said.encode()), body["max_completion_tokens"])
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    if deed == "half_usage":
        usage = {"prompt_tokens": read}
    message = {"role": "assistant", "content": said}
    choice = {"index": 0, "message": message, "finish_reason": "content_filter" if deed == "filtered" else "stop"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": "none today" if deed == "nonsense" else [choice],
        **({} if deed == "no_usage" else {"usage": usage}),
    }
