"""Requests are counted by the pattern that took them: a path would make a series of its own."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from bindu.dspy.postgres.storage import PostgresStorage
from serving import serving

TAKEN = [
    ("GET", "/livez", "/livez"),
    ("GET", "/readyz", "/readyz"),
    ("GET", "/metrics", "/metrics"),
    ("GET", "/feedback.js", "/feedback.js"),
    ("GET", "/openapi.json", "/openapi.json"),
    ("POST", "/a2a/support", "/a2a/{agent}"),
    ("OPTIONS", "/v1/feedback", "/v1/feedback"),
    ("POST", "/v1/tasks/t1/feedback", "/v1/tasks/{id}/feedback"),
    ("PUT", "/v1/select", "/v1/select"),
    ("POST", "/v1/chat/completions", "/v1/chat/completions"),
    ("GET", "/v1/models/a", "/v1/{path}"),
    ("GET", "/v1/select/a", "other"),
    ("GET", "/nowhere", "other"),
]


def counted(route: str, method: str) -> float:
    name = "bindu_http_request_duration_seconds_count"
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and (sample.labels["route"], sample.labels["method"]) == (route, method)
    )


@pytest.mark.parametrize(("method", "path", "route"), TAKEN, ids=lambda text: text)
async def test_a_request_is_counted_by_the_route_that_took_it(
    storage: PostgresStorage, method: str, path: str, route: str
) -> None:
    before = counted(route, method)
    async with serving({"upstream": "http://127.0.0.1:9/v1"}) as served:
        await served.http.request(method, path)
    assert counted(route, method) == before + 1
