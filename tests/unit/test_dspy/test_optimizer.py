"""Optimizers that rewrite instructions are let in, all others are refused before anything is spent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15
from dspy.teleprompt import (
    COPRO,
    GEPA,
    SIMBA,
    AvatarOptimizer,
    BetterTogether,
    BootstrapFewShot,
    BootstrapFewShotWithOptuna,
    BootstrapFewShotWithRandomSearch,
    BootstrapFinetune,
    Ensemble,
    InferRules,
    KNNFewShot,
    LabeledFewShot,
    MIPROv2,
)
from dspy.teleprompt.bootstrap_finetune import FinetuneTeleprompter
from dspy.teleprompt.grpo import GRPO
from dspy.teleprompt.reanchor import ReAnchor
from dspy.teleprompt.teleprompt import Teleprompter

from apprentice import Apprentice, Rewriter, a_copro, a_gepa, a_mipro, a_simba, regret, rows
from bindu.dspy.errors import UnsupportedOptimizerError
from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import Objective, PythonMetric
from bindu.dspy.optimizer import Optimizer, Plan, SimbaOptimizer, answer_all, resolve_optimizer, running
from bindu.dspy.optimizers import GepaOptimizer, InstanceOptimizer, MiproOptimizer
from providers import scripted, text_of

CANNOT = {
    AvatarOptimizer: "rewrites the tools' instructions",
    BetterTogether: "changes a model's weights",
    BootstrapFewShot: "only adds examples",
    BootstrapFewShotWithOptuna: "only adds examples",
    BootstrapFewShotWithRandomSearch: "only adds examples",
    BootstrapFinetune: "changes a model's weights",
    Ensemble: "combines programs",
    FinetuneTeleprompter: "changes a model's weights",
    GRPO: "changes a model's weights",
    InferRules: "writes its rules into a class that all prompts share",
    KNNFewShot: "only adds examples",
    LabeledFewShot: "only adds examples",
    ReAnchor: "fits the thresholds of decisions",
}


class Mine:
    """An optimizer of ones own, by its shape."""

    name = "mine"
    min_rows = 1
    selects = True
    objective: Objective | None = None

    def plan(self, rows: int, select: int) -> Plan:
        return Plan(rows + select, 0)

    def compile(self, prompt: str, examples: Sequence[dspy.Example], **seam: Any) -> list[PromptCandidate]:
        return []


@pytest.mark.parametrize(
    ("given", "kind"),
    [("simba", SimbaOptimizer), (" SIMBA ", SimbaOptimizer), ("Gepa", GepaOptimizer), ("MIPROv2", MiproOptimizer)],
)
def test_ours_are_taken_by_name_in_any_case(given: str, kind: type) -> None:
    chosen = resolve_optimizer(given)
    assert type(chosen) is kind
    assert chosen.name == given.strip().lower()
    assert chosen.objective is None


def test_simba_is_taken_as_a_class() -> None:
    assert resolve_optimizer(SIMBA).name == "simba"


@pytest.mark.parametrize(
    ("make", "name", "selects"),
    [
        (a_simba, "simba", False),
        (a_gepa, "gepa", True),
        (a_mipro, "miprov2", True),
        (a_copro, "copro", False),
        (lambda: Rewriter(regret), "rewriter", False),
    ],
)
def test_instances_are_taken_with_their_metric(make: Callable[[], Teleprompter], name: str, selects: bool) -> None:
    chosen = resolve_optimizer(make())
    assert (chosen.name, chosen.selects) == (name, selects)
    assert isinstance(chosen.objective, PythonMetric)


@pytest.mark.parametrize("mine", [Mine(), SimbaOptimizer(max_steps=2), GepaOptimizer(9), MiproOptimizer()])
def test_optimizers_of_the_right_shape_are_taken_as_they_are(mine: Optimizer) -> None:
    assert resolve_optimizer(mine) is mine


def bare(kind: type) -> object:
    """An instance without whatever its kind needs to be made."""
    return kind.__new__(kind)


@pytest.mark.parametrize(("kind", "why"), CANNOT.items(), ids=lambda one: getattr(one, "__name__", ""))
@pytest.mark.parametrize("given", [bare, lambda kind: kind, lambda kind: bare(type("Better", (kind,), {}))])
def test_what_cannot_rewrite_instructions_is_refused_by_name_with_why(
    kind: type, why: str, given: Callable[[type], object]
) -> None:
    one = given(kind)
    name = one.__name__ if isinstance(one, type) else type(one).__name__
    with pytest.raises(UnsupportedOptimizerError, match=f"'{name}' is not supported: it {why}") as refused:
        resolve_optimizer(one)
    assert isinstance(refused.value, ValueError)


def test_a_user_s_class_that_shares_only_a_name_with_dspy_s_is_taken() -> None:
    class Ensemble(Rewriter):
        pass

    assert isinstance(resolve_optimizer(Ensemble(regret)), InstanceOptimizer)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("bootstrap", "'bootstrap' is not supported. There are simba, gepa, miprov2"),
        ("", "'' is not supported"),
        (None, "'NoneType' is not supported"),
        (7, "'int' is not supported"),
        (regret, "'function' is not supported"),
        (MIPROv2, "'MIPROv2' is not supported: it is a class"),
        (GEPA, "'GEPA' is not supported: it is a class"),
        (COPRO, "'COPRO' is not supported: it is a class"),
        (SimbaOptimizer, "'SimbaOptimizer' is not supported: it is a class"),
        (Mine, "'Mine' is not supported: it is a class"),
    ],
)
def test_what_is_no_optimizer_is_refused_by_name(given: object, said: str) -> None:
    with pytest.raises(UnsupportedOptimizerError, match=said):
        resolve_optimizer(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"auto": None}, "MIPROv2 is told either auto or num_candidates"),
        ({"num_candidates": 4}, "MIPROv2 is told either auto or num_candidates"),
        ({"max_labeled_demos": 2}, "MIPROv2 cannot use labeled demos without bootstrapped ones"),
    ],
)
def test_a_mipro_that_dspy_would_refuse_later_is_refused_at_once(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedOptimizerError, match=said):
        resolve_optimizer(a_mipro(**given))


@pytest.mark.parametrize("make", [a_simba, a_copro, lambda **given: Rewriter(regret, **given)])
def test_a_model_whose_calls_nobody_could_count_is_refused(make: Callable[..., Teleprompter]) -> None:
    class Legacy(dspy.BaseLM):
        pass

    with pytest.raises(UnsupportedOptimizerError, match=r"it brings a model of the class Legacy, .*Give it a dspy\.LM"):
        resolve_optimizer(make(prompt_model=Legacy("mine/own")))


PLUGIN = """
from test_optimizer import Mine
from dspy.teleprompt import BootstrapFewShot, SIMBA

