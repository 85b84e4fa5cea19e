"""Bindu itself, with `bindu serve` beside it: both distributions own the package `bindu`, so HTTP is between them."""

import json
import logging
import os
from urllib.request import Request, urlopen

from bindu.penguin.bindufy import bindufy  # Bindu's, in Bindu's environment: ours is not installed there

SIDECAR = os.environ.get("BINDU_DSPY_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("BINDU_DSPY_KEY", "")  # not needed on loopback
DEFAULT = "You are a friendly support agent of an online shop."


def call(verb: str, body: dict) -> dict:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {KEY}"} if KEY else {})
    with urlopen(Request(f"{SIDECAR}/v1/{verb}", json.dumps(body).encode(), headers), timeout=2) as response:  # noqa: S310
        return json.load(response)


def model(prompt: str, messages: list[dict]) -> str:
    """Your agent: any framework, any model."""
    return f"{prompt} You asked: {messages[-1]['parts'][0]['text']}"


def handler(messages: list[dict]) -> str:
    conversation = messages[-1]["context_id"]  # which keeps its prompt
    try:
        served = call("select", {"agent": "support", "default": DEFAULT, "unit_id": conversation})["prompt"]
    except OSError as error:  # the sidecar is away: answer all the same
        logging.warning("Answered with the default prompt: %s", error)
        return model(DEFAULT, messages)
    answer = model(served["prompt_text"], messages)
    history = [*messages, {"role": "assistant", "content": answer}]
    try:
        call("tasks", {"history": history, "prompt": served, "context_id": conversation})
    except OSError as error:  # the database is away, say: the user has an answer all the same
        logging.warning("The answer was not recorded: %s", error)
    return answer


if __name__ == "__main__":
    bindufy(
        {
            "author": "you@example.com",
            "name": "support",
            "description": "Answers customers.",
            "deployment": {"url": "http://localhost:3773", "expose": True},
        },
        handler,
    )
