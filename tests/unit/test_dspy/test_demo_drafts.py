"""What is put on trial while somebody watches the demo."""

from __future__ import annotations

import pytest

from bindu.dspy.simulation.desk import IDEAL_PROMPT, START_PROMPT, Desk
from bindu.dspy.simulation.drafts import DRAFTS, shorter

PARAGRAPHS = (
    "You help.\n\nBe brief. Name the time frame in days or hours.\n\nBe brief. Say sorry when something went wrong."
)


@pytest.mark.parametrize("served", [IDEAL_PROMPT, PARAGRAPHS])
def test_a_shorter_version_lacks_one_sentence_wherever_it_stood_and_is_otherwise_the_same(served: str) -> None:
    what, text = shorter(Desk(seed=0, agent_id="desk"), served)
    left_out = what.partition("“")[2].partition("”")[0]
    assert left_out
    assert left_out not in text
    assert "".join(text.split()) == "".join(served.replace(left_out, "").split())
    assert "\n\n\n" not in text
    assert "  " not in text


@pytest.mark.parametrize("seed", range(3))
def test_it_is_truly_a_little_worse_in_every_world(seed: int) -> None:
    desk = Desk(seed=seed, agent_id="desk")
    loss = desk.measure(IDEAL_PROMPT) - desk.measure(shorter(desk, IDEAL_PROMPT)[1])
    assert 0.02 < loss < 0.1


def test_the_last_draft_is_truly_good() -> None:
    desk = Desk(seed=0, agent_id="desk")
    assert desk.measure(DRAFTS[-1](desk, START_PROMPT)[1]) > 0.9


def test_a_prompt_of_one_sentence_is_not_shortened_to_nothing() -> None:
    assert shorter(Desk(seed=0, agent_id="desk"), "You help.")[1] == IDEAL_PROMPT
