"""What is asked of a model, made comparable: the same request on the same occasion is the same call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final

from dspy import lm15

from bindu.dspy.engine.journal import Remembered

__all__ = ["completed", "digest_of", "most_tokens", "occasion", "remembered_of", "response_of"]

_OVERHEAD: Final = 64  # tokens of a request besides its text, at most

_occasion: ContextVar[int | str | None] = ContextVar("bindu_occasion", default=None)


@contextmanager
def occasion(name: int | str | None) -> Iterator[None]:
    """Ask anew inside: requests are alike only within an occasion, and what is alike is asked once.

    An occasion within another is one of that other's; None is none of its own.
    """
    around = _occasion.get()
    inside = around if name is None else name if around is None else f"{around}\x1f{name}"
    token = _occasion.set(inside)
    try:
        yield
    finally:
        _occasion.reset(token)


def completed(request: lm15.Request, *, seed: int, most: int) -> lm15.Request:
    """The request with what every call of a run has: at most so many output tokens, and a seed of its occasion.

    Models that take a seed sample alike again what is asked again, and anew on another occasion. Nothing is written
    to a provider's prompt cache, which bills by rules of its own.
    """
    config = request.config
    if config.seed is None:
        name = blake2b(f"{seed}\x1f{_occasion.get()}".encode("utf-8", "surrogatepass"), digest_size=4)
        seed = int.from_bytes(name.digest()) >> 1
    else:
        seed = config.seed
    tokens = min(config.max_tokens or most, most)
    return replace(request, config=replace(config, max_tokens=tokens, seed=seed, cache=None))


def digest_of(speaker: str, request: lm15.Request) -> str:
    """The name of a completed request to somebody, of this occasion."""
    said = repr((speaker, request, _occasion.get()))
    return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def most_tokens(request: lm15.Request) -> tuple[int, int]:
    """Input and output tokens of a completed request, at most: no tokenizer makes more tokens than there are bytes."""
    said = repr((request.system, request.messages, request.tools, request.config.response_format))
    return _OVERHEAD + len(said.encode("utf-8", "surrogatepass")), request.config.max_tokens or 0


def remembered_of(response: lm15.Response) -> Remembered:
    """What is kept of an answer; tokens that nobody told of are None.

    Gemini and xAI leave out of their output tokens what the model thought, which is billed and in their total. LiteLLM
    makes zeros of what a server did not say.
    """
    usage, text = response.usage, (response.text or "").encode("utf-8", "replace").decode()
    read, written = usage.input_tokens or None, usage.output_tokens
    if read is not None and usage.total_tokens is not None:
        written = max(written or 0, usage.total_tokens - read)
    return Remembered(text, read, None if text and not written else written, response.finish_reason)


def response_of(answer: Remembered, model: str) -> lm15.Response:
    """A remembered answer as a model gives it."""
    reason: Any = answer.finish_reason
    return lm15.Response(
        id=None,
        model=model,
        message=lm15.Message.assistant(answer.text),
        finish_reason=reason,
        usage=lm15.Usage(input_tokens=answer.input_tokens, output_tokens=answer.output_tokens),
    )
