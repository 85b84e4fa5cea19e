"""``tasks/feedback`` of A2A: a declared extension of any A2A server, and a route of its own for ``bindu serve``.

The JSON-RPC call is Bindu's: ``{taskId, feedback, rating, metadata}`` gives ``{message, task_id}``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bindu.dspy.arguments import shown
from bindu.dspy.collector import Opinion, read_feedback, store_feedback
from bindu.dspy.errors import BinduError, InvalidArgumentError, InvalidFeedbackError, UnknownTaskError
from bindu.dspy.feedback import VOTES
from bindu.dspy.models import JsonObject
from bindu.dspy.recorder import Recorder
from bindu.dspy.storage import agent_named
from bindu.dspy.web.bodies import read_body
from bindu.dspy.web.labels import LabelledRoute
from bindu.dspy.web.problems import RETRY_SECONDS, Problem
from bindu.dspy.web.votes import store_vote
from bindu.settings import app_settings
from bindu.utils.logging import get_logger

if TYPE_CHECKING:
    from a2a.types import AgentExtension

__all__ = ["FEEDBACK_EXTENSION", "FEEDBACK_METHOD", "feedback_extension", "feedback_routes", "with_feedback"]

FEEDBACK_METHOD: Final = "tasks/feedback"
FEEDBACK_EXTENSION: Final = "urn:bindu-dspy:a2a:feedback:v1"

PARSE_ERROR, INVALID_REQUEST, UNKNOWN_METHOD, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
TASK_NOT_FOUND = -32001

Authorise = Callable[[Request, str], Awaitable[None]]

_ACTIVATION = ("A2A-Extensions", "X-A2A-Extensions")  # since 1.0, before
_STORED = "Feedback submitted successfully"  # what Bindu says
_AWAY = f"The feedback could not be stored, and nothing of it was. Send it again in {RETRY_SECONDS} seconds."
_NOT_JSON = "Send one JSON-RPC request as application/json."
_RETRY = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{RETRY_SECONDS}s"}]

_log = get_logger("bindu.dspy.web.a2a")


def feedback_extension(url: str | None = None) -> AgentExtension:
    """What an agent's card declares, among ``capabilities.extensions``. ``url`` if feedback goes elsewhere."""
    from a2a.types import AgentExtension  # noqa: PLC0415 - an extra, and only cards need it

    extension = AgentExtension(
        uri=FEEDBACK_EXTENSION,
        description=f"What users think of a task's answer, by the JSON-RPC method {FEEDBACK_METHOD}.",
    )
    extension.params.update({"method": FEEDBACK_METHOD, "params": _SCHEMA, **({} if url is None else {"url": url})})
    return extension


