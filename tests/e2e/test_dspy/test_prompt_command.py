"""``bindu prompt add`` as a person uses it: a text that lost is refused, a word makes it pass, and time is foretold."""

import json
from functools import partial

import pytest

from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt, update_prompt_status
from commands import Bindu

LOSER = "You help customers of a parcel service and you answer in one sentence."


@pytest.fixture
def add(bindu: Bindu) -> Bindu:
    return partial(bindu, "prompt", "add", DSPY__CANARY__RULE="evidence")


async def test_a_text_that_lost_needs_a_persons_word(storage: PostgresStorage, add: Bindu) -> None:
    await bootstrap_prompt("You help.")
    await update_prompt_status(await insert_prompt(LOSER, "candidate", 0.1), "rolled_back")
    before = await storage.prompts("default")
    for words in ((), ("--dry-run",)):
        refused = add(*words, stdin=LOSER)
        assert refused.returncode == 3
        assert refused.stdout == ""
        assert "error: This text was tried before: prompt 2 is the same or much like it" in refused.stderr
        assert "--again" in refused.stderr
    rehearsed = add("--again", "--dry-run", stdin=LOSER)
    assert rehearsed.stdout == "Would become candidate with 10% of the traffic.\n"
    assert await storage.prompts("default") == before
    added = json.loads(add("--again", "--json", stdin=LOSER).stdout)
    assert (added["id"], added["status"], added["dry_run"]) == (3, "candidate", False)


async def test_who_adds_a_candidate_is_told_how_long_it_takes(storage: PostgresStorage, add: Bindu) -> None:
    first = add(stdin="You help.")
    second = add(stdin="You help well.")
    assert first.stdout == "Prompt 1 is active with 100% of the traffic.\n"
    assert second.stdout == (
        "Prompt 2 is candidate with 10% of the traffic. "
        "There is no feedback to decide by yet: without a verdict it ends after 14 days.\n"
    )
    (experiment,) = await storage.experiments("default")
    assert experiment.policy["rule"] == "evidence"


def test_under_the_means_rule_no_time_is_foretold(add: Bindu) -> None:
    by_means = partial(add, DSPY__CANARY__RULE="means")
    by_means(stdin="You help.")
    assert by_means(stdin="You help well.").stdout == "Prompt 2 is candidate with 10% of the traffic.\n"


async def test_a_rehearsal_is_refused_where_the_deed_would_be(storage: PostgresStorage, add: Bindu) -> None:
    await bootstrap_prompt("You help.")

    def refused(text: str) -> str:
        rehearsed, done = add("--dry-run", stdin=text), add(stdin=text)
        assert (rehearsed.returncode, rehearsed.stderr) == (done.returncode, done.stderr)
        assert done.returncode != 0
        return done.stderr

    assert "the active prompt 1" in refused("You help.")
    assert add(stdin="You help well.").returncode == 0
    assert "2" in refused("You help at once.")
    assert len(await storage.prompts("default")) == 2
