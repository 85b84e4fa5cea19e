"""From examples to one proven prompt: learn a rubric, propose, check, choose on *select*, then prove on *accept*."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from bindu.dspy.barred import barred_by
from bindu.dspy.dataset import convert_to_dspy_examples
from bindu.dspy.engine import ROLES, CountingEngine
from bindu.dspy.errors import HOW_ENDED, ModelUnavailableError, TrainingRefusedError
from bindu.dspy.gate import GateVerdict, Paired, accept_candidate
from bindu.dspy.models import Interaction, JsonObject, PromptCandidate
from bindu.dspy.objective import (
    RUBRIC_CALLS,
    Imitation,
    Judge,
    Metric,
    Objective,
    ObjectiveName,
    PythonMetric,
    TrustedObjective,
    induce_rubric,
)
from bindu.dspy.optimizer import Answer, Optimizer, answer_all
from bindu.dspy.promptcheck import check_prompt, same_text
from bindu.dspy.splits import Conversation, Split
from bindu.dspy.units import BarredText

__all__ = ["Choice", "Search", "planned_calls"]

Record = Callable[[str, object], None]

SAMPLES = 3  # fresh answers per conversation and prompt, wherever prompts are compared
MAX_TRAIN_ROWS = 96  # newest ones: more cost calls without choosing better
_MOST_CHOICES = 3  # prompts that are compared on *select*: a small set would pick a lucky one out of more


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
    optimizer: Optimizer
    objective: ObjectiveName | Metric
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
        objective = self._objective()
        self.engine.check()
        rows = self.split.train_rows[-MAX_TRAIN_ROWS:]
        proposed = self.optimizer.compile(
            self.prompt, convert_to_dspy_examples(rows), objective=objective, engine=self.engine, seed=self.seed
        )
        self.engine.check()
        fresh = [one for one in proposed if not same_text(one.text, self.prompt)]
        return self._best(self._permitted(fresh)[:_MOST_CHOICES], objective) if fresh else None

    def prove(self, choice: Choice) -> GateVerdict:
        """Ask the conversations in *accept*: whoever calls this has first recorded that they are spent."""
        active, candidate = (
            self._answered(prompt, self.split.accept, choice.objective)
            for prompt in (self.prompt, choice.candidate.text)
        )
        pairs = _paired(active, candidate)
        if len(pairs) < self.fewest:
            raise ModelUnavailableError(
                f"Only {len(pairs)} of {len(active)} conversations could be scored and the proof needs {self.fewest}. "
                "Nothing was deployed. Look at the model's errors in the run's record."
            )
        return accept_candidate(pairs, margin=self.margin, seed=self.seed)

    def _objective(self) -> Objective:
        """What was asked for, tried on a logged answer and with each model asked one question."""
        own = self._without_models()
        if own is not None:
            trusted = TrustedObjective(own, self.engine)
            trusted.probe(self.split.train_rows[-1])
            self.engine.preflight()
            return trusted
        self.engine.preflight()
        rubric = induce_rubric(self.engine, self.prompt, self.split.train_rows[::-1])
        self.record("rubric", rubric.as_json())
        return TrustedObjective(Judge(self.engine, rubric), self.engine)

    def _without_models(self) -> Objective | None:
        if self.optimizer.objective is not None:
            return self.optimizer.objective
        if callable(self.objective):
            return PythonMetric(self.objective)
        return Imitation() if self.objective == "imitation" else None

    def _permitted(self, candidates: Sequence[PromptCandidate]) -> list[PromptCandidate]:
        """Those that break no rule, in the optimizer's order; refuses when there is none."""
        texts = [text for row in self.split.train_rows for text in _texts(row)]
        refusals: list[JsonObject] = []
        permitted = []
        for number, one in enumerate(candidates):
            broken = check_prompt(one.text, active=self.prompt, training_texts=texts, rolled_back=self.rolled_back)
            refusals += [{"candidate": number, "rule": it.rule, "reason": it.reason} for it in broken]
            earlier = barred_by(one.text, self.barred, similar=self.similar, active=self.prompt)
            if earlier is not None:
                refusals.append({"candidate": number, "rule": "tried", "reason": _tried(earlier)})
            elif not broken:
                permitted.append(one)
        self.record("prompt_refusals", refusals)
        if not permitted:
            raise TrainingRefusedError(
                f"Every prompt that {self.optimizer.name} proposed breaks a rule. The best one: "
                f"{refusals[0]['reason']} Nothing was deployed."
            )
        return permitted

    def _best(self, candidates: Sequence[PromptCandidate], objective: Objective) -> Choice:
        """The optimizer's first, unless a later one beats it on *select* by more than a standard error."""
        if len(candidates) == 1:
            return Choice(candidates[0], objective)
        answers = [self._answered(one.text, self.split.select, objective) for one in candidates]
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
        return Choice(candidates[best], objective, scores[best])

    def _answered(self, prompt: str, conversations: Sequence[Conversation], objective: Objective) -> list[_Mean | None]:
        """Fresh answers to each conversation's last question, one mean per conversation."""
        rows = convert_to_dspy_examples(conversation.rows[-1] for conversation in conversations)
        answers = answer_all(prompt, rows * SAMPLES, objective)
        self.engine.check()
        return [_mean(answers[place :: len(rows)]) for place in range(len(rows))]


@dataclass(frozen=True, slots=True)
class _Mean:
    score: float
    length: float


def _mean(samples: Sequence[Answer | None]) -> _Mean | None:
    have = [one for one in samples if one is not None]
    return _Mean(fmean(one.score for one in have), fmean(one.length for one in have)) if have else None


def _paired(ours: Sequence[_Mean | None], theirs: Sequence[_Mean | None]) -> list[Paired]:
    return [
        Paired(left.score, right.score, left.length, right.length)
        for left, right in zip(ours, theirs, strict=True)
        if left is not None and right is not None
    ]


def _score(answers: Sequence[_Mean | None]) -> float:
    return fmean([one.score for one in answers if one is not None] or [0.0])


def _tried(earlier: BarredText) -> str:
    how = HOW_ENDED[earlier.outcome]
    return f"The prompt is much like prompt {earlier.prompt_id}, which was tried before and {how}."


def _texts(row: Interaction) -> list[str]:
    return [row.user_input, row.agent_output, *row.comments, row.correction or ""]


def planned_calls(optimizer: Optimizer, split: Split, objective: ObjectiveName | Metric) -> int:
    """The most model calls that a search makes when all answers can be read.

    One question to each model, the tries to learn a rubric, answers, judgements, reflections. A call that fails and
    is tried again comes on top.
    """
    judged = optimizer.objective is None and objective == "judge"
    plan = optimizer.plan(min(len(split.train_rows), MAX_TRAIN_ROWS))
    proof = 2 * SAMPLES * len(split.accept)
    evaluations = plan.evaluations + _MOST_CHOICES * SAMPLES * len(split.select) + proof
    rubric = RUBRIC_CALLS if judged else 0
    return len(ROLES) + rubric + evaluations * (2 if judged else 1) + plan.reflections
