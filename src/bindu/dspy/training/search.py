"""From examples to one proven prompt: learn what is wanted, propose, check, choose on *select*, prove on *accept*."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Final

from bindu.dspy.barred import barred_by
from bindu.dspy.dataset import convert_to_dspy_examples
from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import HOW_ENDED, ModelUnavailableError, TrainingRefusedError
from bindu.dspy.gate import GateVerdict, Paired, accept_candidate
from bindu.dspy.models import Interaction, JsonObject, PromptCandidate
from bindu.dspy.objective import Metric, Objective, ObjectiveName, PythonMetric, TrustedObjective
from bindu.dspy.objective.learned import LearnedObjective, Learning
from bindu.dspy.objective.references import Imitation
from bindu.dspy.optimizer import Answer, Optimizer, answer_all
from bindu.dspy.promptcheck import Refusal, check_prompt, same_text
from bindu.dspy.splits import Conversation, Split
from bindu.dspy.units import BarredText

__all__ = ["MAX_TRAIN_ROWS", "MOST_CHOICES", "SAMPLES", "Choice", "Search"]

Record = Callable[[str, object], None]

SAMPLES: Final = 3  # fresh answers per conversation and prompt, wherever prompts are compared
MAX_TRAIN_ROWS: Final = 64  # newest ones: more cost calls without choosing better
MOST_CHOICES: Final = 3  # prompts that are compared on *select*: a small set would pick a lucky one out of more

_CAUSES: Final[Mapping[str, str]] = {  # of a refusal, by the rule that the best proposal broke
    "length": "prompt_too_long",
    "copied": "prompt_copies_customers",
    "private": "prompt_names_customers",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The one candidate of a run, and what shall judge it."""

    candidate: PromptCandidate
    objective: Objective
    select_score: float | None = None  # on *select*, where it was compared with others


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything one search needs; ``choose`` and ``prove`` block: in a thread, under ``optimizer.running``."""

    prompt: str
    split: Split
    heard: Split  # what optimizers, objectives and the gate are shown: without orders where an objective is learned
    optimizer: Optimizer
    objective: ObjectiveName | Metric
    learning: Learning
    engine: CountingEngine
    seed: int
    rolled_back: Sequence[str]  # without those of the barred ones
    barred: Sequence[BarredText]
    similar: float  # from this similarity on a proposal counts as tried
    margin: float
    fewest: int  # conversations that the gate must be able to score
    record: Record  # what the run's record shall remember, step by step

    def choose(self) -> Choice | None:
        """The best permitted prompt, or None when nothing new was proposed.

        Raises TrainingRefusedError, ModelUnavailableError and BudgetExceededError, as ``prove`` does.
        """
        objective = self._learned()
        self.record("step", f"{self.optimizer.name} writes prompts")
        optimize = TrustedObjective(objective.optimize, self.engine)
        proposed = self.optimizer.compile(
            self.prompt,
            convert_to_dspy_examples(self.heard.train_rows[-MAX_TRAIN_ROWS:]),
            select=convert_to_dspy_examples(_last_rows(self.heard.select)),
            objective=optimize,
            engine=self.engine,
            seed=self.seed,
        )
        self.engine.check()
        fresh = [one for one in proposed if not same_text(one.text, self.prompt)]
        if not fresh or (self.optimizer.selects and fresh[0] is not proposed[0]):
            return None
        prove = TrustedObjective(objective.prove, self.engine)
        permitted = self._permitted(fresh)
        if self.optimizer.selects:
            self.record("best_select", permitted[0].score)
            return Choice(permitted[0], prove, permitted[0].score)
        return self._best(permitted[:MOST_CHOICES], optimize, prove)

    def prove(self, choice: Choice) -> GateVerdict:
        """Ask the conversations in *accept*: whoever calls this has first recorded that they are spent."""
        self.record("step", "proving on conversations that nobody has seen")
        prompts = [self.prompt, choice.candidate.text]
        active, candidate = self._answered(prompts, self.heard.accept, choice.objective, "accept")
        pairs = _paired(active, candidate)
        if len(pairs) < self.fewest:
            raise ModelUnavailableError(
                f"Only {len(pairs)} of {len(active)} conversations could be scored and the proof needs {self.fewest}. "
                "Nothing was deployed. Look at the model's errors in the run's record.",
                cause="model_failing",
            )
        return accept_candidate(pairs, margin=self.margin, seed=self.seed)

    def _learned(self) -> LearnedObjective:
        """What was asked for, tried on a logged answer and with each model asked one question."""
        self.record("step", "asking each model one question")
        own = self._without_learning()
        if own is not None:
            TrustedObjective(own, self.engine).probe(self.heard.train_rows[-1])
            self.engine.preflight(("agent", "reflector"))
            return LearnedObjective(own, own)
        self.engine.preflight()
        self.record("step", "learning what users want")
        match self.objective:
            case "reward_model":
                return self.learning.reward_model()
            case "correction":
                return self.learning.correction()
            case _:
                return self.learning.judge()

    def _without_learning(self) -> Objective | None:
        if self.optimizer.objective is not None:
            return self.optimizer.objective
        if callable(self.objective):
            return PythonMetric(self.objective)
        return Imitation() if self.objective == "imitation" else None

    def _permitted(self, candidates: Sequence[PromptCandidate]) -> list[PromptCandidate]:
        """Those that break no rule, in the optimizer's order; refuses when there is none."""
        refusals: list[JsonObject] = []
        permitted = []
        for number, one in enumerate(candidates):
            broken = self._broken(one.text)
            refusals += [{"candidate": number, "rule": it.rule, "reason": it.reason, "offending": it.offending[:300]}
                         for it in broken]  # fmt: skip
            earlier = barred_by(one.text, self.barred, similar=self.similar, active=self.prompt)
            if earlier is not None:
                refusals.append({"candidate": number, "rule": "tried", "reason": _tried(earlier), "offending": ""})
            elif not broken:
                permitted.append(one)
        self.record("prompt_refusals", refusals)
        if not permitted:
            raise TrainingRefusedError(
                f"Every prompt that {self.optimizer.name} proposed breaks a rule. The best one: "
                f"{refusals[0]['reason']} Nothing was deployed.",
                cause=_CAUSES.get(refusals[0]["rule"], "prompt_refused"),
            )
        return permitted

    def _broken(self, text: str) -> list[Refusal]:
        rows = self.split.train_rows
        return check_prompt(
            text,
            active=self.prompt,
            training_texts=[said for row in rows for said in _texts(row)],
            customer_texts=[said for row in rows for said in (row.user_input, *row.comments, row.correction or "")],
            rolled_back=self.rolled_back,
        )

    def _best(self, candidates: Sequence[PromptCandidate], optimize: Objective, prove: Objective) -> Choice:
        """The optimizer's first, unless a later one beats it on *select* by more than a standard error."""
        self.record("step", "comparing prompts on select")
        answers = self._answered([one.text for one in candidates], self.heard.select, optimize, "select")
        best = 0
        for challenger in range(1, len(candidates)):
            gains = [pair.candidate - pair.active for pair in _paired(answers[best], answers[challenger])]
            if len(gains) > 1 and fmean(gains) > stdev(gains) / sqrt(len(gains)):
                best = challenger
        scores = [_score(seen) for seen in answers]
        found = [
            {"select_score": score, "train_score": one.score, "length": len(one.text)}
            for one, score in zip(candidates, scores, strict=True)
        ]
        self.record("candidates", found)
        self.record("best_select", scores[best])
        return Choice(candidates[best], prove, scores[best])

    def _answered(
        self, prompts: Sequence[str], conversations: Sequence[Conversation], objective: Objective, name: str
    ) -> list[list[_Mean | None]]:
        """Fresh answers of each prompt to each conversation's last question, one mean per conversation."""
        rows = convert_to_dspy_examples(_last_rows(conversations))
        answers = answer_all(prompts, rows, objective, name=name, samples=SAMPLES)
        self.engine.check()
        return [[_mean(samples) for samples in of_prompt] for of_prompt in answers]


@dataclass(frozen=True, slots=True)
class _Mean:
    score: float
    length: float


def _mean(samples: Sequence[Answer]) -> _Mean | None:
    if not samples:
        return None
    return _Mean(fmean(one.score for one in samples), fmean(one.length for one in samples))


def _paired(ours: Sequence[_Mean | None], theirs: Sequence[_Mean | None]) -> list[Paired]:
    return [
        Paired(left.score, right.score, left.length, right.length)
        for left, right in zip(ours, theirs, strict=True)
        if left is not None and right is not None
    ]


def _score(answers: Sequence[_Mean | None]) -> float:
    return fmean([one.score for one in answers if one is not None] or [0.0])


def _last_rows(conversations: Sequence[Conversation]) -> list[Interaction]:
    return [conversation.rows[-1] for conversation in conversations]


def _tried(earlier: BarredText) -> str:
    how = HOW_ENDED[earlier.outcome]
    return f"The prompt is much like prompt {earlier.prompt_id}, which was tried before and {how}."


def _texts(row: Interaction) -> list[str]:
    return [row.user_input, row.agent_output, *row.comments, row.correction or ""]