def with_feedback(app: ASGIApp, *, agent_id: str | None = None) -> ASGIApp:
    """Let an A2A server answer ``tasks/feedback`` for an agent too; every other request reaches it untouched.

    Whoever may call it may vote: put authentication outside. The body is looked at if it is JSON of at most
    ``DSPY__SERVER__MAX_BODY`` bytes.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_small_json_post(scope):
            await app(scope, receive, send)
            return
        messages = await _read(receive)
        call = _feedback_call(messages)
        if call is None:
            await app(scope, _again(messages, receive), send)
            return
        response = _response(await _answer(call, agent_id), Headers(scope=scope))
        await response(scope, receive, send)

    return wrapped


def feedback_routes(
    path: str = "/a2a/{agent}", *, authorise: Authorise | None = None, recorder: Recorder | None = None
) -> list[LabelledRoute]:
    """``POST`` of JSON-RPC that takes ``tasks/feedback`` and nothing else, for the agent that the path names.

    ``authorise`` is asked before the body is read, and raises for callers who may not write for that agent. What it
    raises, and a body that is too large, is answered as all of HTTP; what was read, as JSON-RPC. ``recorder`` is what
    the tasks may still wait in.
    """

    async def feedback(request: Request) -> Response:
        agent_id = request.path_params["agent"]
        if authorise is not None:
            await authorise(request, agent_id)
        if not _is_json(request.headers):
            return _response(_error(None, INVALID_REQUEST, _NOT_JSON), request.headers)
        try:
            body = await read_body(request, app_settings.dspy.server.max_body)
        except Problem as problem:
            return problem.response()
        return _response(await _answer_any(body, agent_id, recorder), request.headers)

    return [LabelledRoute(path, feedback, methods=["POST"])]


async def _answer_any(body: bytes, agent_id: str, recorder: Recorder | None) -> JsonObject:
    try:
        call = json.loads(body)
    except (ValueError, RecursionError) as error:
        return _error(None, PARSE_ERROR, f"The body is not JSON: {error}.")
    if not isinstance(call, dict) or not isinstance(call.get("method"), str):
        return _error(None, INVALID_REQUEST, f"The body is one JSON-RPC request with the method {FEEDBACK_METHOD}.")
    if call["method"] != FEEDBACK_METHOD:
        sentence = f"Only {FEEDBACK_METHOD} is answered here, not {shown(call['method'])}. Ask the agent itself."
        return _error(_id(call), UNKNOWN_METHOD, sentence)
    return await _answer(call, agent_id, recorder)


async def _answer(call: Mapping[str, Any], agent_id: str | None, recorder: Recorder | None = None) -> JsonObject:
    """The response to a call of ``tasks/feedback``, whatever its parameters are."""
    broken = _broken(call)
    if broken is not None:
        return _error(_id(call), INVALID_REQUEST, broken)
    try:
        opinion = _opinion(call.get("params"))
        await store_vote(_store, agent_named(agent_id), opinion, recorder)
    except UnknownTaskError as error:
        return _error(_id(call), TASK_NOT_FOUND, str(error))
    except (InvalidArgumentError, InvalidFeedbackError) as error:
        return _error(_id(call), INVALID_PARAMS, str(error))
    except Problem as problem:  # the task may come yet
        return _error(_id(call), INTERNAL_ERROR, str(problem), _RETRY)
    except BinduError as error:  # where the database is concerns nobody who calls
        _log.error("Feedback could not be stored: %s", error)
        return _error(_id(call), INTERNAL_ERROR, _AWAY, _RETRY)
    return {"jsonrpc": "2.0", "id": _id(call), "result": {"message": _STORED, "task_id": opinion.task_id}}


def _broken(call: Mapping[str, Any]) -> str | None:
    """Why it is no request of JSON-RPC."""
    if _id(call) != call.get("id"):
        return "The id of a JSON-RPC request is a text, a whole number or null."
    return None if call.get("jsonrpc") == "2.0" else 'A JSON-RPC request says "jsonrpc": "2.0".'


async def _store(agent_id: str, opinion: Opinion) -> UUID | None:
    [stored] = await store_feedback(agent_id, [opinion])
    return stored


def _opinion(params: object) -> Opinion:
    """What a caller says of a task. Raises InvalidFeedbackError and InvalidArgumentError."""
    if not isinstance(params, Mapping):
        raise InvalidFeedbackError(f'params is an object with "taskId" and feedback, not {shown(params)}.')
    metadata = {} if params.get("metadata") is None else params["metadata"]
    if not isinstance(metadata, Mapping):
        raise InvalidFeedbackError(f"metadata is an object, not {shown(metadata)}.")
    task_id = _named(params, "task_id")
    if task_id is None:
        raise InvalidFeedbackError('Feedback is about a task: give the id of its task as "taskId".')
    rater_id = _named(metadata, "rater_id")
    return read_feedback(
        task_id,
        _shape(params, metadata),
        rater_id=_named(metadata, "user_id") if rater_id is None else rater_id,
        idempotency_key=_named(metadata, "idempotency_key"),
    )


def _shape(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> JsonObject:
    """A vote as the collector reads it: the parameters' own, else the thumb in the metadata."""
    text = params.get("feedback")
    if text is not None and not isinstance(text, str):
        raise InvalidFeedbackError(f'"feedback" is a text, not {shown(text)}; a vote is a "rating" or "thumbs_up".')
    votes = {name: _named(params, name) for name in VOTES}
    if all(vote is None for vote in votes.values()):
        votes["thumbs_up"] = _named(metadata, "thumbs_up")
    said = {**votes, "comment": text, "correction": params.get("correction"), "metadata": dict(metadata) or None}
    return {name: value for name, value in said.items() if value is not None}


