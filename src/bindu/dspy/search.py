"""From examples to one proven prompt: learn a rubric, propose, choose on *select*, check, prove on *accept*."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from bindu.dspy.dataset import convert_to_dspy_examples
from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import ModelUnavailableError, TrainingRefusedError
from bindu.dspy.gate import GateVerdict, Paired, accept_candidate
from bindu.dspy.models import Interaction, JsonObject, PromptCandidate
from bindu.dspy.objective import Imitation, Judge, Metric, Objective, ObjectiveName, PythonMetric, induce_rubric
from bindu.dspy.optimizer import Answer, Optimizer, answer_all
from bindu.dspy.promptcheck import check_prompt, same_text
from bindu.dspy.splits import Split

__all__ = ["Found", "Search", "planned_calls"]

Record = Callable[[str, object], None]

SAMPLES = 3  # fresh answers per conversation and prompt in the gate
MAX_TRAIN_ROWS = 128  # newest ones: more cost calls without choosing better
_MOST_CHOICES = 7  # prompts that are compared on *select*


@dataclass(frozen=True, slots=True)
class Found:
    """The one candidate of a run and the verdict on it; no candidate when nothing new was proposed."""

    candidate: PromptCandidate | None
    verdict: GateVerdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything one search needs; ``run`` blocks and belongs in a thread, under ``optimizer.running``."""

    prompt: str
    split: Split
    optimizer: Optimizer
    objective: ObjectiveName | Metric
    engine: CountingEngine
    seed: int
    rolled_back: Sequence[str]
    margin: float
    fewest: int  # conversations that the gate must be able to score
    record: Record  # what the run's record shall remember, step by step

    def run(self) -> Found:
        """Raises TrainingRefusedError, ModelUnavailableError and BudgetExceededError."""
        objective = self._objective()
        self.engine.check()
        rows = self.split.train_rows[-MAX_TRAIN_ROWS:]
        proposed = self.optimizer.compile(
            self.prompt, convert_to_dspy_examples(rows), objective=objective, engine=self.engine, seed=self.seed
        )
        self.engine.check()
        fresh = [one for one in proposed if not same_text(one.text, self.prompt)]
        if not fresh:
            return Found(None, None)
        chosen = self._permitted(self._ranked(fresh[:_MOST_CHOICES], objective))
        return Found(chosen, self._proof(chosen.text, objective))

    def _objective(self) -> Objective:
        if self.optimizer.objective is not None:
            return self.optimizer.objective
        if callable(self.objective):
            return PythonMetric(self.objective)
        if self.objective == "imitation":
            return Imitation()
        rubric = induce_rubric(self.engine, self.prompt, self.split.train_rows)
        self.record("rubric", rubric.as_json())
        return Judge(self.engine, rubric)

    def _ranked(self, candidates: Sequence[PromptCandidate], objective: Objective) -> list[PromptCandidate]:
        """Best on *select* first, ties to the optimizer's order."""
        rows = convert_to_dspy_examples(conversation.rows[-1] for conversation in self.split.select)
        scored = []
        for one in candidates:
            scores = [answer.score for answer in answer_all(one.text, rows, objective) if answer is not None]
            self.engine.check()
            metadata = {"train_score": one.score, "length": len(one.text)}
            scored.append(PromptCandidate(one.text, fmean(scores) if scores else one.score, metadata))
        scored.sort(key=lambda one: -one.score)
        self.record("candidates", [{"select_score": one.score, **one.metadata} for one in scored])
        return scored

    def _permitted(self, ranked: Sequence[PromptCandidate]) -> PromptCandidate:
        texts = [text for row in self.split.train_rows for text in _texts(row)]
        refusals: list[JsonObject] = []
        for number, one in enumerate(ranked):
            broken = check_prompt(one.text, active=self.prompt, training_texts=texts, rolled_back=self.rolled_back)
            if not broken:
                return one
            refusals += [{"candidate": number, "rule": it.rule, "reason": it.reason} for it in broken]
            self.record("prompt_refusals", refusals)
        raise TrainingRefusedError(
            f"Every prompt that {self.optimizer.name} proposed breaks a rule. The best one: {refusals[0]['reason']} "
            "Nothing was deployed."
        )

    def _proof(self, text: str, objective: Objective) -> GateVerdict:
        conversations = self.split.accept
        self.record("accept", [conversation.id for conversation in conversations])
        rows = convert_to_dspy_examples(conversation.rows[-1] for conversation in conversations)
        answers = [answer_all(prompt, rows * SAMPLES, objective) for prompt in (self.prompt, text)]
        self.engine.check()
        active, candidate = ([_mean(found[start :: len(rows)]) for start in range(len(rows))] for found in answers)
        pairs = [
            Paired(ours.score, theirs.score, ours.length, theirs.length)
            for ours, theirs in zip(active, candidate, strict=True)
            if ours is not None and theirs is not None
        ]
        if len(pairs) < self.fewest:
            raise ModelUnavailableError(
                f"Only {len(pairs)} of {len(rows)} conversations could be scored and the proof needs {self.fewest}. "
                "Nothing was deployed. Look at the model's errors in the run's record."
            )
        return accept_candidate(pairs, margin=self.margin, seed=self.seed)


@dataclass(frozen=True, slots=True)
class _Mean:
    score: float
    length: float


def _mean(samples: Sequence[Answer | None]) -> _Mean | None:
    have = [one for one in samples if one is not None]
    return _Mean(fmean(one.score for one in have), fmean(one.length for one in have)) if have else None


def _texts(row: Interaction) -> list[str]:
    return [row.user_input, row.agent_output, *row.comments, row.correction or ""]


def planned_calls(optimizer: Optimizer, split: Split, objective: ObjectiveName | Metric) -> int:
    """The most model calls that a search makes when none fails: answers, judgements, reflections."""
    judged = optimizer.objective is None and objective == "judge"
    plan = optimizer.plan(min(len(split.train_rows), MAX_TRAIN_ROWS))
    proof = 2 * SAMPLES * len(split.accept)
    evaluations = plan.evaluations + _MOST_CHOICES * len(split.select) + proof
    return evaluations * (2 if judged else 1) + plan.reflections + judged
