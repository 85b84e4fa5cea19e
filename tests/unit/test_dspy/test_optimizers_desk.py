"""On the simulated desk each of our optimizers finds a prompt that its users truly like better."""

from __future__ import annotations

import dspy
import pytest

from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import TrustedObjective
from bindu.dspy.objective.judge import Judge
from bindu.dspy.optimizer import Optimizer, SimbaOptimizer, running
from bindu.dspy.optimizers import GepaOptimizer, MiproOptimizer
from bindu.dspy.rubric import Rubric, RubricRule
from bindu.dspy.simulation.desk import START_PROMPT
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.measure import measure
from bindu.dspy.simulation.model import SimulatedModel
from bindu.dspy.simulation.questions import questions
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.users import SimulatedUsers
from providers import scripted

TRAITS = [trait for trait in SHOP.reading.traits.values() if not trait.advised_against]
RUBRIC = Rubric(START_PROMPT, tuple(RubricRule(trait.do[0]) for trait in TRAITS[:8]))
OPTIMIZERS = {
    "simba": SimbaOptimizer(bsize=16, num_candidates=4, max_steps=4),
    "gepa": GepaOptimizer(max_metric_calls=150),
    "miprov2": MiproOptimizer(),
}


def logged(count: int, seed: int = 1) -> list[dspy.Example]:
    """Answers under the start prompt, with what users said of them."""
    model, users = SimulatedModel(seed), SimulatedUsers(seed)
    found = []
    for number, question in enumerate(questions(count, seed=seed)):
        said = model.reply(START_PROMPT, [("user", question)])
        reaction = users.react(question, said, occasion=number)
        comment = reaction and reaction.feedback.get("comment")
        row = dspy.Example(input=question, output=said, feedback_score=0.4, comments=(comment,) if comment else ())
        found.append(row.with_inputs("input"))
    return found


def trained(optimizer: Optimizer, threads: int) -> tuple[list[PromptCandidate], dict[str, int]]:
    engine = scripted(SimulatedEngine(1), max_calls=5_000)
    examples = logged(60)
    with running(engine, num_threads=threads):
        objective = TrustedObjective(Judge(engine, RUBRIC), engine)
        found = optimizer.compile(
            START_PROMPT, examples[:44], select=examples[44:], objective=objective, engine=engine, seed=3
        )
    return found, dict(engine.calls)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_finds_a_prompt_that_is_truly_better_whatever_the_threads(name: str) -> None:
    optimizer = OPTIMIZERS[name]
    found, calls = trained(optimizer, 8)
    assert measure(found[0].text, 200) > measure(START_PROMPT, 200) + 0.15
    plan = optimizer.plan(44, 16)
    assert max(calls["agent"], calls["judge"]) <= plan.evaluations
    assert 0 < calls["reflector"] <= plan.reflections
    assert trained(optimizer, 1) == (found, calls)
