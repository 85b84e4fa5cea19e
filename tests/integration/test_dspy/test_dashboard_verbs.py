"""What people may do to an experiment by the dashboard's buttons, and what nobody makes them do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from bindu.dspy.access import create_key
from bindu.dspy.canary.verbs import carry_out
from bindu.dspy.errors import InvalidArgumentError, StaleRolloutError, StorageUnavailableError
from bindu.dspy.models import Experiment
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.web.dashboard import sealed
from bindu.dspy.web.dashboard.actions import said
from conftest import everything, value
from dashboards import form_on, key_for, send, sign_in, signed_in, where_to
from samples import AGENT, open_trial
from serving import OURS, STRANGER, Served, serving

WHY = {"reason": "It fixes the refund policy."}


@pytest.fixture
async def experiment(storage: PostgresStorage) -> Experiment:
    return await open_trial(storage)


@pytest.fixture
async def served(experiment: Experiment) -> AsyncIterator[Served]:
    async with serving() as started:
        yield started


async def newest(storage: PostgresStorage, agent: str = AGENT) -> tuple[str, str, str]:
    [last] = await storage.decisions(agent, limit=1)
    return last.verdict, last.actor, last.reason


async def audited(storage: PostgresStorage) -> list[tuple[str, str, str]]:
    return [(one.action, one.actor, one.reason) for one in await storage.audit(AGENT) if one.action != "add_key"]


async def is_running(storage: PostgresStorage, experiment: Experiment) -> bool:
    found = await storage.experiment(experiment.agent_id, experiment.id)
    assert found is not None
    return found.state == "running"


VERBS = (
    ("pause", "pause", "paused", None),
    ("promote", "promote", "promoted", "promoted"),
    ("rollback", "roll_back", "rolled-back", "rolled_back"),
    ("abort", "roll_back", "ended", "inconclusive"),
)


@pytest.mark.parametrize("case", VERBS, ids=[verb for verb, *_ in VERBS])
async def test_what_an_operator_does_is_logged_with_their_name_and_reason(
    served: Served, storage: PostgresStorage, experiment: Experiment, case: tuple[str, str, str, str | None]
) -> None:
    verb, verdict, did, outcome = case
    ann = await signed_in(served, await key_for("ann", "operate"))
    answer = await send(ann, verb, await form_on(ann) | WHY)
    assert where_to(answer) == ("/dashboard", {"agent": AGENT, "did": did})
    assert await newest(storage) == (verdict, "ann", WHY["reason"])
    [entry] = [one for one in await storage.audit(AGENT) if one.action == verdict]
    assert (entry.actor, entry.reason, entry.subject) == ("ann", WHY["reason"], f"experiment {experiment.id}")
    found = await storage.experiment(AGENT, experiment.id)
    assert found is not None
    assert found.outcome == outcome
    page = await ann.get(answer.headers["location"])
    assert str(said(did)).split(":")[0] in page.text.replace("&#39;", "'")


async def test_a_browser_on_this_machine_pauses_and_resumes_as_local(served: Served, storage: PostgresStorage) -> None:
    for verb in ("pause", "resume"):
        assert (await send(served.http, verb, await form_on(served.http) | WHY)).status_code == 303
        assert await newest(storage) == (verb, "local", WHY["reason"])


async def test_a_viewer_looks_and_changes_nothing(served: Served, postgres_url: str, experiment: Experiment) -> None:
    ben = await signed_in(served, await key_for("ben", "view"))
    form = await form_on(ben)
    assert "experiment" not in form  # no buttons
    before = await everything(postgres_url)
    for verb, *_ in VERBS:
        answer = await send(ben, verb, {**form, **WHY, "agent": AGENT, "experiment": str(experiment.id)})
        assert answer.status_code == 403
        assert "lacks the scope operate" in answer.text
    assert await everything(postgres_url) == before


async def test_an_operator_of_another_agent_changes_nothing(
    served: Served, storage: PostgresStorage, postgres_url: str
) -> None:
    await open_trial(storage, "shop")
    local = await form_on(served.http)
    eve = await signed_in(served, await key_for("eve", "operate", agent="shop"))
    own = await form_on(eve, "shop")
    before = await everything(postgres_url)
    for form in (local | WHY, local | WHY | {"form_token": own["form_token"]}):
        assert (await send(eve, "promote", form)).status_code == 403
    assert await everything(postgres_url) == before
    assert (await send(eve, "promote", own | WHY)).status_code == 303


FOREIGN = (
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "http://127.0.0.1:8080.evil.example"},
    {"origin": "https://evil.example", "sec-fetch-site": "none"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": ""},
    {"host": "evil.example"},
)
REBOUND = {"host": "evil.example", "origin": "http://evil.example"}  # a name that leads to this machine by now


@pytest.mark.parametrize("kind", ["local", "signed in"])
async def test_no_other_site_presses_a_button(served: Served, postgres_url: str, kind: str) -> None:
    http = served.http if kind == "local" else await signed_in(served, await key_for("ann", "operate"))
    form = await form_on(http) | WHY
    before = await everything(postgres_url)
    for headers in FOREIGN:
        answer = await send(http, "promote", form, **headers)
        assert (answer.status_code, "page of another site" in answer.text) == (403, True), headers
    if kind == "local":
        assert where_to(await send(http, "promote", form, **REBOUND))[0] == "/dashboard/sign-in"
    assert await everything(postgres_url) == before
    assert (await http.post("/dashboard/promote", data=form)).status_code == 303  # a browser that says nothing


async def test_a_page_that_anybody_on_the_way_can_write_presses_no_button(served: Served) -> None:
    key = await key_for("ann", "operate")
    http = served.client(STRANGER, "https://dash.example")
    assert (await sign_in(http, key)).status_code == 303
    form = await form_on(http) | WHY
    for scheme, expected in (("http", 403), ("https", 303)):
        answer = await http.post("/dashboard/pause", data=form, headers={"origin": f"{scheme}://dash.example"})
        assert answer.status_code == expected


async def test_without_the_token_of_ones_own_page_nothing_is_done(
    served: Served, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await key_for("ann", "operate")
    ann, other_session = await signed_in(served, key), await signed_in(served, key)
    form = await form_on(ann) | WHY
    token = form["form_token"]
    foreign = [(await form_on(http))["form_token"] for http in (other_session, served.http)]
    wrong = ("", "x", token[:-1], token + "x", "x" * 5_000, ann.cookies["bindu_session"], *foreign)
    before = await everything(postgres_url)
    for forged in wrong:
        answer = await send(ann, "promote", form | {"form_token": forged})
        assert (answer.status_code, "too old or not yours" in answer.text) == (403, True), forged
    del form["form_token"]
    assert (await send(ann, "promote", form)).status_code == 403
    assert (await send(served.http, "promote", form | {"form_token": token})).status_code == 403
    monkeypatch.setattr(sealed, "time", lambda: datetime.now(UTC).timestamp() + 12 * 3600 + 5)
    local = await send(served.http, "promote", form | {"form_token": foreign[1]})
    assert local.status_code == 403
    assert where_to(await send(ann, "promote", form | {"form_token": token}))[0] == "/dashboard/sign-in"
    assert await everything(postgres_url) == before


async def test_whose_session_is_over_comes_back_to_the_page_they_were_on(served: Served) -> None:
    answer = await send(served.client(STRANGER), "promote", {}, referer=f"{OURS}/dashboard?agent=a%26b")
    assert where_to(answer) == ("/dashboard/sign-in", {"next": "/dashboard?agent=a%26b"})
    elsewhere = await send(served.client(STRANGER), "promote", {}, referer="https://evil.example/x")
    assert where_to(elsewhere) == ("/dashboard/sign-in", {"next": "/dashboard"})


async def test_a_stale_page_promotes_no_candidate_that_nobody_looked_at(
    served: Served, storage: PostgresStorage, experiment: Experiment, postgres_url: str
) -> None:
    form = await form_on(served.http) | WHY
    await carry_out("abort", reason="A mistake.", actor="ben")
    over = await send(served.http, "promote", form)
    assert over.status_code == 409
    assert f"Experiment {experiment.id} is over" in over.text
    later = await open_trial(storage, text="Promise discounts.")
    before = await everything(postgres_url)
    for verb, *_ in VERBS:
        stale = await send(served.http, verb, form)
        assert stale.status_code == 409
        assert f"Not experiment {experiment.id} but {later.id} is running" in stale.text
        assert WHY["reason"] in stale.text  # what was typed is not lost
    assert await everything(postgres_url) == before
    with pytest.raises(StaleRolloutError, match="nothing was changed"):
        await carry_out("promote", reason="Old.", experiment_id=experiment.id)


@pytest.mark.parametrize("verb", ["pause", "promote", "rollback", "abort"])
async def test_a_double_click_is_one_decision(served: Served, storage: PostgresStorage, verb: str) -> None:
    ann = await signed_in(served, await key_for("ann", "operate"))
    form = await form_on(ann) | WHY
    before = len(await storage.decisions(AGENT))
    answers = await asyncio.gather(*(send(ann, verb, form) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [303, 303, 303]
    assert len(await storage.decisions(AGENT)) == before + 1
    assert len([one for one in await audited(storage) if one[1] == "ann"]) == 1


async def test_of_two_operators_who_disagree_one_is_told(
    served: Served, storage: PostgresStorage, experiment: Experiment
) -> None:
    people = [await signed_in(served, await key_for(name, "operate")) for name in ("ann", "ben")]
    forms = [await form_on(http) | {"reason": name} for http, name in zip(people, ("ann", "ben"), strict=True)]
    sent = (send(http, verb, form) for http, verb, form in zip(people, ("promote", "rollback"), forms, strict=True))
    answers = await asyncio.gather(*sent)
    assert sorted(answer.status_code for answer in answers) == [303, 409]
    winner = "ann" if answers[0].status_code == 303 else "ben"
    assert (await newest(storage))[1:] == (winner, winner)
    assert [actor for _, actor, _ in await audited(storage) if actor in ("ann", "ben")] == [winner]
    assert not await is_running(storage, experiment)


async def test_the_same_word_of_somebody_else_is_told_too(served: Served) -> None:
    ann, ben = [await signed_in(served, await key_for(name, "operate")) for name in ("ann", "ben")]
    form = await form_on(ben) | WHY
    assert (await send(ann, "promote", await form_on(ann) | WHY)).status_code == 303
    assert (await send(ben, "promote", form)).status_code == 409
    assert (await send(ben, "rollback", form)).status_code == 409


async def test_whose_reason_is_not_kept_is_told(served: Served, storage: PostgresStorage, postgres_url: str) -> None:
    ann, ben = [await signed_in(served, await key_for(name, "operate")) for name in ("ann", "ben")]
    for verb, sentence in (("pause", "It is paused already"), ("resume", "It is not paused")):
        form = await form_on(ben) | {"reason": "The numbers look odd."}
        assert (await send(ann, verb, await form_on(ann) | WHY)).status_code == 303
        before = await everything(postgres_url)
        answer = await send(ben, verb, form)
        assert (answer.status_code, f"{sentence}; your reason was not kept." in answer.text) == (409, True)
        assert "The numbers look odd." in answer.text  # what was typed is not lost
        assert await everything(postgres_url) == before
        assert await newest(storage) == (verb, "ann", WHY["reason"])


async def test_without_a_reason_the_page_comes_back_with_the_sentence(served: Served, postgres_url: str) -> None:
    form = await form_on(served.http)
    before = await everything(postgres_url)
    for reason in ("", "  \r\n ", None):
        answer = await send(served.http, "promote", form if reason is None else form | {"reason": reason})
        assert (answer.status_code, "Say why" in answer.text) == (422, True)
    typed = "It is <b>better</b>. " * 120
    answer = await send(served.http, "promote", form | {"reason": typed})
    assert answer.status_code == 422
    assert "It is &lt;b&gt;better&lt;/b&gt;. " * 119 in answer.text
    assert "2,519 characters" in answer.text
    assert await everything(postgres_url) == before


async def test_a_reason_is_kept_as_it_was_typed(served: Served, storage: PostgresStorage) -> None:
    typed = " Wörter\r\nund <script>alert(1)</script> \x00\u202eecho "
    assert (await send(served.http, "pause", await form_on(served.http) | {"reason": typed})).status_code == 303
    kept = (await newest(storage))[2]
    assert kept.startswith("Wörter\nund <script>alert(1)</script> ")
    assert "<script>alert" not in (await served.http.get("/dashboard", params={"agent": AGENT})).text


async def test_what_is_no_form_of_ours_does_nothing(served: Served, postgres_url: str) -> None:
    form = await form_on(served.http) | WHY
    before = await everything(postgres_url)
    for wrong in (
        {"experiment": ""},
        {"experiment": "-1"},
        {"experiment": "1.0"},
        {"experiment": "\u0661"},
        {"experiment": "9" * 30},
        {"agent": ""},
        {"agent": "a\x00"},
    ):
        assert (await send(served.http, "promote", form | wrong)).status_code == 422, wrong
    assert (await send(served.http, "promote", form | {"agent": "nobody"})).status_code == 409
    assert (await send(served.http, "promote", form | {"experiment": "4294967295"})).status_code == 409
    assert (await send(served.http, "promote", form | {"reason": "x" * 70_000})).status_code == 413
    assert (await served.http.post("/dashboard/promote", json=form)).status_code == 415
    assert (await served.http.get("/dashboard/promote", params=form)).status_code == 405
    assert await everything(postgres_url) == before


async def test_the_body_of_a_stranger_is_not_read(served: Served) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"a=" + b"x" * 500

    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = await served.client(STRANGER).post("/dashboard/promote", content=body(), headers=kind)
    assert where_to(answer)[0] == "/dashboard/sign-in"
    assert read <= 1


async def test_while_the_database_is_away_nothing_is_half_done(
    served: Served, storage: PostgresStorage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = await form_on(served.http) | WHY
    before = await everything(postgres_url)

    async def away(*_: object, **__: object) -> None:
        raise StorageUnavailableError("the database", "it is away")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "apply", away)
        answer = await send(served.http, "promote", form)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert answer.headers["retry-after"]
    assert await everything(postgres_url) == before
    assert (await send(served.http, "promote", form)).status_code == 303


async def test_no_person_acts_as_a_machine(experiment: Experiment, postgres_url: str) -> None:
    """What machines do is not audited."""
    for actor in ("controller", "trainer"):
        with pytest.raises(InvalidArgumentError, match="acts without being told"):
            await carry_out("promote", reason="Quietly.", actor=actor)
    assert await value(postgres_url, "SELECT count(*) FROM bindu_dspy.audit WHERE action = 'promote'") == 0


async def test_a_key_named_like_a_machine_is_audited(served: Served, storage: PostgresStorage) -> None:
    _, text = await create_key("controller", ["operate"])
    http = await signed_in(served, text)
    assert (await send(http, "promote", await form_on(http) | WHY)).status_code == 303
    assert ("promote", "key controller", WHY["reason"]) in await audited(storage)


def test_an_address_cannot_make_the_page_say_anything_else() -> None:
    assert said("promoted") == "The candidate is the active prompt now."
    assert [said(code) for code in (None, "", "<b>", "Send your key to evil.example")] == [None] * 4
