"""Models for the optimizers' tests, which are told to say sorry and tell others to, and optimizers that ask them."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

import dspy
from dspy import lm15
from dspy.teleprompt import COPRO, GEPA, SIMBA, MIPROv2
from dspy.teleprompt.teleprompt import Teleprompter

from bindu.dspy.engine import CountingEngine
from bindu.dspy.models import PromptCandidate
from bindu.dspy.objective import Objective, PythonMetric, TrustedObjective
from bindu.dspy.optimizer import Optimizer, resolve_optimizer, running
from bindu.dspy.optimizers import GepaOptimizer, MiproOptimizer, SimbaOptimizer
from providers import answer, scripted, text_of

START: Final = "Answer."
ADVICE: Final = "Say sorry at once."
BETTER: Final = f"{START}\n\n{ADVICE}"

_AUTHOR: Final = re.compile(r"\AYour input fields are:.*?^Your output fields are:$(.*?)^All inter", re.DOTALL | re.M)
_FIELD: Final = re.compile(r"^\d+\. `(\w+)`", re.MULTILINE)
_IN_JSON: Final = "Outputs will be a JSON object"


class Apprentice:
    """Says sorry once its prompt tells it to, and now and then by itself; as an author it advises to say sorry.

    What it says depends on the request and its seed alone, never on the order in which threads ask.
    """

    def __init__(self, advice: str = ADVICE) -> None:
        self.advice = advice
        self.engine: CountingEngine | None = None  # that asks it
        self.asked: Counter[str] = Counter()
        self.prompts: list[str] = []  # system messages, each as it came
        self._lock = threading.Lock()

    def complete(self, request: lm15.Request) -> lm15.Response:
        system = request.system if isinstance(request.system, str) else ""
        author = _AUTHOR.match(system)
        with self._lock:
            self.asked["reflection" if author else "answer"] += 1
            if not author:
                self.prompts.append(system)
        if author:
            return answer(self.writes(_FIELD.findall(author[1]), as_json=_IN_JSON in system))
        return answer(self.answers(system, f"{request.config.seed} {text_of(request)}"))

    def answers(self, system: str, draw: str) -> str:
        """One answer to a customer."""
        return "sorry, yes" if crc32(draw.encode()) % 5 == 0 or self.advice in system else "yes"

    def writes(self, fields: Sequence[str], *, as_json: bool) -> str:
        """One answer to a request of DSPy's for these output fields."""
        known: dict[str, Any] = {
            "module_advice": {"answer": self.advice},
            "new_instruction": f"{START}\n\n{self.advice}",
            "proposed_instruction": f"{START}\n\n{self.advice}",
        }
        said = {name: known.get(name, "Something.") for name in fields}
        if as_json:
            return json.dumps(said)
        texts = (f"[[ ## {name} ## ]]\n{v if isinstance(v, str) else json.dumps(v)}" for name, v in said.items())
        return "\n\n".join((*texts, "[[ ## completed ## ]]"))


class Restless(Apprentice):
    """Answers and advises anew each time, so that whatever an optimizer may try it tries."""

    def complete(self, request: lm15.Request) -> lm15.Response:
        self.advice = f"Say {crc32(repr(request).encode())}."
        return super().complete(request)

    def answers(self, system: str, draw: str) -> str:
        return f"It is {crc32(f'{system} {draw}'.encode())}."


def luck(example: dspy.Example, prediction: dspy.Prediction, *others: object) -> float:
    """A metric by which any prompt may be better than any other."""
    return crc32(f"{example.input} {prediction.output}".encode()) % 100 / 100


class Rewriter(Teleprompter):
    """A user's own optimizer: asks a model for one instruction and keeps it when it scores higher."""

    def __init__(self, metric: Callable[..., Any], prompt_model: dspy.LM | None = None) -> None:
        super().__init__()
        self.metric = metric
        self.prompt_model = prompt_model

    def compile(self, student: dspy.Module, *, trainset: list[dspy.Example]) -> dspy.Module:
        with dspy.context(lm=self.prompt_model or dspy.settings.lm):
            found = dspy.Predict("attempt -> proposed_instruction")(attempt="x").proposed_instruction
        other = student.deepcopy()
        other.answer.signature = other.answer.signature.with_instructions(found)
        evaluate = dspy.Evaluate(devset=trainset, metric=self.metric)
        scored = [{"program": one, "score": evaluate(one).score / 100} for one in (student, other)]
        best: dspy.Module = max(scored, key=lambda one: one["score"])["program"]
        best.candidate_programs = scored
        return best


