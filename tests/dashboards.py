"""Browsers on the dashboard: clients that keep cookies, say where a form is from, and read what a page's form holds."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from bindu.dspy.access import create_key
from serving import OURS, STRANGER, Served

FROM_OURS = {"origin": OURS, "sec-fetch-site": "same-origin"}


async def key_for(name: str, *scopes: str, agent: str = "default", **more: Any) -> str:
    """The text of a new key."""
    _, text = await create_key(name, scopes, agent_id=agent, **more)
    return text


def fields_of(page: httpx.Response) -> dict[str, str]:
    """The hidden fields of all forms of a page."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text)
    return {name: html.unescape(value) for name, value in found}


async def sign_in(http: httpx.AsyncClient, key: str, *, wanted: str | None = None) -> httpx.Response:
    """Fill the form in, as a browser does, and send it."""
    page = await http.get("/dashboard/sign-in", params={} if wanted is None else {"next": wanted})
    assert page.status_code == 200, page.text
    origin = str(http.base_url).rstrip("/")
    return await http.post("/dashboard/sign-in", data={**fields_of(page), "key": key}, headers={"origin": origin})


async def signed_in(served: Served, key: str) -> httpx.AsyncClient:
    """A browser on another machine, signed in."""
    http = served.client(STRANGER)
    answer = await sign_in(http, key)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard"), answer.text
    return http


async def form_on(http: httpx.AsyncClient, agent: str = "default") -> dict[str, str]:
    """What the form on an agent's page holds."""
    page = await http.get("/dashboard", params={"agent": agent})
    assert page.status_code == 200, page.text
    return fields_of(page)


async def send(http: httpx.AsyncClient, verb: str, form: dict[str, str], **headers: str) -> httpx.Response:
    """Click a button of the agent's page."""
    return await http.post(f"/dashboard/{verb}", data=form, headers=FROM_OURS | headers)


def where_to(answer: httpx.Response) -> tuple[str, dict[str, str]]:
    """The path and the query that somebody is sent to."""
    assert answer.status_code == 303, answer.text
    parts = urlsplit(answer.headers["location"])
    assert (parts.scheme, parts.netloc) == ("", "")
    return parts.path, {name: values[-1] for name, values in parse_qs(parts.query).items()}
