"""The OpenAPI document of the operations, written from what they decode and encode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from bindu.dspy.web.operations import Operation
from bindu.dspy.web.problems import ProblemOut
from bindu.utils.version import code_version

__all__ = ["document"]

_REF: Final = "#/components/schemas/{name}"
_MEANING: Final = {
    400: "The body is not JSON.",
    401: "No key, a wrong one, or a feedback token that is forged or has expired.",
    403: "The key lacks the scope, or the token is for something else.",
    404: "There is no such task, prompt or agent.",
    413: "The body is too large.",
    422: "What was sent cannot be; the sentence says why. Nothing was stored.",
    429: "Too many requests; Retry-After says when to come again.",
    503: "The database does not answer; Retry-After says when to try again. Nothing was stored.",
}
_ALWAYS: Final = (401, 403, 422, 429, 503)
_WITH_BODY: Final = (400, 413)
_RETRIED: Final = (429, 503)


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    types = [kind for operation in operations for kind in (operation.takes, operation.gives)]
    schemas, components = msgspec.json.schema_components([*types, ProblemOut], ref_template=_REF)
    pairs = zip(operations, schemas[:-1:2], schemas[1::2], strict=True)
    paths: dict[str, Any] = {}
    for operation, takes, gives in pairs:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(
            operation, _flat(takes, components), gives, schemas[-1]
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "bindu-dspy", "version": code_version(), "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "bindu_...; not needed from loopback"},
                "token": {"type": "http", "scheme": "bearer", "description": "fbt_..., for one answer's feedback"},
            },
        },
    }


def _described(operation: Operation, takes: dict[str, Any], gives: Any, problem: Any) -> dict[str, Any]:
    security: list[dict[str, list[str]]] = [{}, {"key": []}]
    if operation.by_token:
        security.append({"token": []})
    described: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{operation.method.lower()}{operation.path}").strip("_"),
        "summary": operation.summary,
        "security": security,
        "parameters": _path_parameters(operation.path),
        "responses": {str(operation.status): _answer(operation.summary, gives)} | _refusals(operation, problem),
    }
    if operation.method == "GET":
        described["parameters"] += _query_parameters(takes)
    else:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": takes}}}
    return described


def _refusals(operation: Operation, problem: Any) -> dict[str, Any]:
    statuses = {*_ALWAYS, *operation.refusals, *(() if operation.method == "GET" else _WITH_BODY)}
    return {str(status): _answer(_MEANING[status], problem, retried=status in _RETRIED) for status in sorted(statuses)}


def _answer(description: str, schema: Any, *, retried: bool = False) -> dict[str, Any]:
    answer = {"description": description, "content": {"application/json": {"schema": schema}}}
    if retried:
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return answer


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(one)}
        for name, one in schema["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """In a query what is null is left out."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else {name: value for name, value in schema.items() if name != "default"}


def _flat(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference stands for."""
    reference = schema.get("$ref")
    found: dict[str, Any] = schema if reference is None else components[reference.rpartition("/")[2]]
    return found
