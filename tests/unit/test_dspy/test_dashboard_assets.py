"""The files that pages load: only those, small, and asked for again only when they changed."""

from __future__ import annotations

import gzip
from importlib.resources import files

import httpx
import pytest
from starlette.applications import Starlette

from bindu.dspy.web.dashboard.assets import ASSETS, asset_routes, asset_url
from bindu.dspy.web.problems import Problem, respond

STATIC = files("bindu.dspy.web.dashboard") / "static"


async def get(url: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(Starlette(routes=asset_routes(), exception_handlers={Problem: respond}))
    given = {"accept-encoding": "identity"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        return await http.get(url, headers=given)


@pytest.mark.parametrize("name", ASSETS)
async def test_a_file_is_kept_for_ever_under_the_address_of_its_content(name: str) -> None:
    answer = await get(asset_url(name))
    assert answer.content == (STATIC / name).read_bytes()
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"] == f"{ASSETS[name]}; charset=utf-8"


@pytest.mark.parametrize("query", ["", "?v=", "?v=0123456789abcdef"])
async def test_under_another_address_it_is_asked_for_again(query: str) -> None:
    answer = await get(f"/dashboard/static/dashboard.css{query}")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


async def test_what_a_browser_has_is_not_sent_again() -> None:
    tag = (await get(asset_url("dashboard.js"))).headers["etag"]
    for known in (tag, f'"another", {tag}', tag.removeprefix("W/")):
        answer = await get("/dashboard/static/dashboard.js", if_none_match=known)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert (await get("/dashboard/static/dashboard.js", if_none_match='"another"')).status_code == 200


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip, br", True), ("br;q=1, gzip;q=0.5", True), ("gzip;q=0", False), ("gzip; q=0.00", False), ("br", False)],
)
async def test_it_travels_packed_to_who_can_unpack_it(accepted: str, packed: bool) -> None:
    answer = await get(asset_url("vendor/htmx.min.js"), accept_encoding=accepted)
    assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.content == (STATIC / "vendor/htmx.min.js").read_bytes()


@pytest.mark.parametrize(
    "name", ["vendor/CHECKSUMS", "vendor/LICENSE.htmx", "../pages.py", "..%2Fpages.py", "", "dashboard.css/", "vendor"]
)
async def test_no_other_file_is_given_away(name: str) -> None:
    assert (await get(f"/dashboard/static/{name}")).status_code == 404


def test_what_a_page_loads_is_at_most_fifty_kilobytes() -> None:
    assert sum(len(gzip.compress((STATIC / name).read_bytes())) for name in ASSETS) <= 50_000


def test_no_file_of_ours_asks_another_site_or_makes_code_of_text() -> None:
    for name in ("dashboard.css", "dashboard.js"):
        text = (STATIC / name).read_text()
        assert not [word for word in ("//www.", "http:", "https:", "eval(", "Function(", "innerHTML") if word in text]