def rows(count: int = 40, first: int = 0) -> list[dspy.Example]:
    return [
        dspy.Example(input=f"Question {n}?", output="Logged.", feedback_score=0.4, comments=()).with_inputs("input")
        for n in range(first, first + count)
    ]


def regret(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
    """A metric: 1 for an answer that says sorry, else 0."""
    return float("sorry" in prediction.output)


def regret_told(
    gold: dspy.Example, pred: dspy.Prediction, trace: object, pred_name: object, pred_trace: object
) -> dspy.Prediction:
    """The same as GEPA wants it."""
    return dspy.Prediction(score=regret(gold, pred), feedback="It does not say sorry.")


def own_lm(inner: Any = None, **config: Any) -> dspy.LM:
    """A language model as a user gives it to an optimizer."""
    return dspy.LM("scripted/own", engine=inner or Apprentice(), cache=False, **config)


def a_simba(metric: Callable[..., Any] = regret, **given: Any) -> SIMBA:
    return SIMBA(metric=metric, **{"bsize": 8, "max_steps": 2, "num_candidates": 3, "max_demos": 0, **given})


def a_gepa(metric: Callable[..., Any] = regret_told, *, prompt_model: dspy.LM | None = None, **given: Any) -> GEPA:
    return GEPA(metric=metric, reflection_lm=prompt_model or own_lm(), **(given or {"max_metric_calls": 60}))


def a_mipro(metric: Callable[..., Any] = regret, *, prompt_model: dspy.LM | None = None, **given: Any) -> MIPROv2:
    own = prompt_model or own_lm()
    given = {"task_model": own, "max_bootstrapped_demos": 0, "max_labeled_demos": 0, **given}
    return MIPROv2(metric=metric, prompt_model=own, **given)


def a_copro(metric: Callable[..., Any] = regret, **given: Any) -> COPRO:
    return COPRO(metric=metric, **{"breadth": 3, "depth": 2, **given})


OURS: Final[dict[str, Callable[[], Optimizer]]] = {
    "simba": lambda: SimbaOptimizer(bsize=16, num_candidates=3, max_steps=2),
    "gepa": lambda: GepaOptimizer(max_metric_calls=60),
    "miprov2": MiproOptimizer,
}
INSTANCES: Final[dict[str, Callable[..., Teleprompter]]] = {
    "SIMBA": a_simba,
    "GEPA": a_gepa,
    "MIPROv2": a_mipro,
    "COPRO": a_copro,
    "Rewriter": Rewriter,
}
ALL: Final = (*OURS, *INSTANCES)


def of(name: str, inner: Any = None, metric: Callable[..., Any] | None = None) -> Optimizer:
    """One of ours, or an instance that a user made, with their own language model."""
    if name in OURS:
        return OURS[name]()
    metric = metric or (regret_told if name == "GEPA" else regret)
    return resolve_optimizer(INSTANCES[name](metric, prompt_model=own_lm(inner)))


@dataclass(frozen=True, slots=True)
class Compiled:
    """What came of one compilation, and who was asked."""

    found: list[PromptCandidate]
    inner: Any
    engine: CountingEngine


def compiled(
    optimizer: Optimizer,
    *,
    examples: Sequence[dspy.Example] | None = None,
    select: int = 12,
    seed: int = 0,
    threads: int = 1,
    objective: Objective | None = None,
    inner: Any = None,
    **engine_options: Any,
) -> Compiled:
    """Run one optimizer as a training run does."""
    inner = inner or Apprentice()
    engine = scripted(inner, **{"max_calls": 9_999, "seed": seed, **engine_options})
    inner.engine = engine
    with running(engine, num_threads=threads):
        chosen = optimizer.objective or objective or PythonMetric(regret)
        found = optimizer.compile(
            START,
            rows() if examples is None else examples,
            select=rows(select, first=1_000),
            objective=TrustedObjective(chosen, engine),
            engine=engine,
            seed=seed,
        )
    return Compiled(found, inner, engine)


def run(name: str, inner: Any = None, metric: Callable[..., Any] | None = None, **options: Any) -> Compiled:
    """Compile by name; one model plays all roles, the user's own included."""
    inner = inner or Apprentice()
    objective = None if metric is None else PythonMetric(metric)
    return compiled(of(name, inner, metric), inner=inner, objective=objective, **options)
