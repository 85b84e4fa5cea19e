"""What a run will cost at most, told before it spends anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Final

from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.speakers import Role
from bindu.dspy.models import JsonObject
from bindu.dspy.objective import Metric, ObjectiveName
from bindu.dspy.objective.learned import learning_calls
from bindu.dspy.optimizer import Optimizer
from bindu.dspy.splits import Split
from bindu.dspy.training.search import MAX_TRAIN_ROWS, MOST_CHOICES, SAMPLES

__all__ = ["Estimate", "estimate"]

_LETTERS: Final = 4  # characters of a token, about
_SCAFFOLD: Final = 600  # tokens that DSPy puts around what a judge or a reflector reads
_REFLECTED: Final = 6_000  # tokens that a reflector reads, about
_JUDGED: Final = 120  # tokens that a judge writes
_PROPOSED: Final = 300  # tokens that a reflector writes
_LIKELY: Final = 0.6  # share of the most that a run usually makes: much is asked twice and answered from memory
_SECONDS: Final = (0.5, 4.0)  # of a call, from a quick model to a slow one


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The most calls that a run makes when all answers can be read, and what they come to.

    A call that fails and is tried again comes on top. Tokens are estimates, prices those of the price list.
    """

    calls: dict[Role, int]
    tokens: dict[str, int]  # input and output
    dollars: tuple[float, float] | None  # likely and most; None when a price is unknown
    minutes: tuple[float, float]  # with a quick model and with a slow one
    counted: bool = True  # False for an optimizer whose calls nobody can count: then only the limits hold
    unpriced: tuple[str, ...] = field(default=())

    @property
    def total(self) -> int:
        return sum(self.calls.values())

    @property
    def sentence(self) -> str:
        """For people."""
        most = f"at most {self.total:,} model calls" if self.counted else f"{self.total:,} model calls and more"
        if self.dollars is None:
            money = f"at a price that is not known for {', '.join(self.unpriced)}"
        else:
            money = f"${self.dollars[0]:.2f} to ${self.dollars[1]:.2f}"
        tokens = f"{self.tokens['input']:,} tokens in and {self.tokens['output']:,} out"
        return f"A run makes {most} ({tokens}), {money}, in {_minutes(*self.minutes)}."

    def as_json(self) -> JsonObject:
        """For the run's record."""
        return asdict(self) | {"total": self.total}


def estimate(
    optimizer: Optimizer, split: Split, objective: ObjectiveName | Metric, engine: CountingEngine, prompt: str
) -> Estimate:
    """Count what ``Search`` does with these rows, and price it."""
    plan = optimizer.plan(min(len(split.train_rows), MAX_TRAIN_ROWS), len(split.select))
    choices = 0 if optimizer.selects else MOST_CHOICES * SAMPLES * len(split.select)
    proof = 2 * SAMPLES * len(split.accept)
    own = optimizer.objective is not None or callable(objective)
    judged = not own and objective in ("judge", "correction")
    inductions, readings = learning_calls(split) if not own and objective == "judge" else (0, 0)
    calls: dict[Role, int] = {"agent": plan.evaluations + choices + proof + 1, "reflector": plan.reflections + 1}
    calls["reflector"] += inductions
    calls["judge"] = readings + 1 + (plan.evaluations + choices if judged else 0)
    calls["gatekeeper"] = proof if judged else 0
    asked, answered, ruled = _sizes(split, prompt)
    read = {
        "agent": ruled + asked,
        "reflector": _SCAFFOLD + _REFLECTED,
        "judge": _SCAFFOLD + ruled + asked + 2 * answered,
    }
    read["gatekeeper"] = read["judge"]
    written = {"agent": answered, "reflector": _PROPOSED, "judge": _JUDGED, "gatekeeper": _JUDGED}
    return _priced(calls, read, written, engine, counted=plan.known)


def _sizes(split: Split, prompt: str) -> tuple[int, int, int]:
    """Tokens of a question, of an answer, and of a prompt that has grown by half."""
    rows = split.train_rows or [row for one in split.accept for row in one.rows]
    asked = fmean(len(row.user_input) for row in rows) / _LETTERS
    answered = fmean(len(row.agent_output) for row in rows) / _LETTERS
    return int(asked) + 1, int(answered) + 1, int(1.5 * len(prompt) / _LETTERS) + 1


def _priced(
    calls: dict[Role, int], read: dict[str, int], written: dict[str, int], engine: CountingEngine, *, counted: bool
) -> Estimate:
    total = {"input": 0, "output": 0}
    dollars, unpriced = 0.0, set()
    for role, count in calls.items():
        total["input"] += count * read[role]
        total["output"] += count * written[role]
        speaker = engine.speaker(role)
        if speaker.price is None:
            unpriced.add(speaker.model)
        else:
            dollars += speaker.price.of(count * read[role], count * written[role])
    made = sum(calls.values())
    quick, slow = (made * seconds / engine.concurrency / 60 for seconds in _SECONDS)
    return Estimate(
        calls=calls,
        tokens=total,
        dollars=None if unpriced else (_LIKELY * dollars, dollars),
        minutes=(_LIKELY * quick, slow),
        counted=counted,
        unpriced=tuple(sorted(unpriced)),
    )


def _minutes(quick: float, slow: float) -> str:
    if slow < 1:
        return "less than a minute"
    return f"{'less than 1' if quick < 1 else f'{quick:,.0f}'} to {slow:,.0f} minutes"