instance = Mine()
simba = SIMBA(metric=lambda example, prediction: 1.0)
class Kind(Mine):
    name = "kind"
class Started(Mine):
    def __init__(self):
        self.name = "started"
def factory():
    return Kind()
def of_simba():
    return simba
def fails():
    raise OSError("no licence")
def says():
    return "simba"
def nothing():
    return None
def needs(this):
    return this
text = "simba"
number = 7
few_shot = BootstrapFewShot
"""
ENTRIES = {
    "One": "plugin:instance",
    "kind": "plugin:Kind",
    "started": "plugin:Started",
    "made": "plugin:factory",
    "of-simba": "plugin:of_simba",
    "dspys": "plugin:simba",
    "gone": "nowhere:thing",
    "missing": "plugin:absent",
    "broken": "plugin:fails",
    "says": "plugin:says",
    "nothing": "plugin:nothing",
    "needs": "plugin:needs",
    "text": "plugin:text",
    "number": "plugin:number",
    "few": "plugin:few_shot",
    "odd": "not an entry",
    "simba": "plugin:instance",
}


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution on the path whose entry points name optimizers, some of which are none."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in ENTRIES.items()]
    (info / "entry_points.txt").write_text("\n".join(["[bindu.optimizers]", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.delitem(sys.modules, "plugin", raising=False)


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("one", "mine"),
        (" ONE", "mine"),
        ("kind", "kind"),
        ("started", "started"),
        ("made", "kind"),
        ("of-simba", "simba"),
        ("dspys", "simba"),
    ],
)
def test_entry_points_may_be_instances_classes_and_factories(given: str, name: str) -> None:
    chosen = resolve_optimizer(given)
    assert chosen.name == name
    assert isinstance(chosen, Optimizer)


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("gone", "'gone' is not supported: it cannot be loaded from nowhere:thing: ModuleNotFoundError"),
        ("missing", "'missing' is not supported: it cannot be loaded from plugin:absent: AttributeError"),
        ("broken", "'broken' is not supported: it cannot be loaded from plugin:fails: OSError: no licence"),
        ("needs", "'needs' is not supported: it cannot be loaded from plugin:needs: TypeError"),
        ("odd", "'odd' is not supported: it cannot be loaded from not an entry"),
        ("says", "'says' is not supported: it is a text in plugin:says"),
        ("text", "'text' is not supported: it is a text in plugin:text"),
        ("nothing", "'NoneType' is not supported"),
        ("number", "'int' is not supported"),
        ("few", "'BootstrapFewShot' is not supported: it only adds examples"),
    ],
)
def test_entry_points_that_are_no_optimizers_are_refused_with_a_sentence(given: str, said: str) -> None:
    with pytest.raises(UnsupportedOptimizerError, match=said):
        resolve_optimizer(given)


@pytest.mark.usefixtures("plugged")
def test_entry_points_do_not_take_our_names_and_are_named_when_a_name_is_unknown() -> None:
    assert isinstance(resolve_optimizer("simba"), SimbaOptimizer)
    with pytest.raises(UnsupportedOptimizerError, match=r"There are simba, gepa, miprov2, .*kind.*one"):
        resolve_optimizer("unknown")


class Fragile(Apprentice):
    """Does not answer one of the questions."""

    def complete(self, request: lm15.Request) -> lm15.Response:
        if text_of(request) == "Question 3?":
            raise lm15.InvalidRequestError("not this one")
        return super().complete(request)


def test_answers_come_in_order_and_a_failed_one_is_left_out() -> None:
    engine = scripted(Fragile(), max_calls=99)
    number = PythonMetric(lambda example, prediction: int(example.input[9]) / 10)
    with running(engine, num_threads=4):
        (answers,) = answer_all(["Say sorry at once."], rows(6), number, name="select", samples=3)
    assert [[one.score for one in samples] for samples in answers] == [
        [0.0] * 3, [0.1] * 3, [0.2] * 3, [], [0.4] * 3, [0.5] * 3
    ]  # fmt: skip
    assert {one.length for samples in answers for one in samples} == {len("sorry, yes")}


def test_each_sample_is_asked_anew_and_by_the_same_name_once() -> None:
    inner = Apprentice()
    engine = scripted(inner)
    with running(engine, num_threads=2):
        (first,) = answer_all(["Answer."], rows(5), PythonMetric(regret), name="select", samples=3)
        assert inner.asked["answer"] == 15
        assert answer_all(["Answer."], rows(5), PythonMetric(regret), name="select", samples=3) == [first]
        assert inner.asked["answer"] == 15
        answer_all(["Answer."], rows(5), PythonMetric(regret), name="accept", samples=1)
    assert inner.asked["answer"] == 20
    assert len({one.score for samples in first for one in samples}) == 2


def test_there_is_nothing_to_answer_without_examples() -> None:
    with running(scripted(Apprentice()), num_threads=2):
        assert answer_all(["Answer."], [], PythonMetric(regret), name="select", samples=3) == [[]]
