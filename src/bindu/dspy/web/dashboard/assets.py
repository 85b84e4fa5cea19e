"""Style and scripts: a fixed list of files, compressed once, with addresses that change when they do."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from bindu.dspy.web.labels import LabelledRoute
from bindu.dspy.web.problems import Problem

__all__ = ["ASSETS", "asset_routes", "asset_url"]

ASSETS: Final = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "vendor/htmx.min.js": "text/javascript",
    "vendor/uPlot.iife.min.js": "text/javascript",
    "vendor/uPlot.min.css": "text/css",
}
_FOREVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _Asset:
    data: bytes
    packed: bytes
    version: str
    media_type: str


@cache
def _asset(name: str) -> _Asset:
    data = (files("bindu.dspy.web.dashboard") / "static").joinpath(*name.split("/")).read_bytes()
    return _Asset(data, gzip.compress(data, mtime=0), sha256(data).hexdigest()[:16], ASSETS[name])


def asset_url(name: str) -> str:
    """The address of a file, which browsers may keep for ever. Raises KeyError for a file that is not ours."""
    return f"/dashboard/static/{name}?v={_asset(name).version}"


def asset_routes() -> list[LabelledRoute]:
    """Where browsers get them; nobody needs to sign in for that. All are read now, so that no request waits."""
    for name in ASSETS:
        _asset(name)
    return [LabelledRoute("/dashboard/static/{name:path}", _serve)]


async def _serve(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        raise Problem(404, "not_found", "There is no such file.")
    asset = _asset(name)
    headers = {
        "etag": f'W/"{asset.version}"',  # the same for both encodings
        "vary": "accept-encoding",
        "cross-origin-resource-policy": "same-origin",
        # another version is that of a page from an older or a newer server
        "cache-control": _FOREVER if request.query_params.get("v") == asset.version else "no-cache",
    }
    if f'"{asset.version}"' in _listed(request, "if-none-match"):
        return Response(status_code=304, headers=headers)
    if "gzip" in _listed(request, "accept-encoding"):
        return Response(asset.packed, headers={**headers, "content-encoding": "gzip"}, media_type=asset.media_type)
    return Response(asset.data, headers=headers, media_type=asset.media_type)


def _listed(request: Request, header: str) -> set[str]:
    """Its values without those refused (q=0), of a weak tag the tag."""
    given = [one.replace(" ", "") for one in request.headers.get(header, "").split(",")]
    return {one.split(";")[0].removeprefix("W/") for one in given if not one.rstrip("0.").endswith(";q=")}
