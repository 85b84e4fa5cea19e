"""The reference of the HTTP API says what the OpenAPI document says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from bindu.dspy.recorder import Recorder
from bindu.dspy.spool import Spool
from bindu.dspy.web.api import Api
from bindu.dspy.web.openapi import document
from bindu.settings import ServerSettings

REFERENCE = (Path(__file__).parents[3] / "docs/reference/http.md").read_text(encoding="utf-8")


FEEDBACK = {*re.findall(r"^\| `(\w+)` \|", REFERENCE, re.MULTILINE), "agent"}


def fields_of(takes: Any) -> list[str]:
    """Of the structure, the first of several."""
    return [field.name for field in msgspec.structs.fields((get_args(takes) or (takes,))[0])]


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(ServerSettings(), Recorder(Spool(tmp_path, limit=1)))


def test_every_operation_is_in_the_reference_with_its_scope_and_fields(api: Api) -> None:
    rows = dict(re.findall(r"^\| `(\w+ /v1/[^`]*)` \| (.*)$", REFERENCE, re.MULTILINE))
    assert rows.keys() == {f"{operation.method} {operation.path}" for operation in api.operations}
    for operation in api.operations:
        row = rows[f"{operation.method} {operation.path}"]
        assert row.startswith(operation.scope)
        assert ("or a token" in row) is operation.by_token
        known = set(re.findall(r"`(\w+)`", row)) | (FEEDBACK if "feedback" in operation.path else set())
        assert set(fields_of(operation.takes)) <= known, operation.path


def test_every_status_of_the_document_is_explained(api: Api) -> None:
    explained = set(re.findall(r"^\| (\d{3}) \|", REFERENCE, re.MULTILINE))
    answers = {
        status
        for operations in document(api.operations)["paths"].values()
        for operation in operations.values()
        for status in operation["responses"]
    }
    assert {status for status in answers if status >= "400"} <= explained