def _named(data: Mapping[str, Any], name: str) -> Any:
    """A member by its Python name or, as A2A spells names, in camel case."""
    first, *others = name.split("_")
    value = data.get(first + "".join(word.capitalize() for word in others))
    return data.get(name) if value is None else value


def _id(call: Mapping[str, Any]) -> str | int | None:
    number = call.get("id")
    return number if isinstance(number, str | int) and not isinstance(number, bool) else None


def _error(number: str | int | None, code: int, sentence: str, data: list[dict[str, str]] | None = None) -> JsonObject:
    error = {"code": code, "message": sentence, **({} if data is None else {"data": data})}
    return {"jsonrpc": "2.0", "id": number, "error": error}


def _response(told: JsonObject, headers: Headers) -> Response:
    """Always status 200, as A2A servers answer; with our URI if the caller activated the extension."""
    response = Response(json.dumps(told), media_type="application/json")
    for name in _ACTIVATION:
        asked = [uri.strip() for value in headers.getlist(name) for uri in value.split(",")]
        if FEEDBACK_EXTENSION in asked:
            response.headers[name] = FEEDBACK_EXTENSION
    return response


def _is_small_json_post(scope: Scope) -> bool:
    """Whether it may be a call of ours, by its head alone. A web page cannot send JSON to a stranger unasked."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    fits = length.isdecimal() and int(length) <= app_settings.dspy.server.max_body
    return fits and _is_json(headers)


def _is_json(headers: Headers) -> bool:
    return "json" in headers.get("content-type", "").lower()


async def _read(receive: Receive) -> list[Message]:
    """The messages of the body, until it ends, the caller is gone or it is too large."""
    messages: list[Message] = []
    size = 0
    while size <= app_settings.dspy.server.max_body:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
        size += len(message.get("body", b""))
    return messages


def _again(messages: list[Message], receive: Receive) -> Receive:
    """A ``receive`` that gives these messages once more, then what comes after them."""
    waiting = iter(messages)

    async def replayed() -> Message:
        message = next(waiting, None)
        return await receive() if message is None else message

    return replayed


def _whole(messages: list[Message]) -> bytes | None:
    """The body, None if it did not come in whole."""
    last = messages[-1]
    if last["type"] != "http.request" or last.get("more_body", False):
        return None
    body = b"".join(message.get("body", b"") for message in messages)
    return body if len(body) <= app_settings.dspy.server.max_body else None


def _feedback_call(messages: list[Message]) -> dict[str, Any] | None:
    body = _whole(messages)
    if body is None or b"feedback" not in body:  # however the slash is escaped
        return None
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return call if isinstance(call, dict) and call.get("method") == FEEDBACK_METHOD else None


_TEXT: Final = {"type": "string"}
_ID: Final = {"type": ["string", "integer"]}
_SCHEMA: Final = {
    "type": "object",
    "required": ["taskId"],
    "properties": {
        "taskId": _ID,
        "feedback": {**_TEXT, "description": "What the user says, in words."},
        "rating": {"type": "number", "minimum": 1, "maximum": 5},
        "thumbs_up": {"type": "boolean"},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "label": {**_TEXT, "description": "Such as good or bad."},
        "correction": {**_TEXT, "description": "What the answer should have been."},
        "metadata": {
            "type": "object",
            "properties": {
                "thumbs_up": {"type": "boolean"},
                "rater_id": {**_ID, "description": "Who votes; each rater's latest vote on a task counts."},
                "idempotency_key": {**_ID, "description": "The same for every attempt to send one vote."},
            },
        },
    },
}
