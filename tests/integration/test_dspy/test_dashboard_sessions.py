"""Who may look at the dashboard, and how they sign in and out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from bindu.dspy import access
from bindu.dspy.access import EVERY_AGENT, create_key, digest_of, revoke_key
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.web.dashboard import sealed, sessions
from bindu.dspy.web.dashboard.forms import own_path
from bindu.dspy.web.dashboard.sealed import seal, unseal
from conftest import execute, fetch
from dashboards import FROM_OURS, fields_of, form_on, key_for, send, sign_in, signed_in, where_to
from samples import open_trial
from serving import STRANGER, Served, serving

PAGE = {"agent": "default"}
SIGN_IN = "/dashboard/sign-in"


@pytest.fixture
async def served(storage: PostgresStorage) -> AsyncIterator[Served]:
    """Two agents with a prompt; 'default' has a candidate on trial."""
    await open_trial(storage)
    await bootstrap_prompt("You sell.", agent_id="shop")
    async with serving() as started:
        yield started


async def is_sent_to_sign_in(http: httpx.AsyncClient) -> bool:
    answer = await http.get("/dashboard", params=PAGE)
    return answer.status_code == 303 and where_to(answer) == (SIGN_IN, {"next": "/dashboard?agent=default"})


async def test_a_browser_on_this_machine_is_operator(served: Served) -> None:
    page = await served.http.get("/dashboard", params=PAGE, headers={"sec-fetch-site": "none"})
    assert page.status_code == 200
    assert "local" in page.text
    assert "(operator)" in page.text


async def test_where_keys_are_required_it_signs_in_too(storage: PostgresStorage) -> None:
    await bootstrap_prompt("You help.")
    async with serving(require_key=True) as served:
        assert await is_sent_to_sign_in(served.http)
        assert (await sign_in(served.http, await key_for("ann", "view"))).status_code == 303
        assert "ann" in (await served.http.get("/dashboard", params=PAGE)).text


REBOUND = ({"host": "evil.example"}, {"host": "127.0.0.1.evil.example"}, {"x-forwarded-for": "127.0.0.1"})


@pytest.mark.parametrize("headers", REBOUND)
async def test_a_name_that_was_rebound_to_this_machine_is_a_strangers(served: Served, headers: dict[str, str]) -> None:
    assert where_to(await served.http.get("/dashboard", params=PAGE, headers=headers))[0] == SIGN_IN


async def test_a_stranger_signs_in_and_comes_to_the_page_they_wanted(served: Served) -> None:
    http = served.client(STRANGER)
    assert await is_sent_to_sign_in(http)
    answer = await sign_in(http, await key_for("ann", "view"), wanted="/dashboard?agent=default")
    assert answer.headers["location"] == "/dashboard?agent=default"
    page = await http.get(answer.headers["location"])
    assert "ann" in page.text
    assert "(viewer)" in page.text


async def test_the_cookie_is_for_pages_of_ours_alone_and_holds_no_key(served: Served) -> None:
    key = await key_for("ann", "view")
    for url, headers, name in (
        ("http://dash.example", {}, "bindu_session"),
        ("https://dash.example", {}, "__Host-bindu_session"),
        ("http://dash.example", {"x-forwarded-proto": "https"}, "__Host-bindu_session"),
    ):
        http = served.client(STRANGER, url, **headers)
        page = await http.get(SIGN_IN)
        form = {**fields_of(page), "key": key}
        browser = page.headers["set-cookie"].partition(";")[0]
        secure = "; Secure" if name.startswith("__Host-") else ""
        answer = await http.post(SIGN_IN, data=form, headers={"cookie": browser})
        [cookie] = [one for one in answer.headers.get_list("set-cookie") if one.startswith(f"{name}=")]
        value, _, attributes = cookie.partition(";")
        assert f";{attributes}" == f"; HttpOnly; Max-Age=43200; Path=/; SameSite=strict{secure}"
        assert key not in value
        assert key.removeprefix("bindu_") not in value
        assert answer.headers["cache-control"] == "no-store"


ELSEWHERE = (
    *("https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/dashboard\\..\\evil"),
    *("/dashboardx", "/dashboard@evil.example", "/dashboard\r\nSet-Cookie: a=b", "/dashboard/\t", " /dashboard"),
    *("javascript:alert(1)", "/v1/prompts", "dashboard", "", '/dashboard?a="><script>', "/dashboard/" + "x" * 3_000),
)


@pytest.mark.parametrize("wanted", ELSEWHERE)
async def test_the_sign_in_leads_nowhere_else(served: Served, wanted: str) -> None:
    assert own_path(wanted) is None
    http, key = served.client(STRANGER), await key_for("ann", "view")
    assert fields_of(await http.get(SIGN_IN, params={"next": wanted}))["next"] == "/dashboard"
    form = {**fields_of(await http.get(SIGN_IN)), "key": key, "next": wanted}
    assert (await http.post(SIGN_IN, data=form)).headers["location"] == "/dashboard"


async def test_wrong_keys_do_not_sign_in(served: Served) -> None:
    old = await key_for("old", "view", now=datetime.now(UTC) - timedelta(days=3), days=2)
    gone, gone_text = await create_key("gone", ["view"])
    await revoke_key(gone.id)
    for wrong in ("", "bindu_wrong", old, gone_text, "x" * 20_000, "bindu_\x00"):
        http = served.client(STRANGER)
        answer = await sign_in(http, wrong)
        assert answer.status_code == 401
        assert "No key of ours" in answer.text
        assert wrong == "" or wrong not in answer.text
        assert await is_sent_to_sign_in(http)


async def test_a_key_that_may_not_look_does_not_sign_in(served: Served) -> None:
    http = served.client(STRANGER)
    answer = await sign_in(http, await key_for("web-shop", "select", "write"))
    assert answer.status_code == 403
    assert "neither the scope view" in answer.text
    assert await is_sent_to_sign_in(http)


async def test_guesses_at_the_sign_in_are_counted(storage: PostgresStorage) -> None:
    async with serving(rate_limit="6/hour") as served:
        http = served.client(STRANGER)
        codes = [(await sign_in(http, "bindu_guess")).status_code for _ in range(3)]
        assert codes == [401, 401, 401]
        answer = await http.post(SIGN_IN, data={"key": "bindu_guess"}, headers={"x-bindu-key": "bindu_other"})
        assert (answer.status_code, "retry-after" in answer.headers) == (429, True)


async def test_a_key_sees_its_own_agent(served: Served) -> None:
    http = await signed_in(served, await key_for("ann", "view", agent="shop"))
    assert (await http.get("/dashboard", params={"agent": "shop"})).status_code == 200
    other = await http.get("/dashboard", params=PAGE)
    assert (other.status_code, other.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "is not for agent" in other.text
    every = await signed_in(served, await key_for("all", "view", agent=EVERY_AGENT))
    for agent in ("default", "shop"):
        assert (await every.get("/dashboard", params={"agent": agent})).status_code == 200


async def test_a_key_in_the_headers_opens_the_pages_as_it_opens_the_api(served: Served) -> None:
    http = served.client(STRANGER)
    for scope, expected in (("view", 200), ("operate", 200), ("admin", 200), ("select", 403), ("write", 403)):
        key = await key_for(scope, scope)
        for headers in ({"authorization": f"Bearer {key}"}, {"x-bindu-key": key}):
            assert (await http.get("/dashboard", params=PAGE, headers=headers)).status_code == expected, scope
    for wrong in (http, served.http):  # whoever shows a key is judged by it
        assert (await wrong.get("/dashboard", params=PAGE, headers={"x-bindu-key": "bindu_no"})).status_code == 401


async def test_a_key_named_like_a_machine_is_told_from_it(served: Served) -> None:
    for name in ("local", "controller", "trainer"):
        http = await signed_in(served, await key_for(name, "view"))
        assert f"key {name}" in (await http.get("/dashboard", params=PAGE)).text


async def test_the_session_of_a_revoked_or_expired_key_ends(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    short = await signed_in(served, await key_for("short", "view", days=0.6 / 86_400))
    key, text = await create_key("leaver", ["operate"])
    leaver = await signed_in(served, text)
    assert (await leaver.get("/dashboard", params=PAGE)).status_code == 200
    await revoke_key(key.id)
    assert access._FRESH_SECONDS == 5.0
    monkeypatch.setattr(access, "_FRESH_SECONDS", 0.0)
    assert await is_sent_to_sign_in(leaver)
    await asyncio.sleep(0.6)
    assert await is_sent_to_sign_in(short)


async def test_a_session_ends_with_its_hours(storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    await bootstrap_prompt("You help.")
    async with serving(session_hours=2.0) as served:
        http = await signed_in(served, await key_for("ann", "view"))
        began = time.time()
        monkeypatch.setattr(sealed, "time", lambda: began + 2 * 3600 - 10)
        assert (await http.get("/dashboard", params=PAGE)).status_code == 200
        monkeypatch.setattr(sealed, "time", lambda: began + 2 * 3600 + 1)
        assert await is_sent_to_sign_in(http)


async def test_no_forged_cookie_is_believed(served: Served, postgres_url: str) -> None:
    key = await key_for("ann", "operate")
    digest = digest_of(key).hex()
    good = (await signed_in(served, key)).cookies["bindu_session"]
    claims, _, signature = good.rpartition(".")
    other_purpose = await seal("form local", [digest, "a"], seconds=60)
    other_shape = await seal("session", [digest], seconds=60)
    tries = (key, digest, "", ".", "a" * 5_000, good[:-1], f"{claims}.", f"{signature}.{claims}", good + "x")
    for cookie in (*tries, other_purpose, other_shape):
        http = served.client(STRANGER)
        http.cookies.set("bindu_session", cookie)
        assert await is_sent_to_sign_in(http), cookie
    secure = served.client(STRANGER, "https://dash.example", cookie=f"bindu_session={good}")
    assert (await secure.get("/dashboard", params=PAGE)).status_code == 303  # a subdomain could have set it
    assert await unseal("session", good) == [digest, (await unseal("session", good) or [])[1]]


async def test_whoever_empties_the_signing_keys_signs_everybody_out(
    served: Served, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = await signed_in(served, await key_for("ann", "view"))
    await execute(postgres_url, "DELETE FROM bindu_dspy.signing_keys WHERE agent_id = '*'")
    monkeypatch.setattr("bindu.dspy.web.tokens._KNOWN_SECONDS", 0.0)
    assert await is_sent_to_sign_in(http)


async def test_signing_out_takes_the_cookie_away(served: Served) -> None:
    http = await signed_in(served, await key_for("ann", "view"))
    form = await form_on(http)
    foreign = await send(http, "sign-out", {"form_token": (await form_on(served.http))["form_token"]})
    assert foreign.status_code == 403
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert (await send(http, "sign-out", form, **headers)).status_code == 403
    assert http.cookies["bindu_session"]
    assert where_to(await send(http, "sign-out", form)) == (SIGN_IN, {})
    assert "bindu_session" not in http.cookies
    assert await is_sent_to_sign_in(http)


async def test_no_other_site_signs_a_browser_in_as_somebody_else(served: Served) -> None:
    mallory, alice = served.client(STRANGER), served.client(STRANGER)
    form = {**fields_of(await mallory.get(SIGN_IN)), "key": await key_for("mallory", "view")}
    for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "null"}):
        assert (await alice.post(SIGN_IN, data=form, headers=headers)).status_code == 403
    assert (await alice.post(SIGN_IN, data=form)).status_code == 403  # the form is of another browser
    await alice.get(SIGN_IN)
    assert (await alice.post(SIGN_IN, data=form)).status_code == 403
    assert "bindu_session" not in alice.cookies
    assert (await mallory.post(SIGN_IN, data=form)).status_code == 303


async def test_a_page_in_another_tab_may_sign_in_too(served: Served) -> None:
    http = served.client(STRANGER)
    first = fields_of(await http.get(SIGN_IN))
    await http.get(SIGN_IN)
    answer = await http.post(SIGN_IN, data={**first, "key": await key_for("ann", "view")}, headers=FROM_OURS)
    assert answer.status_code == 303


async def test_the_sign_in_reads_no_large_body_and_no_other_kind(served: Served) -> None:
    http = served.client(STRANGER)
    assert (await http.post(SIGN_IN, data={"key": "x" * 70_000})).status_code == 413
    assert (await http.post(SIGN_IN, json={"key": "x"})).status_code == 415
    assert (await http.post(SIGN_IN, files={"key": b"x"})).status_code == 415
    many = "&".join(f"a{number}=1" for number in range(30))
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await http.post(SIGN_IN, content=many, headers=form)).status_code == 422
    assert (await http.post(SIGN_IN, content="key=a&key=b", headers=form)).status_code == 422


async def test_who_follows_a_link_from_another_site_is_told_to_go_on(served: Served) -> None:
    wanted, by_link = {"next": "/dashboard?agent=a%26b"}, {"sec-fetch-site": "cross-site"}
    page = await served.http.get(SIGN_IN, params=wanted, headers=by_link)
    assert '<a href="/dashboard?agent=a%26b">Go on</a>' in page.text
    assert "Go on" not in (await served.http.get(SIGN_IN)).text


async def test_a_part_of_a_page_sends_the_whole_page_to_the_sign_in(served: Served) -> None:
    http = served.client(STRANGER)
    asked = {"hx-request": "true", "hx-current-url": "http://127.0.0.1:8080/dashboard?agent=default"}
    answer = await http.get("/dashboard/part/status", params=PAGE, headers=asked)
    assert answer.status_code == 401
    assert answer.headers["hx-redirect"] == "/dashboard/sign-in?next=%2Fdashboard%3Fagent%3Ddefault"


async def test_neither_key_nor_secret_is_logged_or_stored_in_clear(
    served: Served, postgres_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("bindu.dspy.web.tokens._secrets", {})  # this database's, not that of the test before
    key = await key_for("ann", "operate")
    http = await signed_in(served, key)
    page = await http.get("/dashboard", params=PAGE)
    [[secret]] = await fetch(postgres_url, "SELECT encode(secret, 'hex') FROM bindu_dspy.signing_keys")
    for hidden in (key, key.removeprefix("bindu_"), secret, http.cookies["bindu_session"]):
        assert hidden not in caplog.text
        assert hidden not in page.text
    assert digest_of(key).hex() not in page.text


async def test_two_pages_hold_different_tokens_and_both_are_good(served: Served) -> None:
    """A token that stays the same can be guessed from the size of compressed pages."""
    tokens = [(await form_on(served.http))["form_token"] for _ in range(2)]
    assert tokens[0] != tokens[1]
    assert tokens[0].rpartition(".")[2] != tokens[1].rpartition(".")[2]
    for token in tokens:
        assert await unseal(f"form {sessions.LOCAL}", token) is not None
